"""Where limits come from: each source looks at its places and says what it found there.

A source is called without arguments (the configured one with what the others found) and gives a `Place` for everything
it looked at, also where there was nothing. It raises nothing: what cannot be read is a finding. Every root is put in
from outside. Does not cover remembering what was found before: `finder`.

Not looked at: ``memory.min`` and ``memory.low`` (they protect), ``memory.soft_limit_in_bytes`` (a wish), limits of swap
and of kernel memory alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from asyncmem._protocols import MemorySampler, UsageMeter
from asyncmem.errors import ConfigError
from asyncmem.limits.bounds import Bound, BoundKind, Finding, FindingOutcome, Place
from asyncmem.sampling import Cgroup, CgroupMeter, CgroupV1, CgroupV2, MachineMeter, MachineSampler, ProcessMeter
from asyncmem.sampling._files import read_once
from asyncmem.sampling.hierarchy import Hierarchy, find_hierarchies
from asyncmem.units import format_bytes, is_share, parse_bytes

__all__ = ["CgroupSource", "ConfiguredSource", "GetRlimit", "MachineSource", "RlimitSource"]

GetRlimit = Callable[[int], tuple[int, int]]
"""As `resource.getrlimit`: soft and hard limit of a resource."""
_RLIM_UNLIMITED: Final = 2**62
"""Systems write "no limit" as -1 or as a number that no memory has."""
_WHOLE: Final = 2**63 - 1


class CgroupSource:
    """The process's memory cgroups of both versions with all ancestors that can be seen.

    Args:
        working_set: The process's own working set, for the meters.
        proc_root: Where procfs is mounted.
        fs_root: Where the mount points that procfs names begin.
    """

    def __init__(self, working_set: Callable[[], int], *, proc_root: str = "/proc", fs_root: str = "/") -> None:
        self._working_set: Final = working_set
        self._proc_root: Final = proc_root
        self._fs_root: Final = fs_root
        self._membership: bytes | None = None
        self._hierarchies: list[Hierarchy] = []
        self._meters: dict[str, CgroupMeter] = {}
        self._texts: dict[str, tuple[bytes | None, ...]] = {}

    def __call__(self) -> list[Place]:
        """Look at every directory; about 10 µs for each. The meters do not read yet."""
        places = self._locate()
        texts = {}
        for hierarchy in self._hierarchies:
            for directory in hierarchy.directories:  # first: what changes from here on is a change
                texts[directory] = self._meter(hierarchy, directory).cgroup.limit_texts()
            places += self._look(hierarchy)
        self._texts, kept = texts, texts.keys()
        for gone in self._meters.keys() - kept:
            self._meters.pop(gone).close()
        return places

    def has_changed(self) -> bool:
        """Whether a directory's limit is another one than at the last call; about 2 µs for each of its files.

        A limit that an ancestor has which is not mounted here is not seen, nor that the process was moved.
        """
        meters = self._meters
        return any(meters[directory].cgroup.limit_texts() != text for directory, text in self._texts.items())

    def _locate(self) -> list[Place]:
        """Find the hierarchies, anew only where the process has moved: mounts are many and hardly ever change."""
        path = f"{self._proc_root}/self/cgroup"
        try:
            membership = read_once(path)
            if membership != self._membership:
                path = f"{self._proc_root}/self/mountinfo"
                mounts = read_once(path)
                self._hierarchies = find_hierarchies(
                    os.fsdecode(membership), os.fsdecode(mounts), fs_root=self._fs_root
                )
                self._membership = membership
        except FileNotFoundError:
            return [Place(Finding("cgroup", path, FindingOutcome.ABSENT, None, "this system has no cgroups"))]
        except OSError as error:
            return [Place(Finding("cgroup", path, FindingOutcome.UNREADABLE, None, _reason(error)))]
        if not self._hierarchies:
            detail = "no memory hierarchy is mounted"
            return [Place(Finding("cgroup", f"{self._proc_root}/self/mountinfo", FindingOutcome.ABSENT, None, detail))]
        return []

    def _look(self, hierarchy: Hierarchy) -> list[Place]:
        """Look at one hierarchy's directories, the process's own first."""
        source = f"cgroup v{hierarchy.version}"
        places: list[Place] = []
        for directory in hierarchy.directories:
            meter = self._meter(hierarchy, directory)
            here = [
                _limit_place(
                    source,
                    f"{directory}/{file.name}",
                    partial(meter.cgroup.read_limit, file.name),
                    partial(
                        Bound,
                        name=f"cgroup:{hierarchy.name_of(directory)}:{file.name}",
                        kind=BoundKind.CGROUP,
                        meter=meter,
                        soft=not file.kills,
                    ),
                )
                for file in meter.cgroup.limit_files
            ]
            limits = [place.bound.limit for place in here if place.bound is not None]
            if limits:
                meter.ceiling = min(limits)
            places += here
        return places + self._look_above(hierarchy, places)

    def _look_above(self, hierarchy: Hierarchy, visible: list[Place]) -> list[Place]:
        """Look for the limit of an ancestor that the mount does not show: version 1 tells the least of all.

        Its usage cannot be seen. The top directory's stands in, which is too little where the ancestor has other
        children; but without this the limit would not be known at all.
        """
        for directory in hierarchy.directories:
            path = f"{directory}/memory.stat"
            try:
                limit = self._meter(hierarchy, directory).cgroup.hierarchical_limit()
            except FileNotFoundError:
                continue
            except OSError as error:
                return [Place(Finding("cgroup v1", path, FindingOutcome.UNREADABLE, None, _reason(error)))]
            if limit is None or any(place.bound.limit <= limit for place in visible if place.bound is not None):
                return []
            finding = Finding("cgroup v1", path, FindingOutcome.LIMIT, limit, "an ancestor that is not mounted here")
            meter = self._meter(hierarchy, hierarchy.mount_point)
            meter.ceiling = limit if meter.ceiling is None else min(limit, meter.ceiling)
            return [Place(finding, Bound("cgroup:above", BoundKind.CGROUP, limit, path, meter))]
        return []

    def _meter(self, hierarchy: Hierarchy, directory: str) -> CgroupMeter:
        """The directory's meter: the same one as long as the directory is the process's, as it remembers readings."""
        meter = self._meters.get(directory)
        if meter is None:
            cgroup: Cgroup = CgroupV1(directory) if hierarchy.version == 1 else CgroupV2(directory)
            meter = self._meters[directory] = CgroupMeter(cgroup, self._working_set)
        return meter


class RlimitSource:
    """The soft resource limits: of address space (``RLIMIT_AS``) and of private data (``RLIMIT_DATA``).

    They do not kill; allocations fail with `MemoryError`.

    Args:
        sampler: Reads the process, for the meters.
        getrlimit: As `resource.getrlimit`; None is the system's own.
    """

    def __init__(self, sampler: MemorySampler, getrlimit: GetRlimit | None = None) -> None:
        self._rlimits: list[tuple[str, Callable[[], int | None], UsageMeter]] = []
        if sys.platform != "win32":
            import resource  # noqa: PLC0415 - there is none on Windows

            get = getrlimit or resource.getrlimit
            self._rlimits = [
                ("RLIMIT_AS", partial(_soft, get, resource.RLIMIT_AS), ProcessMeter(sampler, "vms")),
                ("RLIMIT_DATA", partial(_soft, get, resource.RLIMIT_DATA), ProcessMeter(sampler, "data")),
            ]

    def __call__(self) -> list[Place]:
        """Look at both; about 2 µs each."""
        return [
            _limit_place("rlimit", name, read, partial(Bound, name=name, kind=BoundKind.RLIMIT, meter=meter))
            for name, read, meter in self._rlimits
        ]


class MachineSource:
    """The memory that the machine has.

    Args:
        machine: Reads the machine.
        working_set: The process's own working set, for the meter.
    """

    def __init__(self, machine: MachineSampler, working_set: Callable[[], int]) -> None:
        self._machine: Final = machine
        self._meter: Final = MachineMeter(machine, working_set)
        self._path: Final = getattr(machine, "source", type(machine).__name__)

    def __call__(self) -> list[Place]:
        """Look at the machine's size; about 8 µs."""
        bound = partial(Bound, name="machine", kind=BoundKind.MACHINE, meter=self._meter)
        return [_limit_place("machine", self._path, self._machine.total, bound)]


class ConfiguredSource:
    """The limit that the settings give to this process.

    Args:
        configured: Bytes, text with a unit, or a share such as ``"80%"`` of the tightest limit found elsewhere.
        sampler: Reads the process, for the meter.

    Raises:
        ConfigError: The value is no quantity, or nothing.
    """

    def __init__(self, configured: int | str, sampler: MemorySampler) -> None:
        self._configured: Final = configured
        self._meter: Final = ProcessMeter(sampler, "working_set")
        if parse_bytes(configured, of=_WHOLE) == 0:
            raise ConfigError(f"limit: got {configured!r}, which leaves no memory at all; expected more than 0")

    def __call__(self, found: Iterable[Bound]) -> list[Place]:
        """Work the limit out.

        Args:
            found: The bounds that a share is taken of.
        """
        tightest = min((bound.limit for bound in found), default=None)
        if tightest is None and is_share(self._configured):
            detail = f"{self._configured} of a limit, and none was found"
            return [Place(Finding("configured", "configured", FindingOutcome.UNREADABLE, None, detail))]
        limit = parse_bytes(self._configured, of=tightest)
        finding = Finding("configured", "configured", FindingOutcome.LIMIT, limit, f"set to {self._configured}")
        return [Place(finding, Bound("configured", BoundKind.CONFIGURED, limit, "configured", self._meter))]


def _limit_place(source: str, path: str, read: Callable[[], int | None], bound: Callable[..., Bound]) -> Place:
    """Read one limit and say what came of it; nothing that goes wrong here may hide the other limits."""
    try:
        limit = read()
    except (FileNotFoundError, NotADirectoryError):
        return Place(Finding(source, path, FindingOutcome.ABSENT, None, "there is no such file"))
    except (OSError, ValueError) as error:
        return Place(Finding(source, path, FindingOutcome.UNREADABLE, None, _reason(error)))
    if limit is None:
        return Place(Finding(source, path, FindingOutcome.UNLIMITED, None, "says that there is no limit"))
    finding = Finding(source, path, FindingOutcome.LIMIT, limit, format_bytes(limit))
    return Place(finding, bound(limit=limit, source=path))


def _soft(getrlimit: GetRlimit, which: int) -> int | None:
    limit, _hard = getrlimit(which)
    return limit if 0 <= limit < _RLIM_UNLIMITED else None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
