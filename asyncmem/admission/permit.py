"""What admission hands out: reserved bytes that come back exactly once.

`Permit.record` ends work that finished and teaches the cost model what it used; `Permit.drop` ends work that was
cancelled or failed early and teaches nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncmem.admission.controller import AdmissionController
    from asyncmem.admission.queue import Priority

__all__ = ["Permit", "current_permit"]

current_permit: Final[ContextVar[Permit | None]] = ContextVar("asyncmem_permit", default=None)
"""The permit that the running task works under; log processors read it."""


class Permit:
    """Reserved bytes. Made by `AdmissionController`; may be ended from any thread, and again without effect."""

    __slots__ = ("_begun", "_controller", "_open", "admitted_at", "priority", "reserved", "task_class")

    def __init__(  # noqa: PLR0917 - keywords would cost the request path a fifth of a microsecond
        self,
        controller: AdmissionController,
        task_class: str,
        reserved: int,
        priority: Priority,
        admitted_at: float,
        begun: int,
    ) -> None:
        self._controller = controller
        self._begun = begun
        self._open = True
        self.task_class = task_class
        self.reserved = reserved
        """Bytes that are held back for this work."""
        self.priority = priority
        self.admitted_at = admitted_at
        """Monotonic seconds."""

    @property
    def is_open(self) -> bool:
        """Whether it still holds its bytes."""
        return self._open

    def record(self) -> None:
        """The work has finished: give the bytes back and learn from its peak."""
        self._controller._end(self, learn=True)  # noqa: SLF001 - permit and controller are one mechanism in two files

    def drop(self) -> None:
        """The work was cancelled or failed early: give the bytes back, learn nothing."""
        self._controller._end(self, learn=False)  # noqa: SLF001 - as above

    def __repr__(self) -> str:
        state = "open" if self._open else "ended"
        return f"<Permit {self.task_class!r} of {self.reserved} bytes, {state}>"
