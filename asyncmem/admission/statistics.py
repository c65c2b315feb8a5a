"""What an `AdmissionController` tells about itself."""

from __future__ import annotations

import msgspec

from asyncmem.admission.learning import TaskClassCost

__all__ = ["AdmissionStatistics"]


class AdmissionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What an `AdmissionController` holds and has done, at one moment."""

    capacity: int
    """Bytes below the guard band of the tightest bound."""
    headroom: int
    """Bytes that may be promised now; negative where more is in use than there is."""
    reserved: int
    """Bytes promised, and what those that wait take by waiting."""
    in_flight: int
    """Permits handed out and not ended."""
    queued: int
    """Waiters for memory."""
    queued_bytes: int
    """Bytes that they take by waiting."""
    admitted: int
    """Permits handed out so far."""
    probes: int
    """Of these, work that did not fit and ran alone."""
    rejected: dict[str, int]
    """Refusals so far by reason."""
    rejected_idle: int
    """Of these, refusals of work that could fit while nothing was in flight; each is a defect."""
    evicted: int
    """Permits whose work was told to end, to free its memory."""
    expected_held: int
    """Bytes that the tasks in flight are believed to hold."""
    expected_to_come: int
    """Bytes that they may still add."""
    unneeded: int
    """Bytes that they have reserved and, as it turned out, will not need: these are promised to others."""
    task_classes: dict[str, TaskClassCost]
    """What is known of each task class."""
    learning_errors: int = 0
    """How often the cost model raised."""
    unreadable: int = 0
    """How often a bound could not be read: then the last reading stands, and the guard band counts twice."""
