"""How many bytes are used of a bound: one meter for each kind of bound.

Each implements `UsageMeter`: `used` is for every decision and takes microseconds, `refresh` reads the slow parts again.
None ever reports less than what is used as far as that can be known; what was read earlier is taken pessimistically.
Does not cover what the bounds are: `asyncmem.limits`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from asyncmem._protocols import MemorySampler
from asyncmem.sampling.cgroup import Cgroup, CgroupParts
from asyncmem.sampling.forks import forget_after_fork
from asyncmem.sampling.protocols import MachineSampler

__all__ = ["CgroupMeter", "MachineMeter", "ProcessMeter"]

_NEAR: Final = 1 / 32
"""Share of the ceiling below it from which the kernel may be trading page cache for other memory: charges are made in
batches per processor, so that the usage stands a little below the limit while that goes on."""
_TIME_SHARE: Final = 20
"""An early reading of the parts waits for this many times what the last one took: on large hosts ``memory.stat`` can
take a millisecond, and decisions must not spend more than a twentieth of the time in it."""


_MACHINE_SECONDS: Final = 0.010
"""Age up to which a reading of the machine serves: other programs grow more slowly than requests come."""


class _Reading(NamedTuple):
    credit: int
    """Bytes of the usage that were droppable, after all that is known of the rest."""
    kept: int
    """usage − credit: what was in use and could not be dropped."""
    usage: int
    own: int


class CgroupMeter:
    """The working set of a cgroup: its usage without the page cache that the kernel would drop.

    Three figures, none of them read at the same instant, and the largest wins:

    1. The process's own working set, fresh. Whatever the rest says, that much is in use.
    2. The current usage, less what was droppable at the last refresh. Page cache that came since then counts as used
       until the next refresh; cache that was there is never counted as lost.
    3. What was in use at the last refresh, and what the process's own working set has grown since; at most the current
       usage. This is for cache credited twice: where the kernel drops cache while anonymous memory grows, the usage
       stays flat and the second figure with it, though there is less and less to drop. It is also for usage that falls
       because cache is dropped and not because anything was freed.

    One thing escapes all three: *another* process of the group grows, or shared memory does, and dropped cache pays for
    it. That happens where the usage stands at the limit, so there (`ceiling`) the parts are read again at once, as long
    as that takes no more than a twentieth of the time.

    The credit is also never more than the usage less anonymous and shared memory, or less the process's own working
    set: the parts and the usage may disagree, and version 2's statistics may lag by up to two seconds.

    Where a file cannot be read: without parts nothing is credited; without a usage, the last one is taken and what the
    process has grown since is added.

    `used` takes about 4 µs, `refresh` and an early reading about 18 µs (kernel's part: 3 and 9). Any thread may call
    either.

    Args:
        cgroup: The directory.
        working_set: The process's own working set, in bytes; it may raise `OSError`.
        ceiling: Bytes of the usage at which the kernel begins to reclaim; None where nobody knows. May be set anew.
        timer: Seconds; limits the time spent in early readings.
    """

    __slots__ = ("__weakref__", "_cgroup", "_due", "_reading", "_timer", "_working_set", "ceiling")

    def __init__(
        self,
        cgroup: Cgroup,
        working_set: Callable[[], int],
        *,
        ceiling: int | None = None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.ceiling = ceiling
        self._cgroup: Final = cgroup
        self._working_set: Final = working_set
        self._timer: Final = timer
        self._reading: _Reading | None = None  # replaced as a whole, so that threads need no lock
        self._due = 0.0
        forget_after_fork(self)

    @property
    def cgroup(self) -> Cgroup:
        """The directory."""
        return self._cgroup

    def used(self) -> int:
        """Bytes in use that the kernel cannot drop, never negative."""
        last = self._reading
        if last is None:
            last = self._read(None)
        own, usage = self._own(last), self._usage(last)
        if (
            self.ceiling is not None
            and max(usage, last.usage) >= self.ceiling * (1 - _NEAR)
            and self._timer() >= self._due
        ):
            last = self._read(last)
            own, usage = max(own, last.own), max(usage, last.usage)
        return max(own, usage - last.credit, min(usage, last.kept + own - last.own))

    def refresh(self) -> None:
        """Read ``memory.stat`` again."""
        self._read(self._reading)

    def after_fork(self) -> None:
        """Forget the parent's working set: growth is counted from the child's own."""
        self._reading = None

    def close(self) -> None:
        """Let the descriptors go; a later reading opens them again."""
        self._cgroup.close()

    def _read(self, last: _Reading | None) -> _Reading:
        begin = self._timer()
        # The order is the pessimistic one: what grows between two of these readings is counted, not credited.
        own = self._own(last)
        try:
            parts = self._cgroup.parts()
        except (OSError, ValueError):
            parts = CgroupParts(droppable=0, anonymous=0)
        usage = self._usage(last)
        credit = max(0, min(parts.droppable, usage - parts.anonymous, usage - own))
        reading = self._reading = _Reading(credit=credit, kept=usage - credit, usage=usage, own=own)
        end = self._timer()
        self._due = end + _TIME_SHARE * (end - begin)
        return reading

    def _own(self, last: _Reading | None) -> int:
        try:
            return self._working_set()
        except OSError:
            return 0 if last is None else last.own

    def _usage(self, last: _Reading | None) -> int:
        try:
            return self._cgroup.usage()
        except (OSError, ValueError):
            own = self._own(last)
            # Growth with its sign: summed over many refreshes it stays what the process has grown in all.
            return own if last is None else max(own, last.usage + own - last.own)


class ProcessMeter:
    """One figure of this process: what a configured limit (`working_set`) or an rlimit (`vms`, `data`) counts.

    About 2 µs. Where the process cannot be read for a moment, the last reading stands.

    Args:
        sampler: Reads the process.
        figure: Which field of `ProcessMemory` is metered.
    """

    __slots__ = ("_figure", "_last", "_sampler")

    def __init__(self, sampler: MemorySampler, figure: Literal["working_set", "vms", "data"]) -> None:
        self._sampler: Final = sampler
        self._figure: Final = figure
        self._last: int | None = None

    def used(self) -> int:
        """Bytes in use.

        Raises:
            OSError: The process could never be read.
        """
        try:
            self._last = value = int(getattr(self._sampler.read(), self._figure))
        except OSError:
            if self._last is None:
                raise
            return self._last
        return value

    def refresh(self) -> None:
        """Nothing: the figure is always fresh."""


class MachineMeter:
    """What the machine can no longer give: its total less what is available, and at least this process.

    The machine is read every 10 ms at most, in about 9 µs on Linux. In between, and where it cannot be read for a
    moment, the last reading stands and what the process has grown since is added, in about 2 µs.

    Args:
        machine: Reads the machine.
        working_set: The process's own working set, in bytes; it may raise `OSError`.
        timer: Seconds; says when the machine is to be read again.
    """

    __slots__ = ("_due", "_last", "_machine", "_timer", "_total", "_working_set")

    def __init__(
        self,
        machine: MachineSampler,
        working_set: Callable[[], int],
        *,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._machine: Final = machine
        self._working_set: Final = working_set
        self._timer: Final = timer
        self._total: int | None = None
        self._last: tuple[int, int] = (0, 0)
        self._due = 0.0

    def used(self) -> int:
        """Bytes in use that cannot be dropped, never negative."""
        last_used, last_own = self._last
        try:
            own = self._working_set()
        except OSError:
            own = last_own
        now = self._timer()
        if now >= self._due:
            try:
                if self._total is None:
                    self._total = self._machine.total()
                last_used, last_own = self._last = (max(0, self._total - self._machine.available()), own)
                self._due = now + _MACHINE_SECONDS
            except (OSError, ValueError):
                pass  # the last reading stands
        return max(own, last_used + own - last_own)

    def refresh(self) -> None:
        """Read the machine again, and its size: memory can be added to a running one."""
        self._due = 0.0
        with contextlib.suppress(OSError, ValueError):
            self._total = self._machine.total()
        self.used()
