"""Snapshots without a runtime and without a loop."""

from __future__ import annotations

import threading
import tracemalloc
from datetime import timedelta

import pytest

from asyncmem import MemoryMonitor
from asyncmem.testing import ManualClock, SyntheticLimits, SyntheticSampler
from asyncmem.units import MIB


def synthetic(history: int = 10) -> tuple[MemoryMonitor, SyntheticSampler, ManualClock]:
    """A monitor of 100 of 1000 MiB, its memory and its time."""
    memory, clock = SyntheticSampler("100MiB"), ManualClock()
    limits = SyntheticLimits(memory, "1000MiB")
    return MemoryMonitor(history=history, sampler=memory, machine=memory, limits=limits, clock=clock), memory, clock


def test_the_current_snapshot_is_the_latest_and_taken_where_there_is_none() -> None:
    """Asking again takes no other."""
    monitor, memory, _ = synthetic()
    first = monitor.get_current_snapshot()
    assert first.working_set == 100 * MIB
    memory.used = 0
    assert monitor.get_current_snapshot() is first
    assert monitor.statistics().captured == 1
    second = monitor.capture_snapshot()
    assert monitor.get_current_snapshot() is second
    assert monitor.snapshots == (first, second)


def test_snapshots_carry_the_clocks_time() -> None:
    """So that a series can be told apart from its intervals."""
    monitor, _, clock = synthetic()
    first = monitor.capture_snapshot()
    clock.advance(5)
    assert monitor.capture_snapshot().timestamp - first.timestamp == timedelta(seconds=5)


def test_a_process_that_cannot_be_read_is_an_os_error() -> None:
    """And leaves no snapshot."""
    monitor, memory, _ = synthetic()
    memory.error = ProcessLookupError("gone")
    with pytest.raises(OSError, match="gone"):
        monitor.capture_snapshot()
    assert monitor.snapshots == ()


def test_a_real_process_by_default() -> None:
    """Limit, machine and process are found; nothing is started for it."""
    threads = set(threading.enumerate())
    snapshot = MemoryMonitor().capture_snapshot("now")
    assert snapshot.working_set > 0
    assert 0 < snapshot.rss < snapshot.vms
    assert snapshot.available_system > 0
    assert snapshot.limit > snapshot.rss
    assert snapshot.threads >= 1
    assert snapshot.open_files is not None
    assert snapshot.open_files > 2
    assert snapshot.python_allocated is None
    assert set(threading.enumerate()) <= threads


def test_traced_allocations_are_in_the_snapshot() -> None:
    """Only while they are traced."""
    monitor, _, _ = synthetic()
    tracemalloc.start()
    try:
        block = bytearray(3 * MIB)
        traced = monitor.capture_snapshot().python_allocated
    finally:
        tracemalloc.stop()
    assert traced is not None
    assert traced >= len(block)
    assert monitor.capture_snapshot().python_allocated is None
