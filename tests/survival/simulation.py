"""The survival benchmark's workloads in simulated time, on synthetic memory, with the product's own admission.

Events in order of time: requests arrive, take their memory step by step and leave; the watcher looks. Nothing waits and
nothing is random but by the seed, so that a run takes a tenth of a second and hundreds of seeds show what is rare.
Handlers take their memory in steps of a coroutine that are measured, or (`stepped=False`) as threads do, where only
samples of the whole tell.
"""

from __future__ import annotations

import heapq
import itertools
import random
from typing import TYPE_CHECKING, Final

from asyncmem import Priority
from asyncmem._wakeup import ThreadWakeup
from asyncmem.admission import STEPPED_FROM, AdmissionController
from asyncmem.errors import AdmissionRejected
from asyncmem.sampling import LiveMeter
from asyncmem.testing import ManualClock, SyntheticLimits, SyntheticSampler
from tests.benchmarks._survival.values import MIB
from tests.benchmarks._survival.workloads import make

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.admission import Permit
    from asyncmem.admission.waiting import Applicant

BASE: Final = 33 * MIB
"""What the process holds by itself."""
TOUCH: Final = 0.00025
"""Seconds in which a MiB of fresh memory is touched."""
PARTS: Final = 4
"""A step takes its memory in so many parts."""
LATE: Final = 0.001
"""The watcher comes so many seconds late on average."""
SOONEST: Final = 0.002
BODY_FACTOR: Final = 2
"""A body lies in memory twice while it is read."""
WAKE_SECONDS: Final = 0.010
BEGUN: Final = MIB // 4
LOWERING_SECONDS: Final = 0.05
"""A lower limit that is refused, being below what is in use, is tried again after so many seconds."""


class Simulation:
    """One workload with one seed.

    Args:
        workload: Its name.
        seed: Places the requests.
        stepped: Handlers are measured in their own steps.
        slower: Times as long that they hold what they take.
    """

    def __init__(self, workload: str, seed: int, *, stepped: bool = True, slower: float = 1) -> None:
        self.workload = make(workload, seed)
        self._slower = slower
        self.in_time = self.late = self.refused = self.cancelled = 0
        self.killed_at: float | None = None
        self.peak = 0
        self._looked_at = -1.0
        self._next_look: float | None = None
        self._stepped = stepped
        self._random = random.Random(f"{workload}/{seed}")  # noqa: S311 - reproducible
        self._clock = ManualClock()
        self._begin = self._clock.monotonic()
        self._memory = SyntheticSampler(BASE)
        self._limit = self.workload.limit
        self._limits = limits = SyntheticLimits(self._memory, self._limit)
        own = LiveMeter(self._memory, free=lambda: 0, timer=self._clock.monotonic, cpu=lambda: 0.0)
        self.admission = AdmissionController(lambda: limits.bounds, own=own, clock=self._clock)
        self.admission.on_first = lambda: self._look_at(self.now + WAKE_SECONDS)
        self.admission.on_begun = lambda: self._look_at(max(self.now, self._looked_at + SOONEST))
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._count = itertools.count()
        self._waiting: dict[Applicant, int] = {}
        self._held: dict[Permit, int] = {}

    @property
    def now(self) -> float:
        """Seconds since the begin."""
        return self._clock.monotonic() - self._begin

    def run(self) -> Simulation:
        """Until the last request has left, or the limit was passed."""
        for index, request in enumerate(self.workload.requests):
            self._at(request.at, lambda index=index: self._arrive(index))  # type: ignore[misc]
        if (lowered := self.workload.environment.lowered) is not None:
            self._at(lowered[0], lambda: self._lower(lowered[1]))
        while self._events and self.killed_at is None:
            at, _, event = heapq.heappop(self._events)
            self._clock.advance(max(0.0, at - self.now))
            event()
        return self

    def _at(self, at: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._events, (at, next(self._count), event))

    # -- the watcher --------------------------------------------------------------------------------------------------

    def _look_at(self, at: float) -> None:
        if self._next_look is None or at < self._next_look:
            self._next_look = at
            self._at(at, lambda: self._look(at))

    def _look(self, due: float) -> None:
        if self._next_look != due:  # another one has come before it
            return
        self._next_look, self._looked_at = None, self.now
        if self._limits.refresh():
            self.admission.adopt_bounds()
        period = self.admission.sample()
        if period is not None:
            self._look_at(self.now + max(period, SOONEST) + self._random.expovariate(1 / LATE))
        self._start_admitted()

    def _lower(self, limit: int) -> None:
        """As the kernel does it: refused while more is in use."""
        if self._memory.used > limit:
            self._at(self.now + LOWERING_SECONDS, lambda: self._lower(limit))
            return
        self._limit = limit
        self._limits.resize(limit)

    # -- requests -----------------------------------------------------------------------------------------------------

    def _arrive(self, index: int) -> None:
        request = self.workload.requests[index]
        try:
            waiter, _, _ = self.admission._waiting.join(
                request.route, None, Priority.NORMAL, None, float(request.body), ThreadWakeup
            )
        except AdmissionRejected:
            self.refused += 1
            return
        self._waiting[waiter] = index
        self._start_admitted()

    def _start_admitted(self) -> None:
        for waiter in [waiter for waiter in self._waiting if waiter.admitted or waiter.error]:
            index = self._waiting.pop(waiter)
            if waiter.error:
                self.refused += 1
                continue
            self.admission._gate.take(waiter)
            self._start(index, self.admission._taken(waiter))

    def _start(self, index: int, permit: Permit) -> None:
        request = self.workload.requests[index]
        work = request.work
        is_stepped = self._stepped and permit.reserved >= STEPPED_FROM
        if is_stepped:
            permit.taken = permit.measured = 0
        body, part = BODY_FACTOR * request.body, work.memory // work.steps // PARTS
        permit.canceller = self
        self._take(permit, body, is_stepped)
        begin, hold = self.now + work.pause, work.hold * self._slower
        for step in range(work.steps):
            for number in range(1, PARTS + 1):
                self._at(
                    begin + step * hold / work.steps + number * part / MIB * TOUCH,
                    lambda last=number == PARTS: self._touch(permit, part, is_stepped, last),  # type: ignore[misc]
                )
        self._at(begin + hold, lambda: self._end(index, permit))

    def cancel(self, permit: Permit) -> None:
        """As its canceller: the work ends at its next step."""
        self._at(self.now + TOUCH, lambda: self._end(None, permit))

    def _touch(self, permit: Permit, part: int, is_stepped: bool, is_last: bool) -> None:
        """A part of a step; only when it is over does the permit say what it has taken."""
        if permit not in self._held:
            return
        self._take(permit, part, is_stepped=False)
        if not is_stepped:
            return
        permit.is_stepping = not is_last
        if is_last:
            before, permit.taken = permit.taken, permit.taken + PARTS * part
            permit.measured = max(permit.measured, permit.taken)
            if before < BEGUN <= permit.taken:
                self.admission._has_begun()

    def _take(self, permit: Permit, size: int, is_stepped: bool) -> None:
        self._memory.used += size
        self._held[permit] = self._held.get(permit, 0) + size
        if is_stepped:
            permit.taken += size
            permit.measured = max(permit.measured, permit.taken)
        self.peak = max(self.peak, self._memory.used)
        if self._memory.used > self._limit and self.killed_at is None:
            self.killed_at = self.now

    def _end(self, index: int | None, permit: Permit) -> None:
        if permit not in self._held:
            return
        self._memory.used -= self._held.pop(permit)
        permit.record()
        if index is None:
            self.cancelled += 1
        elif self.now - self.workload.requests[index].at <= self.workload.deadline:
            self.in_time += 1
        else:
            self.late += 1
        self._start_admitted()
