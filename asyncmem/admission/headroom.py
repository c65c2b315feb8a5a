"""How many bytes may still be promised, from what the kernel will enforce and what is promised already.

For each bound i with limit Lᵢ and guard band Gᵢ the capacity is Cᵢ = Lᵢ − Gᵢ. In use or promised is taken to be

    Eᵢ = P + max(Bᵢ, Xᵢ)

with P the bytes promised, Bᵢ the floor, and Xᵢ what is used beyond all promises: the largest Uᵢ − P of the last tenth
of a second, Uᵢ being the bytes used. P covers memory that appears only after the decision; X covers leaks, neighbours,
and work that takes more than it reserved, and makes E never less than U. Headroom is the least of Cᵢ − Eᵢ. Memory is
read here, at the moment of decision, so it is never stale.

The floor is what was used when nothing was in flight, or anything less that was seen since: it contains no promise, so
that Cᵢ − Bᵢ is what one piece of work can be given at most. While work in flight has not yet taken all that it
reserved, a neighbour's growth hides behind the difference, until something is taken or nothing is in flight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asyncmem.units import MIB, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncmem._clock import Clock
    from asyncmem.limits import Bound

__all__ = ["Headroom", "guard_band"]

_EXCESS_SECONDS: Final = 0.1
_GUARD_SHARE: Final = 20
_GUARD_LEAST: Final = 64 * MIB
_GUARD_SMALL_SHARE: Final = 8


def guard_band(limit: int, configured: int | str | None = None) -> int:
    """Bytes to keep free below a limit.

    By default 5 % of the limit, and at least 64 MiB or an eighth of the limit, whichever is less: so 32 MiB of a
    container of 256 MiB, which stays usable, 64 MiB from 512 MiB on, and 5 % above 1.25 GiB.

    Args:
        limit: Bytes.
        configured: Bytes or a share of the limit that the user has set instead.

    Returns:
        Bytes, less than the limit.
    """
    if configured is not None:
        return min(parse_bytes(configured, of=limit), limit - 1)
    return max(limit // _GUARD_SHARE, min(_GUARD_LEAST, limit // _GUARD_SMALL_SHARE))


class _Gauge:
    """One bound, its capacity and its floor."""

    __slots__ = ("_excess", "_excess_at", "bound", "capacity", "floor")

    def __init__(self, bound: Bound, guard: int, now: float) -> None:
        self.bound = bound
        self.capacity = bound.limit - guard
        self.settle(now, bound.meter.used())

    def settle(self, now: float, used: int) -> None:
        """Nothing is in flight: what is used now is the floor."""
        self.floor = self._excess = used
        self._excess_at = now

    def take_over(self, old: _Gauge) -> None:
        """The bound is the same, with another limit: keep what is known of it."""
        self.floor = old.floor
        self._excess, self._excess_at = old._excess, old._excess_at

    def base(self, now: float, used: int, reserved: int) -> int:
        """Bytes that no promise covers."""
        self.floor = min(self.floor, used)
        excess = used - reserved
        if excess >= self._excess or now - self._excess_at > _EXCESS_SECONDS:
            self._excess = excess
            self._excess_at = now
        return max(self.floor, self._excess)


class Headroom:
    """The room of the admission controller's gate. Called under the gate's lock.

    Args:
        bounds: Says which bounds there are now.
        guard: The guard band that the user has set; None for the default.
        clock: Where time comes from.
    """

    __slots__ = ("_bounds", "_clock", "_gauges", "_guard", "_seen")

    def __init__(self, bounds: Callable[[], Sequence[Bound]], *, guard: int | str | None, clock: Clock) -> None:
        self._bounds = bounds
        self._guard = guard
        self._clock = clock
        self._seen: Sequence[Bound] = ()
        self._gauges: list[_Gauge] = []
        self.adopt()

    def adopt(self) -> None:
        """Take over the bounds as they are now; floors of those that stay are kept."""
        bounds = self._bounds()
        if bounds is self._seen:
            return
        now = self._clock.monotonic()
        floors = {gauge.bound.name: gauge for gauge in self._gauges}
        gauges = []
        for bound in bounds:
            gauge = _Gauge(bound, guard_band(bound.limit, self._guard), now)
            if (old := floors.get(bound.name)) is not None:
                gauge.take_over(old)
            gauges.append(gauge)
        self._seen, self._gauges = bounds, gauges

    def free(self, reserved: int, wanted: int) -> int:
        """Bytes that may be promised; the slow parts are read again where the quick ones say no."""
        free = self._read(reserved)
        if free < wanted and self._reading_decides(reserved, wanted):
            self.refresh()
            free = self._read(reserved)
        return free

    def _read(self, reserved: int) -> int:
        free = None
        now = self._clock.monotonic()
        for gauge in self._gauges:
            used = gauge.bound.meter.used()
            if reserved == 0:
                if used != gauge.floor:
                    gauge.settle(now, used)
                room = gauge.capacity - used
            else:
                room = gauge.capacity - reserved - gauge.base(now, used, reserved)
            if free is None or room < free:
                free = room
        assert free is not None, "there is always a bound"
        return free

    def _reading_decides(self, reserved: int, wanted: int) -> bool:
        return reserved == 0 or all(gauge.floor + reserved + wanted <= gauge.capacity for gauge in self._gauges)

    def refresh(self) -> None:
        """Read again what the meters build on."""
        for gauge in self._gauges:
            gauge.bound.meter.refresh()

    def observe(self, reserved: int) -> None:
        """Take in a sample of what is used beside so many promised bytes."""
        self._read(reserved)

    def most(self) -> int:
        """Bytes that could be promised if nothing were in flight."""
        return min(gauge.capacity - gauge.floor for gauge in self._gauges)

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
