"""Memory that this process really holds, without what its allocator merely keeps for reuse.

A freed block often stays in glibc's heap, and with it in the resident set. Work that comes next reuses it and seems to
need nothing, until several run side by side. So what tasks cost is measured on the working set *less the bytes that are
free inside the heap* (``mallinfo2().fordblks``), which rises and falls with the blocks themselves.

**After a trim** free blocks stay free blocks, while their pages have left the resident set: subtracting them would make
what is held look smaller by all that was given back. So from a trim on it is followed how much of the free bytes is
resident. Reused pages come back, and so

    growth of the resident free bytes = growth of the working set − growth of the blocks in use − growth of the rest

where the rest is what others than the allocator have mapped (Python's own arenas of small objects, threads' stacks). A
block that nobody has touched yet makes the sum fall and rises again when it is touched. Once all free bytes are
resident again nothing needs following any more.

A large mapping of another's that is just being given back leaves the resident set before it leaves the process's data,
so that free bytes would seem to have left. A reading that shows this is none.

The figure is for learning costs, and no credit for admission. It costs 0.4 µs on a fresh heap, and milliseconds on one
with hundreds of thousands of holes; then it is asked only as often as takes a twentieth of the time. Where there is no
glibc of version 2.33 or later (musl, macOS, another allocator), nothing is subtracted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from asyncmem.sampling._malloc import HeapFigures, free_heap_bytes, heap_figures
from asyncmem.sampling.forks import forget_after_fork
from asyncmem.sampling.protocols import ProcessSampler
from asyncmem.units import MIB

__all__ = ["LiveMeter"]

_TIME_SHARE: Final = 20
_SLOW: Final = 0.001
"""Seconds of processor time from which on a reading is too dear to be taken at every step of a task."""
_SLOW_SHARE: Final = 100
"""Then one part in so many of the time may go into trying again."""
_NEGLIGIBLE: Final = MIB
"""Free bytes that may be missing from the resident set without being followed: less than a task's cost is known by.
Whenever it comes to this, what small errors have added up is forgotten too."""
_UNMAPPING_SECONDS: Final = 0.02
"""Longest time that giving a mapping back takes; what lasts longer is something else, such as swapping."""


class _Followed(NamedTuple):
    """The resident part of the free bytes after a trim, and the readings that it belongs to."""

    resident_free: int
    """May lie below nothing, by blocks that are in use and were never touched."""
    free: int
    working_set: int
    data: int
    in_use: int
    system: int

    def at(self, memory: tuple[int, int], figures: HeapFigures) -> _Followed:
        """The same at a later reading."""
        working_set, data = memory
        unexplained = (working_set - self.working_set) - (figures.in_use - self.in_use)
        rest = (data - self.data) - (figures.system - self.system)
        resident = self.resident_free + unexplained - min(max(rest, min(0, unexplained)), max(0, unexplained))
        return _Followed(min(resident, figures.free), figures.free, working_set, data, figures.in_use, figures.system)

    def shows_unmapping(self, now: _Followed) -> bool:
        """Whether more has left the resident set since than is explained by what was freed, reused or given back."""
        unexplained = (now.working_set - self.working_set) - (now.in_use - self.in_use)
        rest = (now.data - self.data) - (now.system - self.system)
        explained = max(0, now.in_use - self.in_use) + max(0, self.system - now.system)
        return min(0, rest) - unexplained > explained + _NEGLIGIBLE

    @property
    def held_free(self) -> int:
        """Bytes that are free and resident."""
        return max(0, self.resident_free)

    def or_none(self) -> _Followed | None:
        """Itself; None where (almost) all free bytes are resident, so that there is nothing to follow."""
        return self if self.free - self.held_free > _NEGLIGIBLE else None


class LiveMeter:
    """The working set of this process less what is free inside its heap, for learning costs. Any thread may ask.

    Whoever trims the heap does it through `trim`.

    Args:
        sampler: Reads the process.
        free: Reads the free bytes of the heap; None for this process's C library.
        heap: Reads all figures of the heap, for following them after a trim; None for this process's C library, unless
            `free` is another's: then a trim is not followed.
        timer: Seconds, for saying when `free` and `heap` may be asked again.
        cpu: Seconds of this thread's processor time, for saying what they cost: where the process is busy, most of the
            time that passes is spent waiting for the interpreter.
    """

    __slots__ = (
        "__weakref__",
        "_cpu",
        "_due",
        "_followed",
        "_free",
        "_heap",
        "_lock",
        "_now_due",
        "_sampler",
        "_timer",
        "_turn",
        "_unmapping_since",
        "_was_slow",
    )

    def __init__(
        self,
        sampler: ProcessSampler,
        *,
        free: Callable[[], int] | None = None,
        heap: Callable[[], HeapFigures] | None = None,
        timer: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._sampler: Final = sampler
        self._cpu: Final = cpu
        self._free: Final = free_heap_bytes() if free is None else free
        self._heap: Final = heap_figures() if heap is None and free is None else heap
        self._timer: Final = timer
        self._due = 0.0
        self._now_due = 0.0
        self._was_slow = False
        self._followed: _Followed | None = None  # replaced as a whole, so that threads need no lock
        self._unmapping_since: float | None = None
        self._turn = 0
        """Goes up when a trim begins and again when it ends, so that no figure straddles one."""
        self._lock = threading.Lock()
        forget_after_fork(self)

    def sample(self) -> int | None:
        """Bytes held; None where no true figure can be had at this moment.

        That is: the process cannot be read, the heap is just being trimmed, something large is just being given back,
        or the heap was asked too lately. A stale figure of the heap is no use: a block that was just freed would count
        as held.
        """
        begin = self._timer()
        turn = self._turn
        if begin < self._due or turn & 1:
            return None
        followed = self._followed
        spent = self._cpu()
        try:
            if followed is not None:
                live = self._follow(followed)
            else:
                live = self._sampler.working_set()
                if self._free is None:
                    return live
                live -= self._free()
        except OSError:
            return None
        self._due = self._timer() + _TIME_SHARE * (self._cpu() - spent)
        return None if live is None or self._turn != turn else max(0, live)

    def now(self) -> int | None:
        """Bytes held now, for comparing two moments that are close to each other; not rate-limited.

        Returns:
            Bytes; None where they cannot be read, the heap is just being trimmed, or has so many holes that asking
            takes too long.
        """
        begin, turn = self._timer(), self._turn
        if begin < self._now_due or turn & 1:
            return None
        spent = self._cpu()
        try:
            live = self._live()
        except OSError:
            return None
        cost = self._cpu() - spent
        if cost > _SLOW:
            # Once may be chance, as when the processor had other things in its caches.
            if self._was_slow:
                self._now_due = begin + _SLOW_SHARE * cost
            self._was_slow = True
        else:
            self._was_slow = False
        return live if self._turn == turn else None

    def _live(self) -> int:
        followed = self._followed
        if followed is not None and self._heap is not None:
            # Not kept: two threads may be here, and whoever samples goes on from the last that was.
            now = followed.at(*self._figures(self._heap))
            return now.working_set - now.held_free
        live = self._sampler.working_set()
        return live if self._free is None else live - self._free()

    def retained(self) -> int | None:
        """Bytes that are free inside the heap and resident: the most that a trim could give back.

        Returns:
            None where nobody knows.

        Raises:
            OSError: The process cannot be read.
        """
        if self._free is None:
            return None
        followed = self._followed
        if followed is None or self._heap is None:
            return self._free()
        return self._read(self._heap).held_free

    def trim(self, release: Callable[[], object]) -> int:
        """Trim the heap, and take out of account what leaves the resident set by that.

        Args:
            release: Does it.

        Returns:
            Bytes that it gave back.

        Raises:
            OSError: The process cannot be read.
        """
        if self._heap is None:
            before = self._sampler.working_set()
            release()
            return max(0, before - self._sampler.working_set())
        with self._lock:
            self._turn += 1
            try:
                before_it = self._read(self._heap)
                release()
                after_it = before_it.at(*self._figures(self._heap))
                # Pages of others may have come and gone meanwhile; what is resident of a free byte is never below 0.
                after_it = after_it._replace(resident_free=after_it.held_free)
                self._followed = after_it.or_none()
            finally:
                self._turn += 1
        return max(0, before_it.resident_free - after_it.resident_free)

    def after_fork(self) -> None:
        """Forget a trim that another thread was at."""
        self._lock = threading.Lock()
        self._turn = 0

    def _follow(self, followed: _Followed) -> int | None:
        assert self._heap is not None
        now = followed.at(*self._figures(self._heap))
        if followed.shows_unmapping(now):
            begin = self._timer()
            since = self._unmapping_since = begin if self._unmapping_since is None else self._unmapping_since
            if begin - since < _UNMAPPING_SECONDS:
                return None
        self._unmapping_since = None
        self._followed = now.or_none()
        return now.working_set - now.held_free

    def _read(self, heap: Callable[[], HeapFigures]) -> _Followed:
        memory, figures = self._figures(heap)
        if self._followed is not None:
            now = self._followed.at(memory, figures)
            return now._replace(resident_free=now.held_free)
        return _Followed(figures.free, figures.free, *memory, figures.in_use, figures.system)

    def _figures(self, heap: Callable[[], HeapFigures]) -> tuple[tuple[int, int], HeapFigures]:
        memory = self._sampler.read()
        return (memory.working_set, memory.data), heap()
