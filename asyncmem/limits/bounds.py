"""The values of limit discovery: what bounds this process, and what was found where.

Covers the names only. `sources` makes them, `finder` keeps them up to date.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from asyncmem._protocols import UsageMeter

__all__ = ["Bound", "BoundKind", "Finding", "FindingOutcome", "Limits", "Place"]


class BoundKind(StrEnum):
    """What sets a limit."""

    CGROUP = "cgroup"
    """A control group: this process's own or one above it."""
    RLIMIT = "rlimit"
    """A resource limit of this process."""
    CONFIGURED = "configured"
    """The settings; nobody but asyncmem heeds it."""
    MACHINE = "machine"
    """The memory that there is."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit with its own meter.

    Args:
        name: For people, unique among the bounds of a process: ``cgroup:/app.slice:memory.max``.
        kind: What sets it.
        limit: Bytes.
        source: The file or the name under which it was found; the same as its finding's `path`.
        meter: How many of the bytes are used. Bounds of one directory share it. Left out of comparisons.
        soft: The kernel slows down whoever passes it, and neither kills nor refuses (``memory.high``).
    """

    name: str
    kind: BoundKind
    limit: int
    source: str
    meter: UsageMeter = field(compare=False, repr=False)
    soft: bool = False

    @property
    def enforced(self) -> bool:
        """Whether passing it ends the process or fails its allocations."""
        return self.kind is not BoundKind.CONFIGURED and not self.soft

    @property
    def kills(self) -> bool:
        """Whether passing it gets a process killed; an rlimit gives a `MemoryError` instead."""
        return self.enforced and self.kind is not BoundKind.RLIMIT


class Limits(Protocol):
    """The bounds of a process, kept up to date: what a `LimitFinder` is, and what may stand in its place."""

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """Every limit with its meter; never empty, and the same object while nothing changes."""
        ...

    def refresh(self) -> bool:
        """Look again; returns whether the bounds have changed."""
        ...

    def has_changed(self) -> bool:
        """Whether it is known already, at hardly any cost, that `refresh` would find a change."""
        ...

    def binding(self) -> Bound:
        """The bound with the least left of it."""
        ...


class FindingOutcome(StrEnum):
    """What was found at one place."""

    LIMIT = "limit"
    """A limit."""
    UNLIMITED = "unlimited"
    """The place says that there is no limit."""
    UNREADABLE = "unreadable"
    """The place is there, or was, and cannot be read or understood: there may be a limit."""
    ABSENT = "absent"
    """There is no such place."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that was looked at.

    Args:
        source: Which source looked: ``cgroup v2``, ``cgroup v1``, ``rlimit``, ``machine``, ``configured``.
        path: The file, or the name where it is no file.
        outcome: What was found.
        value: The limit in bytes; for an unreadable place the last one known, which then still holds; else None.
        detail: One sentence for people.
    """

    source: str
    path: str
    outcome: FindingOutcome
    value: int | None
    detail: str


class Place(NamedTuple):
    """A place with the bound that follows from it, if one does."""

    finding: Finding
    bound: Bound | None = None
