"""Structured logs that say under which permit a line was written.

`add_permit` is a structlog processor: it looks the permit up when a line is written, so that requests that log nothing
pay nothing for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncmem.admission import current_permit

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

__all__ = ["add_permit"]


def add_permit(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add ``task_class`` and ``reserved_bytes`` of the running task's permit, where it holds one.

    Put it among the processors, before the renderer::

        structlog.configure(processors=[add_permit, structlog.processors.JSONRenderer()])
    """
    permit = current_permit.get()
    if permit is not None and permit.is_open:
        event.setdefault("task_class", permit.task_class)
        event.setdefault("reserved_bytes", permit.reserved)
    return event
