"""What a reclaimer is, and what comes of running some."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from asyncmem.units import MIB

__all__ = ["ReclaimReport", "ReclaimResult", "Reclaimer"]


@runtime_checkable
class Reclaimer(Protocol):
    """One way to give memory back. Supplied by users too; what it raises is counted and stops nothing."""

    @property
    def name(self) -> str:
        """For people and for statistics."""
        ...

    @property
    def cost(self) -> int:
        """Place in the order; the cheapest, which hurts least, goes first.

        Young garbage has 10, the heap 20, caches that fill again quickly should have 30 to 50, full garbage 60, models
        that must be loaded again 80.
        """
        ...

    @property
    def quiet(self) -> bool:
        """Whether it runs nobody's code: no finalisers, no callbacks, no locks that others hold for long.

        Only such a one may run in the watcher's thread.
        """
        ...

    @property
    def rest(self) -> float:
        """Seconds between two runs at least, however little it takes; 0 for no such wish."""
        ...

    def reclaim(self) -> int | None:
        """Give back what can be spared.

        Returns:
            Bytes, as far as it knows; None where only a measurement can tell; 0 also where it was not worth trying.
        """
        ...


class ReclaimResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one reclaimer did."""

    name: str
    bytes_freed: int
    """Bytes by which the meter fell, or that it said it gave back, whichever is more."""
    seconds: float
    """Time that it took."""
    error: str | None = None
    """Type and message of what it raised."""


class ReclaimReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one run gave back."""

    objects_collected: int = 0
    """Objects that the garbage collector freed meanwhile."""
    bytes_freed: int = 0
    """Bytes by which the meter fell from begin to end; 0 where others took as much meanwhile."""
    seconds: float = 0.0
    """Time that it took."""
    actions: tuple[ReclaimResult, ...] = ()
    """What was run, in order; empty where nothing was due."""

    @property
    def freed_mb(self) -> float:
        """Bytes freed, in MiB."""
        return self.bytes_freed / MIB
