"""Reclaim of what the allocator keeps: freed blocks whose pages are still resident.

glibc gives back by itself what is free at the heap's upper end, and nothing below a block that is still in use.
``malloc_trim`` gives back every whole free page. It runs without the interpreter's lock and calls nobody's code, so the
watcher's thread may do it while the event loop is stuck. It is no use where little is free, and what it gives back has
to be faulted in again when it is used again: so it is tried from 8 MiB on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from asyncmem.sampling import heap_trimmer
from asyncmem.units import MIB

__all__ = ["HeapTrim", "TrimmedHeap", "trim_heap"]

_LEAST: Final = 8 * MIB
_LIMIT_SHARE: Final = 50


def trim_heap() -> bool:
    """Give the heap's free pages back to the kernel; whoever measures costs does it through `HeapTrim`.

    Returns:
        Whether anything was given back; False where the C library cannot.
    """
    trim = heap_trimmer()
    return trim is not None and trim()


class TrimmedHeap(Protocol):
    """Who has to know of a trim; `asyncmem.sampling.LiveMeter` is one."""

    def retained(self) -> int | None:
        """Bytes that are free inside the heap and resident; None where nobody knows."""
        ...

    def trim(self, release: Callable[[], object]) -> int:
        """Run `release`; returns the bytes that it gave back."""
        ...


class HeapTrim:
    """A reclaimer that trims the heap where that pays.

    Args:
        heap: Measures what is free, and is told of the trim.
        limit: Bytes of the limit, or a function that knows them: it is tried from 8 MiB or a fiftieth of the limit on,
            whichever is more. None for 8 MiB.
        cost: Place in the order; a second one late in the order gives back what those before it have freed.
    """

    __slots__ = ("_cost", "_heap", "_limit")

    name: Final = "heap"
    quiet: Final = True
    rest: Final = 0.0

    def __init__(self, heap: TrimmedHeap, *, limit: Callable[[], int] | int | None = None, cost: int = 20) -> None:
        self._heap: Final = heap
        self._limit: Final = limit
        self._cost: Final = cost

    @property
    def cost(self) -> int:
        """Place in the order."""
        return self._cost

    def reclaim(self) -> int:
        """Trim where enough is free; returns the bytes given back."""
        retained = self._heap.retained()
        if retained is None or retained < self._least():
            return 0
        return self._heap.trim(trim_heap)

    def _least(self) -> int:
        limit = self._limit() if callable(self._limit) else self._limit
        return _LEAST if limit is None else max(_LEAST, limit // _LIMIT_SHARE)
