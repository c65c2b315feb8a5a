"""Looks, sample by sample, whether memory has to be defended, and does what can be done about it.

What is called for says `emergency`; here is who does it: reclaim, the cancellers of the chosen permits, and the
headroom that is withheld afterwards.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from asyncmem.admission.emergency import Emergency, Phase, Recovery, choose_victims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncmem.admission.gate import Gate
    from asyncmem.admission.headroom import Headroom
    from asyncmem.admission.learning import CostModel
    from asyncmem.admission.permit import Permit

__all__ = ["Defence", "Measures", "Reclaiming"]


_TIDY_SECONDS: Final = 5.0
"""When nothing has been in flight for so long, what the load has left behind is given back."""


class Reclaiming(Protocol):
    """Gives memory back that nobody uses, as often as is worth it."""

    def __call__(self, *, quiet: bool, force: bool = False) -> object:
        """Do it now, within milliseconds.

        Args:
            quiet: Run nothing that could run code of the user's.
            force: Whether or not it is worth it again so soon.
        """
        ...


class Measures(NamedTuple):
    """What a sample calls for; taken once the gate's lock is free."""

    reclaim: bool
    """Give back what nobody uses."""
    victims: Sequence[Permit] = ()
    """Work that is to end."""
    force: bool = False
    """Reclaim whether or not it is worth it again so soon."""


class Defence:
    """Defends the guard band.

    Args:
        gate: Says how much is in flight and who waits.
        headroom: Says how far memory is inside the guard band, and withholds.
        costs: Knows who may hold much.
        reclaim: Gives memory back; None for nothing.
    """

    __slots__ = (
        "_busy_at",
        "_costs",
        "_emergency",
        "_ending",
        "_gate",
        "_headroom",
        "_is_tidy",
        "_reclaim",
        "_recovery",
        "evicted",
        "evicted_at",
        "foreseen",
    )

    def __init__(self, gate: Gate, headroom: Headroom, costs: CostModel, reclaim: Reclaiming | None) -> None:
        self._gate = gate
        self._headroom = headroom
        self._costs = costs
        self._reclaim = reclaim
        self._emergency = Emergency()
        self._recovery = Recovery()
        self._busy_at = 0.0
        self._is_tidy = True
        self._ending: list[Permit] = []
        self.foreseen = 0
        """Bytes by which memory was expected to run short, at the last look, though it had not yet."""
        self.evicted = 0
        """Permits whose work was told to end."""
        self.evicted_at = -math.inf
        """When that was last, in monotonic seconds."""

    def look(self, now: float) -> Measures:
        """What the last sample calls for. Under the gate's lock."""
        gate = self._gate
        if gate.in_flight or gate.queue:
            self._busy_at, self._is_tidy = now, False
        elif not self._is_tidy and now - self._busy_at > _TIDY_SECONDS:
            self._is_tidy = True
            return Measures(reclaim=True)
        self._ending = [permit for permit in self._ending if permit.is_open]
        promised = gate.reserved - sum([permit.reserved for permit in self._ending])
        self.foreseen = self._headroom.foreseen_deficit(promised)
        deficit = max(self.foreseen, self._headroom.deficit(alone=gate.in_flight <= 1))
        phase = self._emergency.look(deficit, now)
        victims: list[Permit] = []
        if phase is Phase.CANCEL:
            victims = choose_victims(cast("Sequence[Permit]", self._costs.followed()), deficit)
        if victims:
            self._emergency.cancelled(now)
            self._recovery.begin(self._headroom.capacity(), now)
            for victim in victims:
                victim.evicted = True
            self._ending += victims
            self.evicted += len(victims)
            self.evicted_at = now
        self._headroom.withhold(self._recovery.withheld(now))
        reclaim = not victims and (phase is not Phase.CALM or len(gate.queue) > 0)
        return Measures(reclaim, victims, force=phase is Phase.RECLAIM_AGAIN)

    def take(self, measures: Measures) -> None:
        """Do it; without the lock."""
        if measures.reclaim and self._reclaim is not None:
            self._reclaim(quiet=True, force=measures.force)
        for victim in measures.victims:
            canceller = victim.canceller
            if canceller is not None:  # else it has ended meanwhile
                canceller.cancel(victim)
