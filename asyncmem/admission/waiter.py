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
        sure: The bytes were declared, so that the work really needs them.
        estimate: Says anew how many bytes it needs, for costs may be learned while it waits.
    """

    __slots__ = ("_estimate", "admitted", "error", "nbytes", "priority", "sure", "wakeup")

    def __init__(
        self,
        nbytes: int,
        priority: Priority = Priority.NORMAL,
        *,
        sure: bool = True,
        estimate: Callable[[], int] | None = None,
    ) -> None:
        self.nbytes = nbytes
        self._estimate = estimate
        self.priority = priority
        self.sure = sure
        self.wakeup: Wakeup | None = None
        self.admitted = False
        self.error: BaseException | None = None

    def size(self) -> int:
        """Bytes that it asks for, as they are known now."""
        if self._estimate is not None:
            self.nbytes = self._estimate()
        return self.nbytes
