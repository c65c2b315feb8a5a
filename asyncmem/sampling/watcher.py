"""The one background thread: it calls a function often while work is in flight, and seldom while none is.

A thread and no task, because the event loop may be blocked just when memory grows. Covers the period, waking, errors,
and forks. Does not cover what is done in a tick (`asyncmem.monitor` samples and judges there), and cannot help where a
C call holds the interpreter's lock: then the thread waits like any other, and `WatcherStatistics.longest_gap` says how
long it was blind.
"""

from __future__ import annotations

import inspect
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from asyncmem.sampling.forks import forget_after_fork

__all__ = ["Watcher", "WatcherStatistics"]


@dataclass(frozen=True, slots=True)
class WatcherStatistics:
    """What the watcher has done since it was made."""

    ticks: int
    """Calls of the function, those that raised included."""
    errors: int
    """Calls that raised."""
    last_error: str | None
    """Type and message of the last error; None while there was none."""
    longest_gap: float
    """Longest time in seconds between two calls while work was in flight: how long growth can go unseen."""
    running: bool
    """Whether the thread runs in this process."""


class Watcher:
    """Calls `tick` in a daemon thread.

    `tick` returns whether work is in flight. If so it is called again after `busy_interval`, else after
    `idle_interval` or, when `wake` is called before, `busy_interval` after that. What it raises is counted and ends
    nothing; the period stays what it was.

    A bound method is held weakly: when its object is gone, the thread ends at its next call. Anything else is held
    until `stop`.

    In a forked child the thread does not exist; it starts anew at the next `wake` or `start` there.

    Args:
        tick: Called without arguments, in the thread.
        idle_interval: Seconds between two calls while nothing is in flight.
        busy_interval: Seconds between two calls while work is in flight. At 10 ms a pure-Python process keeps up; at
            5 ms the interpreter's own switching doubled the period.
        name: The thread's name.
    """

    def __init__(
        self,
        tick: Callable[[], bool],
        *,
        idle_interval: float,
        busy_interval: float = 0.010,
        name: str = "asyncmem-watcher",
    ) -> None:
        self._name: Final = name
        self._shared: Final = _Shared(tick, idle_interval, busy_interval)
        self._run = _Run(self._shared)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._forked = False
        forget_after_fork(self)

    def start(self) -> None:
        """Start the thread; nothing happens where it runs already."""
        with self._lock:
            self._forked = False
            if self._thread is None or not self._thread.is_alive():
                # The thread knows its run and not the watcher, so that it keeps no owner alive.
                self._run = _Run(self._shared)
                self._thread = threading.Thread(target=self._run.loop, name=self._name, daemon=True)
                self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """End the thread and wait for it, unless it is the thread itself that asks.

        Args:
            timeout: Longest wait in seconds. A tick that takes longer ends its thread when it is done.
        """
        with self._lock:
            self._forked = False
            thread, self._thread = self._thread, None
            self._run.stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def wake(self) -> None:
        """Go on to the busy period at once; nothing but an attribute check where it is busy already.

        Does not start a thread that was never started or was stopped.
        """
        if self._run.busy:
            return
        if self._forked:
            self.start()
        self._run.wake()

    def statistics(self) -> WatcherStatistics:
        """What has been done until now."""
        shared, thread = self._shared, self._thread
        return WatcherStatistics(
            ticks=shared.ticks,
            errors=shared.errors,
            last_error=shared.last_error,
            longest_gap=shared.longest_gap,
            running=thread is not None and thread.is_alive(),
        )

    def after_fork(self) -> None:
        """Forget the thread, which is in the parent, and the locks, which another thread may have held."""
        self._forked = self._forked or self._thread is not None
        self._thread = None
        self._lock = threading.Lock()
        self._run = _Run(self._shared)


class _Shared:
    """What outlives a single thread: the function, the periods, the counts. Only the running thread counts."""

    def __init__(self, tick: Callable[[], bool], idle_interval: float, busy_interval: float) -> None:
        self.tick: Final[Callable[[], Callable[[], bool] | None]] = (
            weakref.WeakMethod(tick) if inspect.ismethod(tick) else lambda: tick
        )
        self.idle_interval: Final = idle_interval
        self.busy_interval: Final = busy_interval
        self.ticks = 0
        self.errors = 0
        self.last_error: str | None = None
        self.longest_gap = 0.0


class _Run:
    """One thread's life."""

    def __init__(self, shared: _Shared) -> None:
        self.busy = False
        """The next call comes after the busy period; `wake` has nothing to add."""
        self._shared: Final = shared
        self._stopping: Final = threading.Event()
        self._woken: Final = threading.Event()
        self._woken_at = 0.0

    def wake(self) -> None:
        """End the idle wait."""
        self._woken_at = time.monotonic()
        self.busy = True
        self._woken.set()

    def stop(self) -> None:
        """End either wait, and then the loop."""
        self._stopping.set()
        self._woken.set()

    def loop(self) -> None:
        """Call and wait, until stopped or until the owner is gone."""
        shared = self._shared
        in_flight = False
        unseen_since: float | None = None
        while True:
            # A wake from here on is one that the call below may not see: so both marks are taken back before it. And
            # `stop` sets its own mark first, so that one which comes between these lines is not lost.
            self._woken.clear()
            if self._stopping.is_set():
                return
            self.busy = False
            begin = time.monotonic()
            if unseen_since is not None:
                shared.longest_gap = max(shared.longest_gap, begin - unseen_since)
            tick = shared.tick()
            if tick is None:
                return
            shared.ticks += 1
            try:
                in_flight = bool(tick())
            except Exception as error:  # noqa: BLE001 - whatever the owner does wrong, somebody has to go on watching
                shared.errors += 1
                shared.last_error = _describe(error)
            del tick  # or the wait would keep the owner alive
            if in_flight:
                self.busy = True
                unseen_since = begin
            elif self.busy or self._woken.wait(shared.idle_interval):
                unseen_since = self._woken_at
            else:
                unseen_since = None
                continue
            self._stopping.wait(shared.busy_interval)


def _describe(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - an error that cannot even be written is still counted
        return type(error).__name__
