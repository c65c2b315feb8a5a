"""The values that asyncmem hands to people and to other systems: snapshots, alerts, pressure levels, breaker states.

All are frozen. Bytes are `int`; each has a ``*_mb`` twin in MiB for people. Who makes them: `monitor` takes
snapshots, `alerts` raises alerts, `pressure` tells the level, `breaker` the state.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from asyncmem.units import MIB

__all__ = [
    "ALERT_SCHEMA_VERSION",
    "AdmissionAction",
    "AdmissionOutlook",
    "AlertLevel",
    "AlertState",
    "AlertType",
    "BreakerState",
    "MemoryAlert",
    "MemorySnapshot",
    "PressureLevel",
]

ALERT_SCHEMA_VERSION = 1
"""Version of `MemoryAlert.as_dict`; goes up when a field changes its meaning or goes away."""


class MemorySnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of the process's and the system's memory.

    Args:
        timestamp: When, aware and in UTC.
        rss: Resident bytes of the process, file-backed pages included.
        vms: Virtual bytes of the process.
        working_set: Bytes that count towards the kill and cannot be reclaimed, measured at the binding bound: for a
            cgroup its whole working set, neighbours included.
        available_system: Bytes that the machine could still give (MemAvailable).
        limit: Bytes of the binding bound.
        threads: Threads of the process.
        label: The name that the caller gave to this capture.
        python_allocated: Bytes allocated through Python's allocator; None unless tracemalloc runs.
        gc_objects: Objects known to the garbage collector; on labelled captures only (a million take 46 ms).
        open_files: Open file descriptors; on labelled captures only.
        gpu: GPU memory; None where there is none.
    """

    timestamp: datetime
    rss: int
    vms: int
    working_set: int
    available_system: int
    limit: int
    threads: int
    label: str | None = None
    python_allocated: int | None = None
    gc_objects: int | None = None
    open_files: int | None = None
    gpu: None = None

    @property
    def percent(self) -> float:
        """The working set as percent of the limit."""
        return 100.0 * self.working_set / max(1, self.limit)  # a limit can be lowered to nothing

    @property
    def rss_mb(self) -> float:
        """Resident memory in MiB."""
        return self.rss / MIB

    @property
    def vms_mb(self) -> float:
        """Virtual memory in MiB."""
        return self.vms / MIB

    @property
    def working_set_mb(self) -> float:
        """Working set in MiB."""
        return self.working_set / MIB

    @property
    def available_system_mb(self) -> float:
        """What the machine could still give, in MiB."""
        return self.available_system / MIB

    @property
    def limit_mb(self) -> float:
        """Limit in MiB."""
        return self.limit / MIB

    @property
    def python_allocated_mb(self) -> float | None:
        """Bytes allocated through Python's allocator, in MiB; None unless tracemalloc runs."""
        return None if self.python_allocated is None else self.python_allocated / MIB

    def as_dict(self) -> dict[str, Any]:
        """The fields and `percent` as JSON-ready values."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields | {"percent": round(self.percent, 2)}


class AlertLevel(StrEnum):
    """How serious an alert is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def severity(self) -> int:
        """0 for `INFO` to 2 for `CRITICAL`, for comparing."""
        return _SEVERITY[self]


_SEVERITY = {level: rank for rank, level in enumerate(AlertLevel)}


class AlertType(StrEnum):
    """What an alert is about."""

    HIGH_MEMORY = "high_memory"
    """Much of the limit is in use, or little headroom is left."""
    RAPID_GROWTH = "rapid_growth"
    """The process has grown, or keeps growing."""
    LOW_SYSTEM_MEMORY = "low_system_memory"
    """The machine has little left."""
    PRESSURE_CHANGE = "pressure_change"
    """The pressure level is another one."""
    SHEDDING = "shedding"
    """Work was refused, or cancelled, for want of memory."""
    BREAKER_CHANGE = "breaker_change"
    """The breaker has opened, and no more work is let in; or it was closed again."""
    RECLAIM = "reclaim"
    """Memory was given back."""
    LIMIT_CHANGED = "limit_changed"
    """The limit is another one; an event, which has no end."""
    SAMPLING_FAILED = "sampling_failed"
    """Memory could not be seen."""
    HANDLER_FAILED = "handler_failed"
    """An alert handler raised or took too long; the others are told."""


class PressureLevel(StrEnum):
    """How short memory is. The levels are ordered, ``LOW < MEDIUM < HIGH < CRITICAL``, and are text for others.

    They compare with each other and with text that names one; other text is a `ValueError`.
    """

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for `LOW` to 3 for `CRITICAL`."""
        return _PRESSURE[self]

    # Text would order them by the alphabet, where `CRITICAL` comes first.
    def __lt__(self, other: str) -> bool:
        return self.rank < PressureLevel(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= PressureLevel(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > PressureLevel(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= PressureLevel(other).rank


_PRESSURE = {level: rank for rank, level in enumerate(PressureLevel)}


class BreakerState(StrEnum):
    """What a memory circuit breaker does with work.

    `WARNING` is a state and no flag beside one: a single word then tells everything to a hook, an alert or a metric.
    Whether all work passes is asked by `is_closed`, which is true of `CLOSED` and `WARNING`.
    """

    CLOSED = "closed"
    """All work passes."""
    WARNING = "warning"
    """All work passes, and there is more in use than there should be."""
    OPEN = "open"
    """No work passes."""
    HALF_OPEN = "half_open"
    """A few pieces of work pass, which show whether the memory suffices."""

    @property
    def is_closed(self) -> bool:
        """Whether all work passes."""
        return self is BreakerState.CLOSED or self is BreakerState.WARNING


class AlertState(StrEnum):
    """Where in its episode an alert is: it begins by `FIRING`, and ends by `RESOLVED`."""

    FIRING = "firing"
    """The condition has begun."""
    ESCALATED = "escalated"
    """It has become more serious: the alert's level is the new one."""
    EASED = "eased"
    """It has become less serious, and is not over."""
    RESOLVED = "resolved"
    """It has ended."""


class AdmissionAction(StrEnum):
    """What admission does about memory."""

    ADMITTING = "admitting"
    """Work is let in as it comes."""
    QUEUEING = "queueing"
    """Work waits for memory."""
    SHEDDING = "shedding"
    """Work was refused for want of memory, in the last seconds."""
    CANCELLING = "cancelling"
    """Work was cancelled to free its memory, in the last seconds."""


class AdmissionOutlook(msgspec.Struct, frozen=True, kw_only=True):
    """What admission holds and does, and what would be without it; the bytes are of the tightest bound.

    Args:
        action: What it does.
        headroom: Bytes that may be promised; negative where more is in use than there is.
        held: Bytes that work in flight is believed to hold.
        reserved: Bytes promised.
        in_flight: Pieces of work that hold a permit.
        queued: Pieces of work that wait.
        rejected: Work refused for want of memory so far.
        evicted: Work cancelled to free its memory so far.
        task_class: The task class to which most is promised; None where nothing is in flight.
        task_class_share: Its share of what is promised, 0 to 1.
        demand: Bytes that would be in use if all that is promised and all that waits in line had been let in.
        exceeds_limit: Whether that is beyond the limit: without admission the process would be killed, or soon.
    """

    action: AdmissionAction
    headroom: int
    held: int
    reserved: int
    in_flight: int
    queued: int
    rejected: int
    evicted: int
    task_class: str | None
    task_class_share: float | None
    demand: int
    exceeds_limit: bool


class MemoryAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An event about memory.

    Args:
        level: How serious.
        alert_type: What it is about.
        state: Where in its episode it is.
        message: One sentence for people, with the numbers.
        timestamp: When, aware and in UTC.
        fingerprint: The same for all alerts of one episode, from the `firing` to the `resolved`.
        rule: The threshold's name, for example ``percent``.
        value: What was measured, in the rule's unit.
        threshold: What it was measured against, in the rule's unit.
        snapshot: The reading that led to it; None for events that have none.
        admission: What admission did about it, and which task class holds most; None where there is no admission.
    """

    level: AlertLevel
    alert_type: AlertType
    message: str
    timestamp: datetime
    fingerprint: str
    state: AlertState = AlertState.FIRING
    rule: str | None = None
    value: float | None = None
    threshold: float | None = None
    snapshot: MemorySnapshot | None = None
    admission: AdmissionOutlook | None = None

    def as_dict(self) -> dict[str, Any]:
        """The alert as JSON-ready values, with ``schema_version``; ``None`` where a field does not apply."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        if self.snapshot is not None:
            fields["snapshot"] = self.snapshot.as_dict()
        return {"schema_version": ALERT_SCHEMA_VERSION} | fields
