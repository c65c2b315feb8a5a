"""Giving memory back: garbage, what the allocator keeps, caches, whatever a user adds.

- `protocols`: what a reclaimer is, and what comes of it; `shrinkable`: what a cache or a model is to it.
- `garbage`, `trim`: the two that every process has, joined by `default_reclaimers`; `hooks`: whatever a user adds.
- `coordinator`: `Reclaim` runs them in order of cost, measures what they gain, and caps the time that they take;
  `turns` are what it runs.
- `actions`: what is done at each pressure level, as data; `worker`: the thread that does it.
- `critical`: what is called when pressure stays critical, such as a graceful shutdown.

Does not cover when memory is short (`asyncmem.pressure`) nor what happens to requests then (`asyncmem.admission`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asyncmem.reclaim.actions import Action, PressureAction, PressureActions
from asyncmem.reclaim.coordinator import Reclaim, ReclaimStatistics
from asyncmem.reclaim.garbage import GarbageCollection, collect_garbage
from asyncmem.reclaim.hooks import ReclaimHook
from asyncmem.reclaim.protocols import Reclaimer, ReclaimReport, ReclaimResult
from asyncmem.reclaim.shrinkable import Shrinkable
from asyncmem.reclaim.trim import HeapTrim, TrimmedHeap, trim_heap

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Action",
    "GarbageCollection",
    "HeapTrim",
    "PressureAction",
    "PressureActions",
    "Reclaim",
    "ReclaimHook",
    "ReclaimReport",
    "ReclaimResult",
    "ReclaimStatistics",
    "Reclaimer",
    "Shrinkable",
    "TrimmedHeap",
    "collect_garbage",
    "default_reclaimers",
    "trim_heap",
]

_BEFORE_MODELS: Final = 70
_LAST: Final = 1000


def default_reclaimers(heap: TrimmedHeap, *, limit: Callable[[], int] | int | None = None) -> tuple[Reclaimer, ...]:
    """What every process has: young garbage, the heap, all garbage, and the heap again.

    That is twice more: before what is dear to make again, which need not go where all the rest has freed enough, and
    behind all others.

    Args:
        heap: Measures what is free in the heap, and is told of trims (`LiveMeter`).
        limit: Bytes of the limit, or a function that knows them; see `HeapTrim`.
    """
    return (
        GarbageCollection(1),
        HeapTrim(heap, limit=limit),
        GarbageCollection(2),
        HeapTrim(heap, limit=limit, cost=_BEFORE_MODELS),
        HeapTrim(heap, limit=limit, cost=_LAST),
    )
