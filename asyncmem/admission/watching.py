"""Looks at memory while work is in flight: learns from what it holds, defends it, and admits those that now fit.

The watcher's thread calls `Watching.sample`, and is told when to come again. Where there is none (monitoring switched
off), those that wait and those that end look themselves, by `look` and `glance`. What a look finds out is used by
`learning` (costs), `headroom` (what is used beside the tasks) and `defence` (what to do when memory is short).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asyncmem.admission.waiter import Waiter
from asyncmem.sampling import GrowthRate, next_period
from asyncmem.sampling.forks import forget_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem._protocols import GrowthMeter
    from asyncmem.admission.defence import Defence, Measures
    from asyncmem.admission.gate import Gate
    from asyncmem.admission.headroom import Headroom
    from asyncmem.admission.learning import CostModel
    from asyncmem.admission.permit import Permit
    from asyncmem.errors import AdmissionRejected

__all__ = ["Watching"]

_GLANCE_SECONDS: Final = 0.010
"""Where nobody samples, ends of tasks do, as often as this."""
_LOOK_SECONDS: Final = 0.050
"""And those that wait do, as often as this."""
_ABANDONED_SECONDS: Final = 0.1
"""Those that wait are asked as often as this whether they still do."""
_BUSY_SECONDS: Final = 0.010
"""Longest time between two samples while work is in flight."""
_LIGHT_SECONDS: Final = 0.050
"""The same while it holds hardly anything."""
_LIGHT_SHARE: Final = 100


class Watching:
    """Samples one process.

    Args:
        gate: Whose work is in flight.
        headroom: What there is.
        costs: What is learned.
        defence: What to do when memory is short.
        own: Measures this process alone.
        abandoned: What a waiter is told whose asker has gone.
        clock: Monotonic seconds.
    """

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_abandoned_at",
        "_admitted",
        "_clock",
        "_costs",
        "_defence",
        "_gate",
        "_growth",
        "_headroom",
        "_own",
        "_sampled_at",
        "guessed",
        "holds_much",
        "is_unwatched",
        "learning_errors",
    )

    def __init__(
        self,
        gate: Gate,
        headroom: Headroom,
        costs: CostModel,
        defence: Defence,
        *,
        own: GrowthMeter,
        abandoned: Callable[[], AdmissionRejected],
        clock: Callable[[], float],
    ) -> None:
        self._gate = gate
        self._headroom = headroom
        self._costs = costs
        self._defence = defence
        self._own = own
        self._abandoned = abandoned
        self._clock = clock
        self._sampled_at = self._abandoned_at = clock()
        self._growth = GrowthRate()
        self._admitted = 0
        self.is_unwatched = False
        """Nobody calls `sample`: then those that wait and those that end do, by `look` and `glance`."""
        self.holds_much = False
        """Whether at the last sample work in flight held or might add much, or nobody knew, or somebody waited."""
        self.guessed: dict[Permit, bool] = {}
        """Permits in flight of classes of which nothing was known; whether their cost was declared."""
        self.learning_errors = 0
        """How often the cost model raised: it may be the user's, and keeps no bytes by what it does wrong."""
        self._learn(self._sampled_at)
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Nobody samples in the child until they are called."""
        self._gate.is_asleep = True

    def sample(self) -> float | None:
        """Look, and do what is to be done; returns seconds until the next look, None where there is nothing to see."""
        gate, now = self._gate, self._clock()
        measures = self._measure(now)
        self._defence.take(measures)
        if measures.reclaim and self._defence.foreseen:  # it will be there before the next look
            self._defence.take(self._measure(now))
        if gate.queue and now - self._abandoned_at > _ABANDONED_SECONDS:
            self._abandoned_at = now
            gate.expel(Waiter.is_abandoned, self._abandoned)
        gate.admit_waiting()
        period = self._next_sample(now)
        if period is not None:
            gate.is_asleep = False
        return period

    def _measure(self, now: float) -> Measures:
        gate = self._gate
        with gate.lock, gate.lock.plain:
            gate.is_asleep = True  # until it is known that there is another look soon, whatever fails here
            self._headroom.measure(gate.reserved)
            self._learn(now)
            self._headroom.observe(gate.reserved, known=not self.guessed)
            return self._defence.look(now)

    def look(self) -> None:
        """Sample, if it is time, on behalf of one that waits; where nobody else does."""
        if self._clock() - self._sampled_at > _LOOK_SECONDS:
            self.sample()

    def glance(self, now: float) -> None:
        """Learn, if it is time, from a task's end; where nobody samples. Under the gate's lock."""
        if now - self._sampled_at > _GLANCE_SECONDS:
            self._learn(now)

    def _next_sample(self, now: float) -> float | None:
        deficit = max(self._headroom.deficit(), self._defence.foreseen or -self._headroom.capacity())
        growth = self._growth.update(deficit, now)
        gate = self._gate
        busy = gate.in_flight + len(gate.queue)
        # Work that holds hardly anything is looked at seldom; else a sample should see one event, to learn from it.
        foreseen = self._costs.held + self._costs.to_come
        is_light = not self.guessed and foreseen <= self._headroom.capacity() // _LIGHT_SHARE
        self.holds_much = not is_light or len(gate.queue) > 0
        if not is_light:
            return next_period(-deficit, growth, busy, longest=_BUSY_SECONDS)
        was_busy, self._admitted = gate.admitted > self._admitted, gate.admitted
        return next_period(-deficit, growth, max(busy, was_busy), longest=_LIGHT_SECONDS)

    def _learn(self, now: float) -> None:
        """Sample this process, and charge less for those in flight that turned out to need less than was guessed."""
        self._sampled_at = now
        try:
            if self.guessed:
                self._reprice_guessed()
            self._costs.sample(self._own.sample(), now, self._gate.queue.held_bytes)
        except Exception:  # noqa: BLE001 - a cost model of the user's
            self.learning_errors += 1

    def _reprice_guessed(self) -> None:
        most = self._headroom.most()
        for permit, declared in list(self.guessed.items()):
            if not declared and (price := max(1, permit.known.price(permit.size, most))) < permit.reserved:
                self._gate.reserved -= permit.reserved - price
                permit.reserved = price
            if permit.known.is_known():
                del self.guessed[permit]
