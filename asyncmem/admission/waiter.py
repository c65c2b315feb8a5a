"""One that waits for memory: how much it asks for, how urgent it is, and what became of it."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from asyncmem.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem._wakeup import Wakeup

__all__ = ["Priority", "Waiter", "checked_priority"]


class Priority(IntEnum):
    """How urgent work is; the higher is served first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


def checked_priority(priority: object) -> Priority:
    """A priority from what a caller gave: a `Priority` or its number.

    Raises:
        ConfigError: There is no such priority.
    """
    try:
        return Priority(priority)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(f"Priority.{p.name}" for p in Priority)
        raise ConfigError(f"priority: got {priority!r}; expected one of {known}") from None


class Waiter:
    """One that waits at the gate, and what became of it.

    Args:
        nbytes: Bytes that it asks for.
        priority: The higher is served first.
        declared: The bytes were declared and not guessed, so that the work really needs them.
        price: Says anew how many bytes it is charged: costs are learned, and the room changes, while it waits.
    """

    __slots__ = ("_price", "admitted", "declared", "error", "nbytes", "priority", "queued", "wakeup")

    def __init__(
        self,
        nbytes: int,
        priority: Priority = Priority.NORMAL,
        *,
        declared: bool = True,
        price: Callable[[], int] | None = None,
    ) -> None:
        self.nbytes = nbytes
        self._price = price
        self.priority = priority
        self.declared = declared
        self.wakeup: Wakeup | None = None
        self.queued = False
        self.admitted = False
        self.error: BaseException | None = None

    def size(self) -> int:
        """Bytes that it is charged, as they are known now; as they were where nobody can say."""
        if self._price is not None:
            try:
                self.nbytes = self._price()
            except Exception:  # noqa: BLE001 - a cost model of the user's; one that fails may not stop the queue
                self._price = None
        return self.nbytes
