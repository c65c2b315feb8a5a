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

__all__ = ["LoopWakeup", "ThreadWakeup", "Wakeup", "loop_runs_here"]


class Wakeup(Protocol):
    """A signal that is given once."""

    def notify(self) -> bool:
        """Wake the waiter; may be called from any thread, and again without effect.

        Returns:
            False where its event loop is gone, so that it will never run.
        """
        ...


class LoopWakeup:
    """The signal of a waiter inside an event loop; made by the task that will wait."""

    __slots__ = ("_event", "_schedule", "_thread")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._thread = threading.get_ident()
        loop = current_token().native_token
        schedule: Callable[..., Any] = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon  # type: ignore[attr-defined]
        self._schedule = schedule

    def notify(self) -> bool:
        """Wake the waiter; from another thread through its loop."""
        try:
            if threading.get_ident() == self._thread:
                self._event.set()
            else:
                self._schedule(self._event.set)
        except RuntimeError:
            # asyncio: «Event loop is closed»; trio: RunFinishedError. The waiter went with its loop.
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
