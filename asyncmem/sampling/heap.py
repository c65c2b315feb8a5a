"""Memory that this process really holds, without what its allocator merely keeps for reuse.

A freed block often stays in glibc's heap, and with it in the resident set. Work that comes next reuses it and seems to
need nothing, until several run side by side. So what tasks cost is measured on the working set *less the bytes that are
free inside the heap* (``mallinfo2().fordblks``), which rises and falls with the blocks themselves.

That figure is for learning costs, and no credit for admission: after a trim it still counts pages that have left the
resident set, and it knows nothing of Python's own small-object arenas. It costs 0.4 µs on a fresh heap, and
milliseconds on one with hundreds of thousands of holes; then it is asked only as often as takes a twentieth of the
time. Where there is no glibc of version 2.33 or later (musl, macOS, another allocator), nothing is subtracted.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import cache
from typing import Final

from asyncmem.sampling.protocols import ProcessSampler

__all__ = ["LiveMeter", "free_heap_bytes"]

_TIME_SHARE: Final = 20


class _Mallinfo2(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


@cache
def free_heap_bytes() -> Callable[[], int] | None:
    """A function that reads the bytes free inside the heap; None where the C library offers none."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no library without a name
        return None
    mallinfo2.restype = _Mallinfo2
    mallinfo2.argtypes = ()

    def read() -> int:
        return int(mallinfo2().fordblks)

    return read


class LiveMeter:
    """The working set of this process less what is free inside its heap, for learning costs.

    Args:
        sampler: Reads the process.
        free: Reads the free bytes of the heap; None for this process's C library.
        timer: Seconds; limits the time spent in `free`.
    """

    __slots__ = ("_due", "_free", "_sampler", "_timer")

    def __init__(
        self,
        sampler: ProcessSampler,
        *,
        free: Callable[[], int] | None = None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._sampler: Final = sampler
        self._free: Final = free_heap_bytes() if free is None else free
        self._timer: Final = timer
        self._due = 0.0

    def sample(self) -> int | None:
        """Bytes held; None where the process cannot be read for a moment, or the heap was asked too lately.

        A stale figure of the heap is no use: a block that was just freed would count as held.
        """
        begin = self._timer()
        if begin < self._due:
            return None
        try:
            working_set = self._sampler.working_set()
        except OSError:
            return None
        if self._free is None:
            return working_set
        free = self._free()
        end = self._timer()
        self._due = end + _TIME_SHARE * (end - begin)
        return max(0, working_set - free)
