"""The breaker inside admission: it opens at capacity, and is half-open when nothing is in flight."""

from __future__ import annotations

import pytest

from asyncmem import BreakerState, MemoryConfig, MemoryRuntime
from asyncmem.testing import ManualClock, SyntheticLimits, SyntheticSampler
from asyncmem.units import MIB

pytestmark = pytest.mark.anyio


async def test_it_opens_at_capacity_and_never_with_nothing_in_flight() -> None:
    """At each look of the watcher, which is taken by hand here."""
    clock, memory = ManualClock(), SyntheticSampler("100MiB")
    runtime = MemoryRuntime(
        MemoryConfig(guard_band="100MiB", monitoring=False, log_alerts=False),
        sampler=memory,
        machine=memory,
        limits=SyntheticLimits(memory, "1000MiB"),
        clock=clock,
    )

    def look() -> BreakerState:
        clock.advance(0.05)
        runtime._look()
        return runtime.statistics().breaker.state

    async with runtime:
        assert look() is BreakerState.CLOSED
        async with runtime.guard("a", cost="300MiB"), runtime.guard("b", cost="300MiB"):
            memory.used = 950 * MIB
            assert look() is BreakerState.OPEN
            assert runtime.admission.try_acquire("c", cost="1MiB") is None
            (alert,) = [alert for alert in runtime.alerts.active if alert.rule == "breaker"]
            assert alert.admission is not None
            assert alert.admission.task_class in {"a", "b"}
            memory.used = 600 * MIB
            assert look() is BreakerState.HALF_OPEN
            for _ in range(20):
                look()
            assert look().is_closed
        memory.used = 950 * MIB
        assert look() is BreakerState.HALF_OPEN, "nothing is in flight: one piece of work may try"
        async with runtime.guard("d"):
            assert look() is BreakerState.HALF_OPEN
