"""What admission hands out: reserved bytes that come back exactly once.

`Permit.record` ends work that finished and teaches the cost model what it used; `Permit.drop` ends work that was
cancelled or failed early and teaches nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from asyncmem.admission.learning import TaskCosts
    from asyncmem.admission.waiter import Priority

__all__ = ["Canceller", "Permit", "PermitIssuer", "current_permit"]

current_permit: Final[ContextVar[Permit | None]] = ContextVar("asyncmem_permit", default=None)
"""The permit that the running task works under; log processors read it."""


class PermitIssuer(Protocol):
    """Where permits come from and go back to."""

    def end(self, permit: Permit, *, learn: bool) -> None:
        """Take back what a permit holds, once; `learn` from its peak or not."""
        ...


class Canceller(Protocol):
    """Knows how to end work that is safe to repeat, when memory must be freed at once."""

    def cancel(self, permit: Permit) -> None:
        """Ask the work under a permit to end; called from any thread, must not wait. The permit ends with the work."""
        ...


class Permit:
    """Reserved bytes. Made by `AdmissionController`; may be ended from any thread, and again without effect."""

    __slots__ = (
        "_issuer",
        "admitted_at",
        "canceller",
        "declared",
        "evicted",
        "guessed",
        "handle",
        "is_open",
        "is_stepping",
        "known",
        "measured",
        "priority",
        "reserved",
        "size",
        "stage",
        "taken",
        "task_class",
    )

    def __init__(  # noqa: PLR0917 - keywords would cost the request path a fifth of a microsecond
        self,
        issuer: PermitIssuer,
        task_class: str,
        known: TaskCosts,
        reserved: int,
        size: float,
        priority: Priority,
        admitted_at: float,
    ) -> None:
        self._issuer = issuer
        self.task_class = task_class
        """The name under which costs are learned."""
        self.known = known
        """What is known of its task class."""
        self.reserved = reserved
        """Bytes that are held back for this work."""
        self.size = size
        """Size of the work's input, in bytes or items; 0 where unknown."""
        self.priority = priority
        self.admitted_at = admitted_at
        """Monotonic seconds."""
        self.is_open = True
        """Whether it still holds its bytes; only its issuer sets it."""
        self.stage = -1
        """How old the work is, as the cost model counts it."""
        self.taken = -1
        """Bytes that the work holds, as measured in its own steps; -1 where they are not measured."""
        self.measured = -1
        """The most that it held."""
        self.is_stepping = False
        """Whether it is in the midst of a step that is being measured, so that `taken` is as of its begin."""
        self.declared = False
        """Whether its cost was said by whoever asked for it, and not learned."""
        self.guessed = False
        """Whether nothing was known of the task class when it was admitted."""
        self.canceller: Canceller | None = None
        """Who can end the work to free its memory; None where it is not safe to repeat."""
        self.handle: object = None
        """What the canceller knows the work by; both are gone when it has ended."""
        self.evicted = False
        """Whether it was chosen to end, to free its memory."""

    def record(self) -> None:
        """The work has finished: give the bytes back and learn from its peak."""
        self._issuer.end(self, learn=True)

    def drop(self) -> None:
        """The work was cancelled or failed early: give the bytes back, learn nothing."""
        self._issuer.end(self, learn=False)

    def __repr__(self) -> str:
        state = "open" if self.is_open else "ended"
        return f"<Permit {self.task_class!r} of {self.reserved} bytes, {state}>"
