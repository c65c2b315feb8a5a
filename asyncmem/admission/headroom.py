"""How many bytes may still be promised, from what the kernel will enforce and what is promised already.

For each bound i with limit Lᵢ and guard band Gᵢ the capacity is Cᵢ = Lᵢ − Gᵢ. What will be in use is taken to be

    Eᵢ = max(Bᵢ + P, Uᵢ + T)

with P the bytes promised, less those of which tasks in flight have shown that they will not need them, Bᵢ what is used
beside the tasks in flight, Uᵢ the bytes used now, and T what the tasks in flight may still add, as far as that was
learned from their kind and age. The first term covers memory that appears only after the decision; the second covers
what no promise covers: leaks, neighbours, work that takes more than it reserved. Headroom is the least of Cᵢ − Eᵢ.
Memory is read here, at the moment of decision; a reading serves some milliseconds longer for work that is small beside
the room that it found.

Bᵢ is the lower envelope of Uᵢ less what the tasks are believed to hold, over the last second or two: it follows a leak
under load that never pauses, and a dip of the estimate does not move it. While work runs of which nothing is known yet,
it stays what it was.

Where a bound cannot be read, the last reading stands, promises are counted on top of it, and the guard band counts
twice.

Not here: a single bound, its guard band and its envelope (`gauge`).
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from asyncmem.admission.gauge import Gauge, guard_band
from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncmem._clock import Clock
    from asyncmem.limits import Bound

__all__ = ["Expectation", "Headroom", "Tightest"]

_REUSE_SECONDS: Final = 0.020
"""Age up to which a reading serves, where it found room in plenty."""
_REUSE_RATE: Final = 16 * 1024 * MIB
"""Bytes per second, of the room that it found: one thread fills fresh memory at a sixteenth of this."""
_REUSE_SLACK: Final = 16 * MIB
_REUSE_SHARE: Final = 16
"""A reading is used again while at least this share of the room that it found is left over, and `_REUSE_SLACK`."""
_PRICE_STEP: Final = MIB
"""Waiters are priced anew when the floor has moved by more than this."""
_NOTHING: Final = MIB
"""A piece of work that has taken no more has taken nothing."""
_SEEN_SECONDS: Final = 0.1
"""Age up to which it counts what tasks in flight were seen not to need."""


class Tightest(NamedTuple):
    """The bound of which the least was left at the last sample."""

    used: int
    """Bytes in use."""
    limit: int
    """Bytes."""
    guard: int
    """Bytes of the guard band below the limit."""


class Expectation(Protocol):
    """What is believed of the tasks in flight."""

    @property
    def held(self) -> float:
        """Bytes that they hold."""
        ...

    @property
    def to_come(self) -> float:
        """Bytes that they may still add."""
        ...

    @property
    def unneeded(self) -> float:
        """Bytes that they have reserved and will not need."""
        ...

    @property
    def sampled_at(self) -> float:
        """Monotonic seconds of the reading that this was believed at."""
        ...

    @property
    def version(self) -> int:
        """Another number whenever what a task is charged may have changed."""
        ...


class Headroom:
    """The room of the admission controller's gate. Called under the gate's lock.

    Args:
        bounds: Says which bounds there are now.
        guard: The guard band that the user has set; None for the default.
        clock: Where time comes from.
        tasks: What is believed of the tasks in flight.
    """

    __slots__ = (
        "_bounds",
        "_clock",
        "_gauges",
        "_guard",
        "_measured_at",
        "_most",
        "_seen",
        "_tasks",
        "_version",
        "_withheld",
        "spare",
        "spare_until",
    )

    def __init__(
        self, bounds: Callable[[], Sequence[Bound]], *, guard: int | str | None, clock: Clock, tasks: Expectation
    ) -> None:
        self._bounds = bounds
        self._guard = guard
        self._clock = clock
        self._tasks = tasks
        self._seen: Sequence[Bound] = ()
        self._gauges: list[Gauge] = []
        self._version = 0
        self._measured_at = clock.monotonic()
        self.spare = 0
        """Bytes that may be promised without another reading, until `spare_until`."""
        self.spare_until = -math.inf
        self._withheld = 0
        self.adopt()

    @property
    def unreadable(self) -> int:
        """How often a bound could not be read."""
        return sum(gauge.unreadable for gauge in self._gauges)

    @property
    def gauges(self) -> Sequence[Gauge]:
        """One for each bound."""
        return self._gauges

    def price_version(self) -> int:
        """Another number whenever what a waiter is charged may have changed."""
        return self._version + self._tasks.version

    def adopt(self) -> None:
        """Take over the bounds as they are now; what is known of those that stay is kept."""
        bounds = self._bounds()
        if bounds is self._seen:
            return
        now = self._clock.monotonic()
        known = {gauge.bound.name: gauge for gauge in self._gauges}
        gauges = []
        for bound in bounds:
            old = known.get(bound.name)
            gauge = Gauge(bound, guard_band(bound.limit, self._guard), now, None if old is None else old.last)
            if old is not None:
                gauge.take_over(old)
            gauges.append(gauge)
        self._seen, self._gauges = bounds, gauges
        self._version += 1
        self.spare_until = -math.inf
        self._remember_most()

    def free(self, reserved: int, wanted: int) -> int:
        """Bytes that may be promised; the slow parts are read again where the quick ones say no."""
        free = self._read(reserved, wanted)
        if free < wanted and self._reading_decides(reserved, wanted):
            self.refresh()
            free = self._read(reserved, wanted)
        return free

    def _read(self, reserved: int, wanted: int) -> int:
        free: int | None = None
        most: int | None = None
        now = self._clock.monotonic()
        to_come, promised = int(self._tasks.to_come), self._promised(reserved, now)
        for gauge in self._gauges:
            used = gauge.read()
            if gauge.is_blind:
                room = gauge.capacity - gauge.guard - max(gauge.base + reserved, used + to_come)
            elif reserved == 0:
                self._settle(gauge, now, used)
                room = gauge.capacity - used
            else:
                gauge.base = min(gauge.base, used)
                gauge.floor = min(gauge.floor, used)
                room = gauge.capacity - max(gauge.base + promised, used + to_come)
            if free is None or room < free:
                free = room
            if most is None or gauge.capacity - gauge.floor < most:
                most = gauge.capacity - gauge.floor
        assert free is not None, "there is always a bound"
        assert most is not None
        self._most = most
        free -= self._withheld
        self.spare = free - wanted - max(_REUSE_SLACK, free // _REUSE_SHARE)
        self.spare_until = now + min(_REUSE_SECONDS, self.spare / _REUSE_RATE)
        return free

    def _settle(self, gauge: Gauge, now: float, used: int) -> None:
        if abs(used - gauge.floor) > _PRICE_STEP:
            self._version += 1
        gauge.settle(now, used)

    def _reading_decides(self, reserved: int, wanted: int) -> bool:
        promised = self._promised(reserved, self._clock.monotonic())
        return reserved == 0 or all(gauge.floor + promised + wanted <= gauge.capacity for gauge in self._gauges)

    def _promised(self, reserved: int, now: float) -> int:
        """Of the bytes reserved, those that are needed, or may be: what was seen a while ago is not seen."""
        tasks = self._tasks
        if tasks.unneeded <= 0.0 or now - tasks.sampled_at > _SEEN_SECONDS:
            return reserved
        return reserved - min(reserved, int(tasks.unneeded))

    def refresh(self) -> None:
        """Read again what the meters build on."""
        for gauge in self._gauges:
            with contextlib.suppress(Exception):  # `Gauge.read` finds out, and says so
                gauge.bound.meter.refresh()

    def withhold(self, nbytes: int) -> None:
        """Keep bytes of the capacity back for now: recovery from an emergency."""
        if nbytes != self._withheld:
            self._withheld = nbytes
            self.spare_until = -math.inf

    def measure(self, reserved: int) -> None:
        """Take a sample of what is used beside so many promised bytes; `observe` follows, when it was learned from."""
        self.refresh()
        self._measured_at = self._clock.monotonic()
        for gauge in self._gauges:
            gauge.measure(self._promised(reserved, self._measured_at), self._tasks.to_come)

    def observe(self, reserved: int, *, known: bool) -> None:
        """Draw from the last sample what is used beside the tasks in flight.

        Args:
            reserved: Bytes promised.
            known: Whether it is known of all work in flight what it holds.
        """
        for gauge in self._gauges:
            if reserved == 0:
                self._settle(gauge, self._measured_at, gauge.used)
            else:
                gauge.observe(self._measured_at, self._tasks.held, known=known)
        self._remember_most()

    def tightest(self) -> Tightest:
        """The bound of which the least was left at the last sample."""
        gauge = min(self._gauges, key=lambda gauge: gauge.capacity - gauge.used)
        return Tightest(gauge.used, gauge.bound.limit, gauge.guard)

    def deficit(self, *, alone: bool = False) -> int:
        """Bytes by which the last sample was inside a guard band; negative where it was not.

        Args:
            alone: Count only the last quarter of the band: a single piece of work may use the rest. And count nothing
                where it has taken next to nothing: its end would not help a process that is beyond its limit anyway.
        """
        seen = [gauge for gauge in self._gauges if not gauge.is_blind]  # nobody is to be cancelled for an old reading
        if alone:
            seen = [gauge for gauge in seen if gauge.used - gauge.floor > _NOTHING]
        return max(
            (gauge.used - gauge.capacity - (gauge.guard * 3 // 4 if alone else 0) for gauge in seen),
            default=-self.capacity(),
        )

    def foreseen_deficit(self, reserved: int) -> int:
        """Bytes by which work in flight is expected to pass a limit that was lowered below what it was admitted to.

        0 or less where it is not; then no more is foreseen until a limit is lowered again, for admission sees to that.

        Args:
            reserved: Bytes promised to work that was not told to end.
        """
        lowered = [gauge for gauge in self._gauges if gauge.is_lowered]
        if not lowered:
            return 0
        promised = self._promised(reserved, self._measured_at)
        worst = 0
        for gauge in lowered:
            if gauge.is_blind:  # nobody is to be cancelled for an old reading
                continue
            deficit = gauge.base + promised - gauge.bound.limit
            gauge.is_lowered = deficit > 0
            worst = max(worst, deficit)
        return worst

    def demand(self, reserved: int) -> Tightest:
        """As `tightest`, where what is promised and not yet taken counts as used."""
        now = self._clock.monotonic()
        to_come, promised = int(self._tasks.to_come), self._promised(reserved, now)
        demands = [
            Tightest(max(gauge.base + promised, gauge.used + to_come), gauge.bound.limit, gauge.guard)
            for gauge in self._gauges
        ]
        return min(demands, key=lambda demand: demand.limit - demand.guard - demand.used)

    def most(self) -> int:
        """Bytes that could be promised if nothing were in flight."""
        return self._most

    def _remember_most(self) -> None:
        self._most = min(gauge.capacity - gauge.floor for gauge in self._gauges)

    def capacity(self) -> int:
        """Bytes below the guard band, of the bound that has the fewest."""
        return min(gauge.capacity for gauge in self._gauges)

    def may_run_alone(self, nbytes: int, *, declared: bool) -> bool:
        """Work whose cost is only a guess may always try; what was declared must not run into a limit that kills."""
        return not declared or all(
            gauge.floor + nbytes <= gauge.bound.limit for gauge in self._gauges if gauge.bound.enforced
        )

    def can_never_fit(self, nbytes: int) -> bool:
        """Whether a declared cost is beyond what there is even with nothing in flight, alone and in the guard band."""
        return nbytes > self.most() and not self.may_run_alone(nbytes, declared=True)
