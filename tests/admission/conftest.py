"""A controller on memory and time that are set by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asyncmem.admission import AdmissionController
from asyncmem.sampling import LiveMeter
from asyncmem.testing import ManualClock, SyntheticLimits, SyntheticSampler
from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable


class Memory(SyntheticSampler):
    """A process whose memory takes time to change: 21 ms, so that an earlier reading of it counts no more."""

    def __init__(self, working_set: str, clock: ManualClock) -> None:
        self._clock = clock
        super().__init__(working_set)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "used":
            self._clock.advance(0.021)


class World:
    """A controller over 1000 MiB of which 100 are in use; no guard band, so that the sums are plain."""

    def __init__(
        self, limit: str = "1000MiB", *, used: str = "100MiB", enforced: bool = True, **kwargs: object
    ) -> None:
        self.clock = ManualClock()
        self.memory = Memory(used, self.clock)
        self.limits = SyntheticLimits(self.memory, limit, enforced=enforced)
        self.controller = AdmissionController(
            lambda: self.limits.bounds,
            own=LiveMeter(self.memory, free=lambda: 0, timer=lambda: 0.0, cpu=lambda: 0.0),
            clock=self.clock,
            **{"guard": 0} | kwargs,  # type: ignore[arg-type]
        )

    def run_alone(self, task_class: str, peak_mib: int, times: int = 1) -> None:
        """Run tasks of a class one after the other, each with the same peak."""
        for _ in range(times):
            permit = self.controller.acquire_nowait(task_class)
            self.memory.used += peak_mib * MIB
            self.controller.sample()
            self.memory.used -= peak_mib * MIB
            self.clock.advance(0.1)
            permit.record()


@pytest.fixture
def world() -> Callable[..., World]:
    """Makes a world."""
    return World
