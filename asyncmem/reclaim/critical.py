"""What is called when pressure is critical: pages somebody, hands work over, or shuts down (`on_critical=`).

One sample at `CRITICAL` is nothing out of the way under load: admission reclaims, ends work, and comes back. So a hook
can ask that it lasts: seconds inside the guard band are counted, and those outside of it are counted off again. The
level alone would not do: it is left only some way below the band, where a healthy process under full load may stand.

Each hook is called once per episode, which begins when `CRITICAL` is entered and ends when it is left. Async ones are
awaited in the runtime's event loop. Others are called in a thread of their own, so that one that takes its time holds
up neither the watcher nor the actions of the level; while it still runs, the next episode does not call it again.

Does not cover what is done at a level again and again (`actions`), nor when pressure is critical (`asyncmem.pressure`).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import anyio.abc
import msgspec
import structlog

from asyncmem._wakeup import LoopWakeup
from asyncmem.errors import ConfigError
from asyncmem.events import PressureLevel
from asyncmem.sampling.forks import forget_after_fork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["CriticalHooks", "CriticalStatistics"]

_AGAIN_SECONDS: Final = 1.0
"""A thread that could not be started is tried again after so long."""
_LONGEST_STEP: Final = 1.0
"""Between two samples no more than this is counted: a process that was suspended was not short of memory."""

_log = structlog.get_logger("asyncmem")


class CriticalStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What `CriticalHooks` has seen and done."""

    episodes: int
    """How often `CRITICAL` was entered."""
    calls: int
    """Calls of hooks that were begun."""
    errors: int
    """Calls that raised, or that could not be begun."""
    timeouts: int
    """Calls that took longer than they may. An async one was cancelled; a sync one cannot be."""
    unserved: int
    """Calls of async hooks that were due where no event loop runs the runtime, and of sync ones still at the last."""
    last_error: str | None
    """Type and message of the last error."""


class _Hook:
    """A function and what it asks for."""

    __slots__ = ("after", "begun", "function", "has_been_called", "is_async", "is_awaited", "retry_at", "timeout")

    def __init__(self, function: Callable[[], object], *, after: float, timeout: float) -> None:
        self.function: Final = function
        self.after: Final = after
        self.timeout: Final = timeout
        self.is_async: Final = _is_async(function)
        self.has_been_called = False
        """In this episode."""
        self.is_awaited = False
        """Whether an async call of it is under way."""
        self.retry_at = -math.inf
        """When its thread may be tried again, where it could not be started."""
        self.begun: float | None = None
        """When a sync call that still runs, and is not yet known to be late, was begun."""


class CriticalHooks:
    """Calls functions when pressure stays critical."""

    def __init__(self) -> None:
        self._hooks: tuple[_Hook, ...] = ()
        self._running: dict[_Hook, threading.Thread] = {}
        self._level = PressureLevel.LOW
        self._inside = 0.0
        self._looked_at = 0.0
        self._due: deque[_Hook] = deque()
        self._wakeup: LoopWakeup | None = None
        self._episodes = self._calls = self._errors = self._timeouts = self._unserved = 0
        self._last_error: str | None = None
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Forget the loop and the threads, which are the parent's."""
        self._wakeup = None
        self._due.clear()
        self._running.clear()
        for hook in self._hooks:
            hook.is_awaited = False

    def add(self, function: Callable[[], object], *, after: float, timeout: float) -> None:
        """Have a function called.

        Args:
            function: Sync or async, without arguments.
            after: Seconds inside the guard band before it is called.
            timeout: Seconds that a call may take.

        Raises:
            ConfigError: It is no function, or the seconds are none.
        """
        if not callable(function):
            raise ConfigError(f"on_critical: got {function!r}; expected a function without arguments, sync or async")
        for name, seconds, least in (("after", after, 0.0), ("timeout", timeout, math.ulp(0.0))):
            if type(seconds) not in {int, float} or not least <= seconds < math.inf:
                raise ConfigError(
                    f"on_critical: {name}={seconds!r}; expected seconds{' above 0' if least else ' from 0'}"
                )
        self._hooks = (*self._hooks, _Hook(function, after=after, timeout=timeout))

    def look(self, level: PressureLevel, now: float, *, is_inside: bool) -> None:
        """Take in a sample; called by one thread.

        Args:
            level: The pressure level.
            now: Monotonic seconds.
            is_inside: Whether memory is inside the guard band at this very sample.
        """
        if self._running:
            self._look_for_the_late()
        if level is not PressureLevel.CRITICAL:
            self._level = level
            return
        if self._level is not level:
            self._level, self._inside, self._looked_at = level, 0.0, now
            self._episodes += 1
            for hook in self._hooks:
                hook.has_been_called = False
        step = min(now - self._looked_at, _LONGEST_STEP)
        self._inside = max(0.0, self._inside + (step if is_inside else -step))
        self._looked_at = now
        for hook in self._hooks:
            if not hook.has_been_called and is_inside and self._inside >= hook.after and now >= hook.retry_at:
                hook.has_been_called = True
                self._call(hook, now)

    async def serve(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Await async hooks in this event loop until cancelled, and calls under way with it."""
        try:
            async with anyio.create_task_group() as calls:
                self._wakeup = LoopWakeup()
                task_status.started()
                while True:
                    await self._wakeup.wait()
                    self._wakeup = LoopWakeup()  # before the hooks are taken: one that comes from here on rings again
                    while self._due:
                        calls.start_soon(self._await, self._due.popleft())
        finally:
            self._wakeup = None

    def statistics(self) -> CriticalStatistics:
        """What has been seen and done until now."""
        return CriticalStatistics(
            episodes=self._episodes,
            calls=self._calls,
            errors=self._errors,
            timeouts=self._timeouts,
            unserved=self._unserved,
            last_error=self._last_error,
        )

    def _call(self, hook: _Hook, now: float) -> None:
        if hook.is_async:
            if hook.is_awaited:
                self._skipped(hook, "its last call has not ended")
                return
            self._due.append(hook)
            wakeup = self._wakeup
            if wakeup is None or not wakeup.notify():
                self._due.clear()
                self._skipped(hook, "no event loop runs this runtime: enter it with 'async with', or give a plain one")
            return
        if (thread := self._running.get(hook)) is not None and thread.is_alive():
            self._skipped(hook, "its last call has not ended")
            return
        hook.begun = time.monotonic()
        thread = threading.Thread(target=self._run, args=(hook,), name="asyncmem-on-critical", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            hook.begun, hook.has_been_called, hook.retry_at = None, False, now + _AGAIN_SECONDS
            self._failed(hook, error)
        else:
            self._running[hook] = thread

    def _run(self, hook: _Hook) -> None:
        self._calls += 1
        try:
            hook.function()
        except BaseException as error:  # noqa: BLE001 - `sys.exit` too: from a thread it would end nothing but itself
            self._failed(hook, error)

    async def _await(self, hook: _Hook) -> None:
        self._calls += 1
        hook.is_awaited = True
        try:
            with anyio.move_on_after(hook.timeout) as scope:
                await cast("Awaitable[Any]", hook.function())
            if scope.cancelled_caught:
                self._late(hook)
        except Exception as error:  # noqa: BLE001 - whatever it is, the process goes on
            self._failed(hook, error)
        finally:
            hook.is_awaited = False

    def _look_for_the_late(self) -> None:
        now = time.monotonic()
        for hook, thread in list(self._running.items()):
            if not thread.is_alive():
                del self._running[hook]
            elif hook.begun is not None and now - hook.begun > hook.timeout:
                hook.begun = None
                self._late(hook)

    def _late(self, hook: _Hook) -> None:
        self._timeouts += 1
        _say("on_critical_timed_out", function=_name(hook.function), timeout=hook.timeout)

    def _failed(self, hook: _Hook, error: BaseException) -> None:
        self._errors += 1
        self._last_error = f"{type(error).__name__}: {error}"
        _say("on_critical_failed", function=_name(hook.function), error=self._last_error)

    def _skipped(self, hook: _Hook, reason: str) -> None:
        self._unserved += 1
        _say("on_critical_not_called", function=_name(hook.function), reason=reason)


def _say(event: str, **fields: object) -> None:
    """Log, where that can be done: some of this is the watcher's thread, which has better things to do than to fail."""
    with contextlib.suppress(Exception):
        _log.error(event, **fields)


def _is_async(function: Callable[[], object]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _name(function: Callable[[], object]) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__
