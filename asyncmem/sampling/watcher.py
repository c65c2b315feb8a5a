"""The one background thread: it calls a function as often as the function asks for, and at once when the kernel calls.

A thread and no task, because the event loop may be blocked just when memory grows. Covers waiting, waking, errors,
forks, and how late the calls come. Does not cover what is done in a tick (the runtime samples and judges there), how
often is often enough (`period`), nor what the kernel has to say (`kernel`). It cannot help where a C call holds the
interpreter's lock: then the thread waits like any other, and `WatcherStatistics` says how long it was blind.
"""

from __future__ import annotations

import inspect
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from asyncmem.sampling._bell import Bell, Listener, hang_bell
from asyncmem.sampling.forks import forget_after_fork

__all__ = ["Watcher", "WatcherStatistics"]

_LEAST: Final = 0.002
"""Least time in seconds between two calls: kernel events can come in thousands a second."""
_WEIGHT: Final = 1 / 16
"""Weight of the newest in the mean lateness."""
_RECENT: Final = 60.0
"""The worst lateness is that of the last one to two times so many seconds: a start-up that held everything up is then
no reason to be cautious for ever."""


@dataclass(frozen=True, slots=True)
class WatcherStatistics:
    """What the watcher has done since it was made. All times are in seconds."""

    ticks: int
    """Calls of the function, those that raised included."""
    errors: int
    """Calls that raised, or said so, of the function or of what listens to the kernel."""
    last_error: str | None
    """Type and message of the last error; None while there was none."""
    longest_gap: float
    """Longest time between two calls while work was in flight: how long growth can go unseen."""
    running: bool
    """Whether the thread runs in this process."""
    period: float
    """What the function asked for last; the idle interval where it asked for nothing."""
    lateness: float
    """How much later than asked for the calls come: an exponential mean over the last dozens."""
    worst_lateness: float
    """The same, the worst of the last one to two minutes."""
    prompted: int
    """Waits that a kernel event or `Watcher.prompt` has ended."""

    @property
    def reaction_time(self) -> float:
        """How long growth may have gone unseen when it is seen, at worst, as things are: period and lateness."""
        return self.period + self.worst_lateness


class Watcher:
    """Calls `tick` in a daemon thread.

    `tick` returns in how many seconds it wants to be called again, or None where nothing is in flight: then it is
    called after `idle_interval` or, when `wake` is called before, `busy_interval` after that. What it raises is counted
    and ends nothing; the period stays what it was. A kernel event and `prompt` end every wait.

    A bound method is held weakly: when its object is gone, the thread ends at its next call. Anything else is held
    until `stop`.

    In a forked child the thread does not exist; it starts anew at the next `wake` or `start` there.

    Args:
        tick: Called without arguments, in the thread. Its answer is kept between 2 ms and `idle_interval`.
        idle_interval: Seconds between two calls while nothing is in flight.
        busy_interval: Seconds from a `wake` to the call. At 10 ms a pure-Python process keeps up; at 5 ms the
            interpreter's own switching doubled the period.
        events: What listens to the kernel (`KernelEvents`); None for nothing. Not heard where there is no ``eventfd``.
        name: The thread's name.
    """

    def __init__(
        self,
        tick: Callable[[], float | None],
        *,
        idle_interval: float,
        busy_interval: float = 0.010,
        events: Listener | None = None,
        name: str = "asyncmem-watcher",
    ) -> None:
        self._name: Final = name
        self._shared: Final = _Shared(tick, idle_interval, busy_interval, events)
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

    def prompt(self) -> None:
        """Call at once, or 2 ms after the last call; may be called from any thread, and never blocks."""
        self._run.prompt()

    def count(self, error: Exception) -> None:
        """Count an error of the function that did not keep it from answering; to be called by the function itself."""
        self._shared.count(error)

    def statistics(self) -> WatcherStatistics:
        """What has been done until now."""
        shared, thread = self._shared, self._thread
        return WatcherStatistics(
            ticks=shared.ticks,
            errors=shared.errors,
            last_error=shared.last_error,
            longest_gap=shared.longest_gap,
            running=thread is not None and thread.is_alive(),
            period=shared.idle_interval if shared.period is None else shared.period,
            lateness=shared.lateness.mean,
            worst_lateness=shared.lateness.worst,
            prompted=shared.prompted,
        )

    def after_fork(self) -> None:
        """Forget the thread, which is in the parent, and the locks, which another thread may have held."""
        self._forked = self._forked or self._thread is not None
        self._thread = None
        self._lock = threading.Lock()
        self._run.forget()
        self._run = _Run(self._shared)


class _Lateness:
    """How late calls come."""

    __slots__ = ("_before", "_current", "_since", "mean")

    def __init__(self) -> None:
        self.mean = 0.0
        self._current = self._before = 0.0
        self._since = 0.0

    @property
    def worst(self) -> float:
        return max(self._current, self._before)

    def add(self, seconds: float, now: float) -> None:
        self.mean += _WEIGHT * (seconds - self.mean)
        if now - self._since > _RECENT:
            self._before = self._current if now - self._since < 2 * _RECENT else 0.0
            self._current, self._since = 0.0, now
        self._current = max(self._current, seconds)


class _Shared:
    """What outlives a single thread: the function, the periods, the counts. Only the running thread counts."""

    def __init__(
        self, tick: Callable[[], float | None], idle_interval: float, busy_interval: float, events: Listener | None
    ) -> None:
        self.tick: Final[Callable[[], Callable[[], float | None] | None]] = (
            weakref.WeakMethod(tick) if inspect.ismethod(tick) else lambda: tick
        )
        self.idle_interval: Final = idle_interval
        self.busy_interval: Final = busy_interval
        self.events: Final = events
        self.period: float | None = None
        self.ticks = 0
        self.errors = 0
        self.last_error: str | None = None
        self.longest_gap = 0.0
        self.lateness: Final = _Lateness()
        self.prompted = 0

    def count(self, error: Exception) -> None:
        self.errors += 1
        self.last_error = _describe(error)


class _Run:
    """One thread's life. Others set a mark and then ring; the thread uses the ring up and then reads the marks."""

    def __init__(self, shared: _Shared) -> None:
        self.busy = False
        """The next call comes after the busy period; `wake` has nothing to add."""
        self._shared: Final = shared
        self._bell: Bell | None = None
        self._stopping = self._prompted = False
        self._woken_at: float | None = None

    def wake(self) -> None:
        """End the idle wait."""
        self._woken_at = time.monotonic()
        self.busy = True
        self._ring()

    def prompt(self) -> None:
        """End either wait."""
        self._prompted = True
        self._ring()

    def stop(self) -> None:
        """End either wait, and then the loop."""
        self._stopping = True
        self._ring()

    def forget(self) -> None:
        """In a forked child: let the parent's bell go without ringing it."""
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()

    def loop(self) -> None:
        """Call and wait, until stopped or until the owner is gone."""
        shared = self._shared
        self._bell = hang_bell()
        unseen_since: float | None = None
        while not self._stopping:
            # A wake or prompt from here on is one that the call below may not see: so the marks are taken back first.
            self._woken_at, self._prompted, self.busy = None, False, False
            begin = time.monotonic()
            if unseen_since is not None:
                shared.longest_gap = max(shared.longest_gap, begin - unseen_since)
            tick = shared.tick()
            if tick is None:
                break
            shared.ticks += 1
            try:
                answer = tick()
                shared.period = None if answer is None else min(max(_LEAST, answer), shared.idle_interval)
            except Exception as error:  # noqa: BLE001 - whatever the owner does wrong, somebody has to go on watching
                shared.count(error)
            del tick  # or the wait would keep the owner alive
            self.busy = self.busy or shared.period is not None
            self._wait(self._bell, begin)
            unseen_since = self._woken_at if shared.period is None else begin
        self._bell = None

    def _wait(self, bell: Bell, begin: float) -> None:
        """Wait as long as was asked for, until work begins if nothing was, or until something ends the wait."""
        shared = self._shared
        now = time.monotonic()
        due = now + (shared.idle_interval if shared.period is None else shared.period)
        while not self._stopping:
            if self._prompted:
                due = min(due, begin + _LEAST)
            elif shared.period is None and self.busy:
                due = min(due, (self._woken_at or now) + shared.busy_interval)
            if now >= due:
                break
            try:
                news = bell.wait(due - now, None if self._prompted else shared.events)
            except Exception as error:  # noqa: BLE001 - a listener that fails must not end the thread, nor keep it awake
                shared.count(error)
                news = False
                bell.wait(min(_LEAST, due - now), None)
            now = time.monotonic()
            if news:
                self._prompted = True
        if self._prompted:
            shared.prompted += 1
        elif not self._stopping:
            shared.lateness.add(now - due, now)

    def _ring(self) -> None:
        bell = self._bell
        if bell is not None:
            bell.ring()


def _describe(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - an error that cannot even be written is still counted
        return type(error).__name__
