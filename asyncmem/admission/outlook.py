"""What admission says of itself in an alert: what it does about memory, who holds most, and what would be without it.

All numbers of a controller are in `statistics`; here are the few that a person needs who was just woken up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asyncmem.events import AdmissionAction, AdmissionOutlook

if TYPE_CHECKING:
    from asyncmem.admission.defence import Defence
    from asyncmem.admission.gate import Gate
    from asyncmem.admission.headroom import Headroom
    from asyncmem.admission.learning import CostModel
    from asyncmem.admission.refusals import Refusals

__all__ = ["Outlook"]

_RECENT: Final = 10.0
"""Seconds for which work that was refused or cancelled counts as what admission does."""


class Outlook:
    """Takes the outlook of one controller. Called under the gate's lock.

    Args:
        gate: How much is promised and who waits.
        headroom: What there is.
        costs: Knows who may hold much.
        refusals: How much was refused.
        defence: How much was cancelled.
    """

    __slots__ = ("_costs", "_defence", "_gate", "_headroom", "_refusals")

    def __init__(self, gate: Gate, headroom: Headroom, costs: CostModel, refusals: Refusals, defence: Defence) -> None:
        self._gate = gate
        self._headroom = headroom
        self._costs = costs
        self._refusals = refusals
        self._defence = defence

    def take(self, now: float) -> AdmissionOutlook:
        """The outlook now, in monotonic seconds; some 10 µs, and 0.2 more for each task class."""
        gate, headroom = self._gate, self._headroom
        task_class, share = self._heaviest()
        expected = headroom.demand(gate.reserved)
        demand = expected.used + gate.queue.wanted
        return AdmissionOutlook(
            action=self._action(now),
            headroom=headroom.free(gate.reserved, 0),
            held=int(self._costs.held),
            reserved=gate.reserved,
            in_flight=gate.in_flight,
            queued=len(gate.queue),
            rejected=self._refusals.short_of_memory(),
            evicted=self._defence.evicted,
            task_class=task_class,
            task_class_share=share,
            demand=demand,
            exceeds_limit=demand > expected.limit,
        )

    def _action(self, now: float) -> AdmissionAction:
        if now - self._defence.evicted_at < _RECENT:
            return AdmissionAction.CANCELLING
        if now - self._refusals.short_at < _RECENT:
            return AdmissionAction.SHEDDING
        return AdmissionAction.QUEUEING if self._gate.queue else AdmissionAction.ADMITTING

    def _heaviest(self) -> tuple[str | None, float | None]:
        """The task class that was promised most, and its share."""
        promised = self._costs.promised()
        heaviest = max(promised, key=promised.__getitem__, default=None)
        if heaviest is None:
            return None, None
        return heaviest, round(promised[heaviest] / max(1, sum(promised.values())), 4)
