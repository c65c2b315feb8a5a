"""What admission hands out: reserved bytes that come back exactly once.

`Permit.record` ends work that finished and teaches the cost model what it used; `Permit.drop` ends work that was
cancelled or failed early and teaches nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from asyncmem.admission.waiter import Priority

__all__ = ["Permit", "PermitIssuer", "current_permit"]

current_permit: Final[ContextVar[Permit | None]] = ContextVar("asyncmem_permit", default=None)
"""The permit that the running task works under; log processors read it."""


class PermitIssuer(Protocol):
    """Where permits come from and go back to."""

    def end(self, permit: Permit, *, learn: bool) -> None:
        """Take back what a permit holds, once; `learn` from its peak or not."""
        ...


class Permit:
    """Reserved bytes. Made by `AdmissionController`; may be ended from any thread, and again without effect."""

    __slots__ = ("_issuer", "admitted_at", "begun", "is_open", "priority", "reserved", "task_class")

    def __init__(  # noqa: PLR0917 - keywords would cost the request path a fifth of a microsecond
        self,
        issuer: PermitIssuer,
        task_class: str,
        reserved: int,
        priority: Priority,
        admitted_at: float,
        begun: int,
    ) -> None:
        self._issuer = issuer
        self.is_open = True
        """Whether it still holds its bytes; only its issuer sets it."""
        self.task_class = task_class
        self.reserved = reserved
        """Bytes that are held back for this work."""
        self.priority = priority
        self.admitted_at = admitted_at
        """Monotonic seconds."""
        self.begun = begun
        """The issuer's mark, from which on the work's peak counts."""

    def record(self) -> None:
        """The work has finished: give the bytes back and learn from its peak."""
        self._issuer.end(self, learn=True)

    def drop(self) -> None:
        """The work was cancelled or failed early: give the bytes back, learn nothing."""
        self._issuer.end(self, learn=False)

    def __repr__(self) -> str:
        state = "open" if self.is_open else "ended"
        return f"<Permit {self.task_class!r} of {self.reserved} bytes, {state}>"
