"""Giving memory back: garbage, what the allocator keeps, caches, whatever a user adds.

- `protocols`: what a reclaimer is, and what comes of it.
- `garbage`, `trim`: the two that every process has, joined by `default_reclaimers`; `hooks`: whatever a user adds.
- `coordinator`: `Reclaim` runs them in order of cost, measures what they gain, and caps the time that they take.

Does not cover when memory is short (`asyncmem.pressure`) nor what happens to requests then (`asyncmem.admission`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asyncmem.reclaim.coordinator import Reclaim, ReclaimStatistics
from asyncmem.reclaim.garbage import GarbageCollection, collect_garbage
from asyncmem.reclaim.hooks import ReclaimHook
from asyncmem.reclaim.protocols import Reclaimer, ReclaimReport, ReclaimResult
from asyncmem.reclaim.trim import HeapTrim, TrimmedHeap, trim_heap

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "GarbageCollection",
    "HeapTrim",
    "Reclaim",
    "ReclaimHook",
    "ReclaimReport",
    "ReclaimResult",
    "ReclaimStatistics",
    "Reclaimer",
    "TrimmedHeap",
    "collect_garbage",
    "default_reclaimers",
    "trim_heap",
]

_LAST: Final = 1000


def default_reclaimers(heap: TrimmedHeap, *, limit: Callable[[], int] | int | None = None) -> tuple[Reclaimer, ...]:
    """What every process has: young garbage, the heap, all garbage, and the heap again behind all others.

    Args:
        heap: Measures what is free in the heap, and is told of trims (`LiveMeter`).
        limit: Bytes of the limit, or a function that knows them; see `HeapTrim`.
    """
    return (
        GarbageCollection(1),
        HeapTrim(heap, limit=limit),
        GarbageCollection(2),
        HeapTrim(heap, limit=limit, cost=_LAST),
    )
