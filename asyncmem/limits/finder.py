"""The set of bounds of this process, found once and kept up to date.

Covers the order of the sources, what is remembered when a place cannot be read any more, and which bound binds. Does
not cover how limits are read (`sources`) or what is used of them (`asyncmem.sampling.meters`).
"""

from __future__ import annotations

import os
import threading
from typing import Final

from asyncmem._protocols import MemorySampler
from asyncmem.errors import LimitDiscoveryError
from asyncmem.limits.bounds import Bound, BoundKind, Finding, FindingOutcome, Place
from asyncmem.limits.sources import CgroupSource, ConfiguredSource, GetRlimit, MachineSource, RlimitSource
from asyncmem.sampling import MachineSampler, default_machine, default_sampler, working_set_of
from asyncmem.sampling.forks import forget_after_fork

__all__ = ["LimitFinder"]

_LOST: Final = {FindingOutcome.UNREADABLE, FindingOutcome.ABSENT}


class LimitFinder:
    """Finds every limit that applies to this process, at once and again at each `refresh`.

    Any thread may ask; `bounds` is replaced as a whole.

    Args:
        proc_root: Where procfs is mounted.
        fs_root: Where the mount points that procfs names begin.
        sampler: Reads this process; None is the system's own. One that has `working_set` is read faster.
        machine: Reads the machine; None is the system's own.
        getrlimit: As `resource.getrlimit`; None is the system's own.
        configured: The most that this process may use: bytes, text with a unit, or a share of the tightest limit found.
        use_machine: Whether the machine's memory is a bound; None: only where no cgroup kills below it, because a
            container is judged by its own limit and not by how full its host is.

    Raises:
        LimitDiscoveryError: Nothing bounds this process, as far as could be read.
        ConfigError: `configured` is no quantity, or nothing.
    """

    def __init__(
        self,
        *,
        proc_root: str | os.PathLike[str] = "/proc",
        fs_root: str | os.PathLike[str] = "/",
        sampler: MemorySampler | None = None,
        machine: MachineSampler | None = None,
        getrlimit: GetRlimit | None = None,
        configured: int | str | None = None,
        use_machine: bool | None = None,
    ) -> None:
        proc = os.fspath(proc_root)
        sampler = default_sampler(proc) if sampler is None else sampler
        working_set = working_set_of(sampler)
        self._cgroups: Final = CgroupSource(working_set, proc_root=proc, fs_root=os.fspath(fs_root))
        self._rlimits: Final = RlimitSource(sampler, getrlimit)
        self._machine: Final = MachineSource(default_machine(proc) if machine is None else machine, working_set)
        self._configured: Final = None if configured is None else ConfiguredSource(configured, sampler)
        self._use_machine: Final = use_machine
        self._lock = threading.Lock()
        self._bounds: tuple[Bound, ...] = ()
        self._findings: tuple[Finding, ...] = ()
        forget_after_fork(self)
        self.refresh()

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """Every limit with its meter; never empty."""
        return self._bounds

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every place that was looked at, and what was there."""
        return self._findings

    def refresh(self) -> bool:
        """Look at every place again, and let the cgroups' meters read their slow parts.

        A limit that was known and can no longer be read still holds, and its finding says that it is unreadable: a
        file that vanishes does not take the kernel's limit with it. Where the process was moved to another group, that
        group's limits count instead.

        Takes about 80 µs with three directories, and 20 more for each that has a limit.

        Returns:
            Whether the set of bounds or one of their limits has changed.

        Raises:
            LimitDiscoveryError: There is no bound now and never was one.
        """
        with self._lock:
            places = self._remember([*self._cgroups(), *self._rlimits()])
            places += self._judge_machine(places)
            if self._configured is not None:
                places += self._configured(place.bound for place in places if place.bound is not None)
            self._findings = tuple(place.finding for place in places)
            # With all limits gone the last ones stand: that is the careful side, and there is no other answer to give.
            bounds = tuple(place.bound for place in places if place.bound is not None) or self._bounds
            if not bounds:
                looked_at = "; ".join(f"{f.path}: {f.outcome} ({f.detail})" for f in self._findings)
                raise LimitDiscoveryError(
                    f"no memory limit was found; expected one from a cgroup, an rlimit, the settings or the machine; "
                    f"set one, for example limit='2GiB'. Looked at: {looked_at}"
                )
            for meter in {id(bound.meter): bound.meter for bound in bounds}.values():
                meter.refresh()
            changed = bounds != self._bounds
            self._bounds = bounds
            return changed

    def has_changed(self) -> bool:
        """Whether a visible cgroup's limit is another one than at the last `refresh`; about 2 µs for each file."""
        with self._lock:
            return self._cgroups.has_changed()

    def binding(self) -> Bound:
        """The bound with the least left of it, measured now; about 4 µs for each bound, 9 for the machine."""
        return min(self._bounds, key=_left)

    def after_fork(self) -> None:
        """Replace the lock, which a thread of the parent may have held."""
        self._lock = threading.Lock()

    def _remember(self, places: list[Place]) -> list[Place]:
        known = {bound.source: bound for bound in self._bounds}
        return [
            _still_holds(place, known[place.finding.path])
            if place.finding.outcome in _LOST and place.finding.path in known
            else place
            for place in places
        ]

    def _judge_machine(self, places: list[Place]) -> list[Place]:
        """Look at the machine, and leave its bound out where it does not count."""
        [place] = self._remember(self._machine())
        if place.bound is None or self._use_machine:
            return [place]
        total = place.bound.limit
        inside = any(
            found.bound is not None
            and found.bound.kind is BoundKind.CGROUP
            and found.bound.kills
            and found.bound.limit <= total
            for found in places
        )
        return [place._replace(bound=None)] if inside or self._use_machine is False else [place]


def _left(bound: Bound) -> int:
    return bound.limit - bound.meter.used()


def _still_holds(place: Place, bound: Bound) -> Place:
    lost = place.finding
    detail = f"{lost.detail}; the last known limit still holds"
    return Place(Finding(lost.source, lost.path, FindingOutcome.UNREADABLE, bound.limit, detail), bound)
