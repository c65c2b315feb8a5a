"""What admission says of itself in an alert: what it does about memory, who holds most, and what would be without it.

All numbers of a controller are in `statistics`; here are the few that a person needs who was just woken up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from asyncmem.events import AdmissionAction, AdmissionOutlook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncmem.admission.defence import Defence
    from asyncmem.admission.gate import Gate
    from asyncmem.admission.headroom import Headroom
    from asyncmem.admission.learning import CostModel
    from asyncmem.admission.permit import Permit
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

    __slots__ = (
        "_costs",
        "_defence",
        "_evicted",
        "_evicted_at",
        "_gate",
        "_headroom",
        "_refusals",
        "_rejected",
        "_rejected_at",
    )

    def __init__(self, gate: Gate, headroom: Headroom, costs: CostModel, refusals: Refusals, defence: Defence) -> None:
        self._gate = gate
        self._headroom = headroom
        self._costs = costs
        self._refusals = refusals
        self._defence = defence
        self._rejected = self._evicted = 0
        self._rejected_at = self._evicted_at = -_RECENT

    def take(self, now: float) -> AdmissionOutlook:
        """The outlook now, in monotonic seconds."""
        gate, headroom = self._gate, self._headroom
        rejected, evicted = self._refusals.short_of_memory(), self._defence.evicted
        if rejected > self._rejected:
            self._rejected, self._rejected_at = rejected, now
        if evicted > self._evicted:
            self._evicted, self._evicted_at = evicted, now
        task_class, share = self._heaviest()
        free = headroom.free(gate.reserved, 0)
        demand = headroom.capacity() - free + gate.queue.wanted
        return AdmissionOutlook(
            action=self._action(now),
            headroom=free,
            reserved=gate.reserved,
            in_flight=gate.in_flight,
            queued=len(gate.queue),
            rejected=rejected,
            evicted=evicted,
            task_class=task_class,
            task_class_share=share,
            demand=demand,
            exceeds_limit=demand > headroom.tightest().limit,
        )

    def _action(self, now: float) -> AdmissionAction:
        if now - self._evicted_at < _RECENT:
            return AdmissionAction.CANCELLING
        if now - self._rejected_at < _RECENT:
            return AdmissionAction.SHEDDING
        return AdmissionAction.QUEUEING if self._gate.queue else AdmissionAction.ADMITTING

    def _heaviest(self) -> tuple[str | None, float | None]:
        """The task class that holds most of what is promised, and its share."""
        by_class: dict[str, int] = {}
        for permit in cast("Sequence[Permit]", self._costs.followed()):
            by_class[permit.task_class] = by_class.get(permit.task_class, 0) + permit.reserved
        if not by_class:
            return None, None
        heaviest = max(by_class, key=by_class.__getitem__)
        return heaviest, round(min(1.0, by_class[heaviest] / max(1, self._gate.reserved)), 4)
