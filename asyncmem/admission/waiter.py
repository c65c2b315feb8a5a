"""One that waits for memory: how much it asks for, how urgent it is, and what became of it.

Not here: the order in which waiters are served (`queue`), and how they are woken (`gate`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from asyncmem.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from asyncmem._wakeup import Wakeup

__all__ = ["Home", "Priority", "Waiter", "checked_priority"]


class Priority(IntEnum):
    """How urgent work is; the higher is served first, and `LOW` is refused while memory pressure is high."""

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


class Home(Protocol):
    """The part of a queue in which a waiter stands."""

    def take(self, waiter: Waiter) -> None:
        """Let go of it."""
        ...


class Waiter:
    """One that waits at the gate, and what became of it. All calls are made under the gate's lock.

    Args:
        nbytes: Bytes that it asks for.
        priority: The higher is served first.
        declared: The bytes were declared and not guessed, so that the work really needs them.
        price: Says anew how many bytes it is charged: costs are learned, and the room changes, while it waits.
        may_start: Says whether work of its kind may start now; None where it always may.
        abandoned: Says whether whoever asked has gone; None where nobody can tell.
        held_bytes: Bytes that it takes by waiting; it gives them back when it is admitted.
        now: Monotonic seconds when it joined.
        kind: Waiters of one kind have the same answer to `may_start`, so that one of them is asked for all.
    """

    __slots__ = (
        "_abandoned",
        "_may_start",
        "_price",
        "_version",
        "admitted",
        "blocked_since",
        "counted",
        "declared",
        "error",
        "held_bytes",
        "home",
        "kind",
        "nbytes",
        "passed",
        "place",
        "priority",
        "queued",
        "since",
        "wakeup",
    )

    def __init__(
        self,
        nbytes: int,
        priority: Priority = Priority.NORMAL,
        *,
        declared: bool = True,
        price: Callable[[], int] | None = None,
        may_start: Callable[[], bool] | None = None,
        abandoned: Callable[[], bool] | None = None,
        held_bytes: int = 0,
        now: float = 0.0,
        kind: Hashable = None,
    ) -> None:
        self.nbytes = nbytes
        """Bytes that it is charged, as last priced."""
        self.priority = priority
        self.declared = declared
        self.held_bytes = held_bytes
        """Bytes that it takes by waiting."""
        self.since = now
        """Monotonic seconds when it joined."""
        self.kind = kind
        self.wakeup: Wakeup | None = None
        self.queued = False
        self.admitted = False
        self.error: BaseException | None = None
        self._price = price
        self._version = -1
        self._may_start = may_start
        self._abandoned = abandoned
        # What follows is its queue's.
        self.passed = 0
        """How often others went by while it stood first."""
        self.blocked_since: float | None = None
        """Monotonic seconds when it was first found to stand first and not to fit."""
        self.place = (now, now, 0)
        """The lesser is served first."""
        self.counted = 0
        """Bytes with which the queue counts it."""
        self.home: Home | None = None

    def size(self, version: int = -1) -> int:
        """Bytes that it is charged, as they are known now; as they were where nobody can say.

        Args:
            version: Which prices are in force; asked again only where it is another one than last time. −1 always asks.
        """
        if self._price is not None and (version != self._version or version == -1):
            try:
                self.nbytes = self._price()
            except Exception:  # noqa: BLE001 - a cost model of the user's; one that fails may not stop the queue
                self._price = None
            self._version = version
        return self.nbytes

    def may_start(self) -> bool:
        """Whether it may start now, if it fits: not while too much work of its kind runs of which nothing is known."""
        if self._may_start is None:
            return True
        try:
            return self._may_start()
        except Exception:  # noqa: BLE001 - a cost model of the user's; one that fails may not keep work out for ever
            self._may_start = None
            return True

    def is_abandoned(self) -> bool:
        """Whether whoever asked has gone; not, where nobody can say."""
        if self._abandoned is None:
            return False
        try:
            return self._abandoned()
        except Exception:  # noqa: BLE001 - a transport that is half closed; the work then runs and finds out itself
            return False
