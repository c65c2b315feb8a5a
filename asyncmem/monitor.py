"""Snapshots of memory: taken now, kept in a bounded history.

Needs no event loop. Who takes them in the background: `runtime`, from the one sampling thread. Not here: alerts on what
they show (`alerts`).
"""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from asyncmem._clock import SystemClock
from asyncmem.events import MemorySnapshot
from asyncmem.limits import LimitFinder
from asyncmem.sampling import default_machine, default_sampler

if TYPE_CHECKING:
    from asyncmem._clock import Clock
    from asyncmem.limits import Limits
    from asyncmem.sampling import MachineSampler, ProcessSampler

__all__ = ["MemoryMonitor", "MonitorStatistics"]


class MonitorStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a `MemoryMonitor` has done and holds."""

    captured: int
    """Snapshots taken so far."""
    kept: int
    """Snapshots in the history."""


class MemoryMonitor:
    """Takes snapshots of this process's memory and of the limit it lives under.

    Args:
        history: Snapshots that are kept; the oldest go first.
        sampler: Reads the process; None for the one that fits this machine.
        machine: Reads the machine; None for the one that fits.
        limits: Knows the bounds; None to find them now.
        clock: Where timestamps come from.

    Raises:
        LimitDiscoveryError: No limit could be read.
    """

    def __init__(
        self,
        *,
        history: int = 3600,
        sampler: ProcessSampler | None = None,
        machine: MachineSampler | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._sampler = default_sampler() if sampler is None else sampler
        self._machine = default_machine() if machine is None else machine
        self._limits: Limits = LimitFinder(sampler=self._sampler) if limits is None else limits
        self._clock = SystemClock() if clock is None else clock
        self._history: deque[MemorySnapshot] = deque(maxlen=history)
        self._lock = threading.Lock()
        self._captured = 0

    def capture_snapshot(self, label: str | None = None) -> MemorySnapshot:
        """Read memory now and keep the reading.

        Args:
            label: A name for this moment; with one the snapshot also counts the collector's objects (46 ms for a
                million) and the open files.

        Raises:
            OSError: The process cannot be read.
        """
        binding = self._limits.binding()
        memory = self._sampler.read()
        labelled = label is not None
        snapshot = MemorySnapshot(
            timestamp=self._clock.now(),
            rss=memory.rss,
            vms=memory.vms,
            working_set=binding.meter.used(),
            available_system=self._machine.available(),
            limit=binding.limit,
            threads=self._sampler.threads(),
            label=label,
            python_allocated=tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else None,
            gc_objects=len(gc.get_objects()) if labelled else None,
            open_files=self._sampler.open_files() if labelled else None,
        )
        with self._lock:
            self._history.append(snapshot)
            self._captured += 1
        return snapshot

    def get_current_snapshot(self) -> MemorySnapshot:
        """The latest snapshot; takes one where there is none yet."""
        with self._lock:
            if self._history:
                return self._history[-1]
        return self.capture_snapshot()

    @property
    def snapshots(self) -> tuple[MemorySnapshot, ...]:
        """The history, oldest first."""
        with self._lock:
            return tuple(self._history)

    def statistics(self) -> MonitorStatistics:
        """What has been taken and is kept."""
        with self._lock:
            return MonitorStatistics(captured=self._captured, kept=len(self._history))
