"""What the breaker reads where nobody tells it: the bound that binds, followed while it changes."""

from __future__ import annotations

from typing import Any

import pytest

from asyncmem.breaker import CircuitBreaker, measuring
from asyncmem.breaker.measuring import BindingBound
from asyncmem.errors import LimitDiscoveryError
from asyncmem.limits import Bound, BoundKind
from asyncmem.sampling import ProcessMeter, default_sampler
from asyncmem.testing import ManualClock, SyntheticLimits, SyntheticSampler


def test_this_process_is_measured_by_itself() -> None:
    """With real memory and a real limit."""
    breaker = CircuitBreaker()
    breaker.look()
    statistics = breaker.statistics()
    assert statistics.used is not None
    assert statistics.limit is not None
    assert statistics.used >= default_sampler().working_set() // 2
    assert statistics.used < statistics.limit
    assert statistics.open_at == pytest.approx(0.75 * statistics.limit, abs=2)


def test_the_bound_with_the_least_left_is_taken() -> None:
    """Not the smallest one; each has its own meter."""
    bounds = []
    for name, used, limit in [("wide", 900, 1000), ("small", 100, 500), ("wider", 100, 2000)]:
        meter = ProcessMeter(SyntheticSampler(used), "working_set")
        bounds.append(Bound(name, BoundKind.CGROUP, limit, name, meter))

    class ThreeLimits(SyntheticLimits):
        def __init__(self) -> None:
            super().__init__(SyntheticSampler(), 0)
            self._next = self.bounds = tuple(bounds)

    assert BindingBound(ThreeLimits())() == (900, 1000)


def test_a_changed_limit_is_seen_within_a_second() -> None:
    """And is not looked for more often."""
    clock, sampler = ManualClock(), SyntheticSampler("40MiB")
    limits = SyntheticLimits(sampler, "100MiB")
    measure = BindingBound(limits, timer=clock.monotonic)
    before = measure()
    limits.resize("50MiB")
    clock.advance(0.9)
    assert measure() == before
    clock.advance(0.2)
    assert measure() == (40 * 2**20, 50 * 2**20)


def test_limits_are_found_at_the_first_use_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at import, not when the breaker is made; and again where none was found."""
    found: list[int] = []

    def find() -> Any:
        found.append(1)
        if len(found) == 1:
            raise LimitDiscoveryError("none")
        return SyntheticLimits(SyntheticSampler(8), 10)

    monkeypatch.setattr(measuring, "LimitFinder", find)
    breaker = CircuitBreaker(clock=ManualClock())
    assert found == []
    with pytest.raises(LimitDiscoveryError):
        breaker.check()
    breaker.look()
    assert breaker.statistics().used == 8
    assert len(found) == 2


def test_a_process_that_cannot_be_read_is_the_breakers_to_judge() -> None:
    """It raises what the meter raises."""
    sampler = SyntheticSampler()
    sampler.error = OSError("no /proc")
    with pytest.raises(OSError, match="no /proc"):
        BindingBound(SyntheticLimits(sampler, 100))()
