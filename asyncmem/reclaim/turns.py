"""All that the coordinator runs, in one shape: reclaimers, shrinkables, and actions that are functions.

A turn knows when it may run next. One whose run gained nothing rests, twice as long each time; what heeds the level is
let off the rest of a rest when pressure has risen since, for it has more to give then.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from asyncmem.events import PressureLevel
from asyncmem.reclaim.actions import PressureAction
from asyncmem.reclaim.garbage import GarbageCollection
from asyncmem.reclaim.trim import HeapTrim

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.reclaim.protocols import Reclaimer
    from asyncmem.reclaim.shrinkable import Shrinkable

__all__ = ["ActionTurn", "ReclaimerTurn", "ShrinkableTurn", "Turn"]

_FIRST_REST: Final = 1.0
_LONGEST_REST: Final = 300.0
_CACHE_COST: Final = 30
_FUNCTION_COST: Final = 50
_ESSENTIAL_COST: Final = 80


class Turn(ABC):
    """Something to run, and when it may run next.

    Args:
        name: For people.
        cost: Place in the order.
        kind: The action that stands for it; None for what no name stands for.
        quiet: Whether it runs nobody's code.
        rest: Seconds between two runs at least.
    """

    __slots__ = ("cost", "due", "fruitless", "has_failed", "kind", "name", "quiet", "rank", "rest")

    heeds_level = True

    def __init__(self, name: str, *, cost: int, kind: PressureAction | None, quiet: bool, rest: float) -> None:
        self.name: Final = name
        self.cost: Final = cost
        self.kind: Final = kind
        self.quiet: Final = quiet
        self.rest: Final = rest
        self.due = float("-inf")
        self.fruitless = 0
        self.has_failed = False
        """Whether it has raised, which is logged the first time."""
        self.rank = 0
        """Of the highest level that it has run at since it was last due."""

    @property
    @abstractmethod
    def origin(self) -> object:
        """What it runs; None where that is gone."""

    @abstractmethod
    def run(self, level: PressureLevel) -> object:
        """Do it; returns the bytes that it says were given back, or anything else."""

    def is_due(self, now: float, level: PressureLevel) -> bool:
        """Whether it may run."""
        return now >= self.due or (self.heeds_level and level.rank > self.rank)

    def ran(self, begin: float, now: float, level: PressureLevel, *, gained: bool) -> None:
        """Work out when it may run next."""
        self.rank = level.rank if begin >= self.due else max(self.rank, level.rank)
        self.fruitless = 0 if gained else self.fruitless + 1
        back_off = 0.0 if gained else min(_FIRST_REST * 2.0 ** (self.fruitless - 1), _LONGEST_REST)
        self.due = now + max(self.rest, back_off)


class ReclaimerTurn(Turn):
    """The turn of a reclaimer, for which all levels are the same."""

    __slots__ = ("_reclaimer",)

    heeds_level = False

    def __init__(self, reclaimer: Reclaimer) -> None:
        super().__init__(
            reclaimer.name,
            cost=reclaimer.cost,
            kind=_kind_of(reclaimer),
            quiet=reclaimer.quiet,
            rest=reclaimer.rest,
        )
        self._reclaimer: Final = reclaimer

    @property
    def origin(self) -> Reclaimer:
        """The reclaimer."""
        return self._reclaimer

    def run(self, level: PressureLevel) -> object:  # noqa: ARG002 - as of Turn
        """Have it reclaim."""
        return self._reclaimer.reclaim()


class ShrinkableTurn(Turn):
    """The turn of a shrinkable.

    Args:
        shrinkable: What is to shrink.
        keep: Whether to keep it alive.

    Raises:
        TypeError: It is not to be kept alive, and cannot be referred to otherwise.
    """

    __slots__ = ("_find", "_is_essential", "told")

    def __init__(self, shrinkable: Shrinkable, *, keep: bool) -> None:
        self._is_essential: Final = bool(shrinkable.essential)
        super().__init__(
            shrinkable.name,
            cost=_ESSENTIAL_COST if self._is_essential else _CACHE_COST,
            kind=PressureAction.SHRINK,
            quiet=False,
            rest=0.0,
        )
        self._find: Final[Callable[[], Shrinkable | None]] = (lambda: shrinkable) if keep else weakref.ref(shrinkable)
        self.told = PressureLevel.LOW
        """The level that it was told last."""

    @property
    def origin(self) -> Shrinkable | None:
        """The shrinkable, while it is alive."""
        return self._find()

    def run(self, level: PressureLevel) -> object:
        """Tell it the level."""
        shrinkable = self._find()
        if shrinkable is None:
            return 0
        if self._is_essential and level is PressureLevel.HIGH:
            level = PressureLevel.MEDIUM
        self.told = level
        return shrinkable.shrink(level)


class ActionTurn(Turn):
    """The turn of a user's function."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[PressureLevel], object]) -> None:
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        super().__init__(name, cost=_FUNCTION_COST, kind=None, quiet=False, rest=0.0)
        self._function: Final = function

    @property
    def origin(self) -> Callable[[PressureLevel], object]:
        """The function."""
        return self._function

    def run(self, level: PressureLevel) -> object:
        """Call it."""
        return self._function(level)


def _kind_of(reclaimer: Reclaimer) -> PressureAction:
    if isinstance(reclaimer, GarbageCollection):
        return PressureAction.COLLECT if reclaimer.is_full else PressureAction.COLLECT_YOUNG
    return PressureAction.TRIM if isinstance(reclaimer, HeapTrim) else PressureAction.RECLAIM
