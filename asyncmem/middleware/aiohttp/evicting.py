"""Ends requests that are safe to repeat, to free their memory.

A request is ended by cancelling its task. Until its answer has begun it is answered with 503; afterwards its connection
is broken, so that the client sees a broken answer and not a short one. Cancelling stops no thread and no C call.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncmem.admission import Permit

__all__ = ["ConnectionBreaker", "TaskCanceller"]


class TaskCanceller:
    """Cancels the task that a permit's `handle` is, in its own event loop; one serves all requests."""

    __slots__ = ()

    def cancel(self, permit: Permit) -> None:
        """Cancel it soon; called from the sampling thread."""
        task: asyncio.Task[Any] | None = permit.handle  # type: ignore[assignment]
        if task is None:  # it has ended meanwhile
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the work with it
            task.get_loop().call_soon_threadsafe(self._cancel_here, permit, task)

    def _cancel_here(self, permit: Permit, task: asyncio.Task[Any]) -> None:
        if not permit.is_open:
            return
        if permit.canceller is self:
            task.cancel("cancelled to free memory")
        elif permit.canceller is not None:  # its handler has returned meanwhile
            permit.canceller.cancel(permit)


class ConnectionBreaker:
    """Breaks one connection: an answer that is being sent lives in its buffer.

    To cancel the task then would only close the connection, and that waits until everything is sent.

    Args:
        loop: The connection's event loop.
        transport: The connection; None where it is gone already.
    """

    __slots__ = ("_loop", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport | None) -> None:
        self._loop = loop
        self._transport = transport

    def cancel(self, permit: Permit) -> None:  # noqa: ARG002 - cancellers have it
        """Break it soon; called from the sampling thread."""
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._transport.abort)
