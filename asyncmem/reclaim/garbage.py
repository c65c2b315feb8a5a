"""Reclaim by Python's garbage collector, the young generations first.

Reference counts free nearly everything at once; the collector is for cycles. The young generations take a millisecond;
a full collection walks through every object (about 50 ns each, 50 ms for a million) and holds the interpreter's lock
all the while, so it runs seldom. Finalisers and weak references' callbacks run inside, so it has no place in the
watcher's thread.
"""

from __future__ import annotations

import gc
from typing import Final, Literal

__all__ = ["GarbageCollection", "collect_garbage"]

_FULL: Final = 2


def collect_garbage(generation: Literal[0, 1, 2] = 2) -> int:
    """Collect up to a generation, in the thread that calls.

    Args:
        generation: 0 and 1 for the young ones, 2 for all.

    Returns:
        Objects that were freed, or found and could not be.
    """
    return gc.collect(generation)


class GarbageCollection:
    """A reclaimer that collects up to one generation.

    Args:
        generation: 0 and 1 for the young ones, 2 for all.
        rest: Seconds between two runs; None for none between young ones, and half a minute between full ones.
    """

    __slots__ = ("_generation", "_rest")

    quiet: Final = False

    def __init__(self, generation: Literal[0, 1, 2] = 1, *, rest: float | None = None) -> None:
        self._generation: Final = generation
        self._rest: Final = (30.0 if generation == _FULL else 0.0) if rest is None else rest

    @property
    def is_full(self) -> bool:
        """Whether it collects all generations."""
        return self._generation == _FULL

    @property
    def name(self) -> str:
        """``garbage`` for a full collection, else ``young_garbage``."""
        return "garbage" if self.is_full else "young_garbage"

    @property
    def cost(self) -> int:
        """60 for a full collection, else 10."""
        return 60 if self.is_full else 10

    @property
    def rest(self) -> float:
        """Seconds between two runs."""
        return self._rest

    def reclaim(self) -> None:
        """Collect; what that frees, only a measurement tells."""
        collect_garbage(self._generation)
