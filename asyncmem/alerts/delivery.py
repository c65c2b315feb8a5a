"""Handlers, each isolated from the others and all of them from whoever raises an alert.

A queued handler has a bounded mailbox and a task of its own, so one that is slow, hangs or raises costs only its own
alerts. Async handlers are awaited on the loop; others are called in a worker thread, because nothing says that they do
not block. An immediate handler has neither mailbox nor task: it is called where the alert is raised, loop or no loop,
and so is for quick functions only, such as one that logs.

What alerts there are is the business of `asyncmem.alerts.manager`; this module only carries them.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import threading
import traceback
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import partial
from typing import Final

import anyio
import anyio.to_thread
import structlog

from asyncmem._wakeup import LoopWakeup
from asyncmem.alerts.mailbox import Mailbox
from asyncmem.alerts.rules import levels_of
from asyncmem.alerts.tally import Tally
from asyncmem.alerts.threadcall import ThreadCall
from asyncmem.errors import ConfigError
from asyncmem.events import AlertLevel, AlertType, MemoryAlert

__all__ = ["AlertHandler", "Handler"]

AlertHandler = Callable[[MemoryAlert], object]
"""What users register: a sync function, or one that returns an awaitable; what it results in is not looked at.

One that bounds its own time, as a sink that retries does, says so in an attribute ``handler_timeout`` (seconds), which
then stands for the default timeout."""

_TIMEOUT: Final = 5.0
"""Seconds that a call may take where neither the registration nor the handler says."""

_log = structlog.stdlib.get_logger("asyncmem.alerts")


class _Outcome(StrEnum):
    """How a call ended; the values are the words of the log."""

    DELIVERED = "delivered"
    FAILED = "failed"
    LATE = "timed out"
    CANCELLED = "cancelled"


class Handler:
    """One registered handler.

    Args:
        function: What is called.
        levels: The levels that it wants; None for all.
        immediate: Whether it is called where the alert is raised; such a one has no timeout and no queue.
        timeout: Seconds that one call may take; None for what the function says of itself, else 5.
        max_queue: Alerts that may wait for it.
        lock: The manager's, as is `tally`.
        told: Called after each call with the handler's `condition`, and with what was wrong with it, or None.

    Raises:
        ConfigError: Not callable, no levels, an immediate coroutine function, or a timeout or queue that is none.
    """

    def __init__(
        self,
        function: AlertHandler,
        levels: Iterable[AlertLevel | str] | None,
        *,
        immediate: bool,
        timeout: float | None,
        max_queue: int,
        lock: threading.Lock,
        tally: Tally,
        told: Callable[[str, str | None], object],
    ) -> None:
        self._told = told
        self.function = function
        self.condition = f"handler {getattr(function, '__qualname__', None) or repr(function)}"
        """The name under which its trouble is an alert, which the others are told."""
        self.levels = levels_of(levels)
        self._timeout = _timeout_of(function) if timeout is None else timeout
        self._lock = lock
        self._tally = tally
        self._finished = 0
        self._overdue: LoopWakeup | None = None
        self._reported: set[_Outcome] = set()
        self._async = _returns_awaitable(function)
        if immediate and self._async:
            raise ConfigError(f"{self.condition} is a coroutine function and cannot be immediate; use immediate=False")
        if not self._timeout > 0:
            raise ConfigError(f"timeout={self._timeout!r} leaves a handler no time; expected seconds above 0")
        self.mailbox = None if immediate else Mailbox(max_queue, lock=lock, tally=tally)

    @property
    def idle(self) -> bool:
        """Whether no alert waits for it and no call is under way; the caller holds the lock."""
        box = self.mailbox
        return box is None or (len(box) == 0 and box.taken == self._finished)

    def put(self, alert: MemoryAlert) -> list[Callable[[], object]]:
        """Take an alert; the caller holds the lock, and calls what is returned once it is given back."""
        return [partial(self._call_now, alert)] if self.mailbox is None else self.mailbox.put(alert)

    def close(self) -> None:
        """Take no more alerts, drop those that wait, and let the task end after the call under way."""
        if self.mailbox is not None:
            self.mailbox.close(discard=True)
        overdue = self._overdue
        if overdue is not None:
            overdue.notify()

    async def serve(self, when_done: Callable[[], None]) -> None:
        """Call the function for one alert after the other, until the handler is closed.

        Args:
            when_done: Called after each call, however it ended.
        """
        # One of its own: a handler that blocks must take no thread from the application's limiter.
        limiter = anyio.CapacityLimiter(1)
        box = self.mailbox
        while box is not None and (alert := await box.receive()) is not None:
            outcome, error = _Outcome.CANCELLED, None
            try:
                outcome, error = await self._call(alert, limiter)
            finally:
                self._count(outcome)
                self._tell(alert, outcome, error)
                when_done()
            # A thread that is late cannot be stopped, and a call beside it would take one more thread each time. The
            # mailbox is looked at after `_overdue` was set, and `close` does it the other way round: nothing is missed.
            if self._overdue is not None and not box.closed:
                await self._overdue.wait()
            self._overdue = None

    async def _call(self, alert: MemoryAlert, limiter: anyio.CapacityLimiter) -> tuple[_Outcome, BaseException | None]:
        in_thread: ThreadCall | None = None
        try:
            with anyio.move_on_after(self._timeout) as scope:
                if self._async:
                    result = self.function(alert)
                else:
                    in_thread = ThreadCall(self.function, alert)
                    await anyio.to_thread.run_sync(in_thread, abandon_on_cancel=True, limiter=limiter)
                    result, in_thread = in_thread.result, None
                # A lambda around a coroutine function looks sync and still has to be awaited.
                if inspect.isawaitable(result):
                    await result
        except Exception as error:  # noqa: BLE001 - isolation: a handler may raise whatever it likes
            self._report(_Outcome.FAILED, error)
            return _Outcome.FAILED, error
        except anyio.get_cancelled_exc_class() as error:
            if anyio.current_effective_deadline() == -math.inf:
                raise
            # Nobody cancels this task: the handler awaited something that was cancelled. Its fault, not the end.
            self._report(_Outcome.FAILED, error)
            return _Outcome.FAILED, error
        if not scope.cancelled_caught:
            return _Outcome.DELIVERED, None
        self._report(_Outcome.LATE, None)
        if in_thread is not None and not in_thread.give_up():
            self._overdue = in_thread.ended
        return _Outcome.LATE, None

    def _call_now(self, alert: MemoryAlert) -> None:
        try:
            _refuse_coroutine(self.function(alert))
        except Exception as error:  # noqa: BLE001 - never raised into whoever raises alerts
            self._count(_Outcome.FAILED)
            self._report(_Outcome.FAILED, error)
            self._tell(alert, _Outcome.FAILED, error)
        else:
            self._count(_Outcome.DELIVERED)
            self._tell(alert, _Outcome.DELIVERED, None)

    def _count(self, outcome: _Outcome) -> None:
        with self._lock:
            self._finished += 1
            match outcome:
                case _Outcome.DELIVERED:
                    self._tally.delivered += 1
                case _Outcome.FAILED:
                    self._tally.errors += 1
                case _Outcome.LATE:
                    self._tally.timeouts += 1
                case _Outcome.CANCELLED:
                    self._tally.dropped += 1

    def _tell(self, alert: MemoryAlert, outcome: _Outcome, error: BaseException | None) -> None:
        """Have the others told. What it did with an alert about a handler counts not: that would go round for ever."""
        if outcome is _Outcome.CANCELLED or alert.alert_type is AlertType.HANDLER_FAILED:
            return
        if outcome is _Outcome.DELIVERED:
            self._told(self.condition, None)
        else:
            # The error's type and not its text: that may hold what is nobody's business.
            why = f"took longer than {self._timeout:g} s" if error is None else f"raised {type(error).__name__}"
            self._told(self.condition, why)

    def _report(self, outcome: _Outcome, error: BaseException | None) -> None:
        """Log the first trouble of a kind; the counters tell of the rest."""
        with self._lock:
            if outcome in self._reported:
                return
            self._reported.add(outcome)
        # A log that cannot be written must not stop the alerts.
        with contextlib.suppress(Exception):
            _log.warning(
                "alert_handler_trouble",
                handler=self.condition.removeprefix("handler "),
                outcome=outcome.value,
                timeout=self._timeout,
                error=None if error is None else repr(error),
                # Text and not exc_info: a pretty renderer would show all locals, snapshots included, on the loop.
                traceback=None if error is None else "".join(traceback.format_exception(error, limit=-5)),
            )


def _returns_awaitable(function: AlertHandler) -> bool:
    if not callable(function):
        raise ConfigError(f"{function!r} is no alert handler; expected a function of one MemoryAlert")
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _timeout_of(function: AlertHandler) -> float:
    own: object = getattr(function, "handler_timeout", None)
    # Some objects have any attribute that they are asked for, mocks above all.
    return own if isinstance(own, int | float) else _TIMEOUT


def _refuse_coroutine(result: object) -> None:
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("an immediate handler returned a coroutine, which nobody can await; use immediate=False")
