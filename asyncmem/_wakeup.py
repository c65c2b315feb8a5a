"""Wake one waiter from anywhere: another task, another thread, another event loop.

anyio's `Event` belongs to one loop and may be set only there. A permit can be given back by a worker thread and an
alert can be raised by the sampling thread, so both need a signal that crosses threads, on asyncio and on trio. A
waiter that blocks its thread has the same shape, so that a queue need not know who waits in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import anyio
from anyio.lowlevel import current_token

__all__ = ["LoopCaller", "LoopWakeup", "ThreadWakeup", "Wakeup", "loop_runs_here"]


class Wakeup(Protocol):
    """A signal that is given once."""

    def notify(self) -> bool:
        """Wake the waiter; may be called from any thread, and again without effect.

        Returns:
            False where its event loop is gone, so that it will never run.
        """
        ...


class LoopCaller:
    """Calls functions in the event loop that made it, from any thread."""

    __slots__ = ("_schedule", "_thread")

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        loop = current_token().native_token
        schedule: Callable[..., Any] = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon  # type: ignore[attr-defined]
        self._schedule = schedule

    @property
    def is_here(self) -> bool:
        """Whether the caller is on the loop's own thread."""
        return threading.get_ident() == self._thread

    def call(self, function: Callable[[], object]) -> bool:
        """Have a function called soon; returns False where the loop is gone."""
        try:
            self._schedule(function)
        except RuntimeError:
            # asyncio: «Event loop is closed»; trio: RunFinishedError.
            return False
        return True


class LoopWakeup:
    """The signal of a waiter inside an event loop; made by the task that will wait."""

    __slots__ = ("_event", "_loop")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._loop = LoopCaller()

    def notify(self) -> bool:
        """Wake the waiter; from another thread through its loop, with which the waiter may have gone."""
        if not self._loop.is_here:
            return self._loop.call(self._event.set)
        try:
            self._event.set()
        except RuntimeError:
            return False
        return True

    async def wait(self) -> None:
        """Wait until it is given."""
        await self._event.wait()


class ThreadWakeup:
    """The signal of a waiter that blocks its own thread."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def notify(self) -> bool:
        """Wake the waiter."""
        self._event.set()
        return True

    def wait(self, timeout: float | None) -> bool:
        """Block until it is given, or for `timeout` seconds; returns whether it was given."""
        return self._event.wait(timeout)


def loop_runs_here() -> bool:
    """Whether an event loop runs in this thread, so that blocking the thread would stop it."""
    try:
        current_token()
    except RuntimeError:
        # anyio's NoEventLoopError; or, in a worker thread that inherited a loop's context, the backend's own.
        return False
    return True
