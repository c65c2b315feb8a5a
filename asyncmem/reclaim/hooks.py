"""Reclaim by a function of the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ReclaimHook"]


@dataclass(frozen=True, slots=True)
class ReclaimHook:
    """A function as a reclaimer.

    Args:
        name: For people and for statistics.
        function: Gives back what can be spared; returns the bytes where it knows them, else None.
        cost: Place in the order; see `Reclaimer`. By default that of a cache which fills again quickly.
        quiet: Whether it may run in the watcher's thread.
        rest: Seconds between two runs at least.
    """

    name: str
    function: Callable[[], int | None]
    cost: int = 40
    quiet: bool = False
    rest: float = 0.0

    def reclaim(self) -> int | None:
        """Call the function."""
        return self.function()
