"""What is done when memory has entered the guard band: reclaim, then cancel the fewest that free the deficit.

`Emergency` is asked once per sample. The first sample in the guard band asks for reclaim. If the next one still is
there, work that may be cancelled is chosen; then two periods pass, and what it left is reclaimed, before more is.
Afterwards admission comes back by additive increase (`Recovery`), because what drove memory there is likely to come
again.

Cancelling stops no thread and no C call; how work is ended is its `Canceller`'s business.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncmem.admission.permit import Permit

__all__ = ["Emergency", "Phase", "Recovery", "choose_victims"]

_PATIENCE_SECONDS: Final = 0.020
"""Two periods of a busy watcher: cancelled work is given so long to end, and at least two samples."""
_RECOVERY_SECONDS: Final = 2.0
_RECOVERY_SHARE: Final = 2
"""After an emergency this fraction of the capacity is withheld at first, and given back within `_RECOVERY_SECONDS`."""


class Phase(Enum):
    """What a sample calls for."""

    CALM = auto()
    """Nothing."""
    RECLAIM = auto()
    """Give back what can be, at once; memory has just entered the guard band."""
    RECLAIM_AGAIN = auto()
    """Work has ended since, and the allocator may have kept what it held: whoever is next shall not pay for that."""
    CANCEL = auto()
    """It is there still: end work."""
    WAIT = auto()
    """Work was told to end; it is given time to."""


class Emergency:
    """Follows the deficit from sample to sample."""

    __slots__ = ("_has_cancelled", "_patient_samples", "_patient_until", "_reclaimed")

    def __init__(self) -> None:
        self._reclaimed = self._has_cancelled = False
        self._patient_until = 0.0
        self._patient_samples = 0

    def look(self, deficit: int, now: float) -> Phase:
        """What to do at a sample.

        Args:
            deficit: Bytes inside the guard band, 0 or less where memory is not there.
            now: Monotonic seconds.
        """
        if deficit <= 0:
            self._reclaimed = self._has_cancelled = False
            self._patient_samples = 0
            return Phase.CALM
        if self._patient_samples > 0 or now < self._patient_until:
            self._patient_samples = max(0, self._patient_samples - 1)
            return Phase.WAIT
        if not self._reclaimed:
            self._reclaimed = True
            return Phase.RECLAIM_AGAIN if self._has_cancelled else Phase.RECLAIM
        return Phase.CANCEL

    def cancelled(self, now: float) -> None:
        """Work was told to end."""
        self._has_cancelled, self._reclaimed = True, False
        self._patient_until = now + _PATIENCE_SECONDS
        self._patient_samples = 1


def choose_victims(permits: Iterable[Permit], deficit: int) -> list[Permit]:
    """The fewest permits whose end frees `deficit` bytes, of those that may be cancelled.

    The lowest priority goes first, and in it work of which nothing was known when it was let in: what it takes over its
    cost is what nobody foresaw. Of those that free enough alone, the one that frees least is chosen, and of equal ones
    the newest, which has least to lose.

    Args:
        permits: Those in flight that may hold much, oldest first; one that no sample has seen has hardly taken any.
        deficit: Bytes.
    """
    groups: dict[tuple[int, bool], list[Permit]] = {}
    for permit in permits:
        if permit.canceller is not None and permit.is_open and not permit.evicted:
            groups.setdefault((int(permit.priority), not permit.guessed), []).append(permit)
    chosen: list[Permit] = []
    for key in sorted(groups):
        candidates = groups[key]
        candidates.sort(key=_reserved)  # stable: of equals the oldest comes first
        while candidates and deficit > 0:
            enough = [permit for permit in candidates if permit.reserved >= deficit]
            if enough:
                least = enough[0].reserved
                victim = [permit for permit in enough if permit.reserved == least][-1]
                candidates.remove(victim)
            else:
                victim = candidates.pop()
            chosen.append(victim)
            deficit -= victim.reserved
    return chosen


def _reserved(permit: Permit) -> int:
    return permit.reserved


class Recovery:
    """Gives the capacity back step by step after work had to be cancelled."""

    __slots__ = ("_per_second", "_since", "_withheld")

    def __init__(self) -> None:
        self._withheld = 0.0
        self._per_second = 0.0
        self._since = 0.0

    def begin(self, capacity: int, now: float) -> None:
        """Withhold half of the capacity from now on."""
        self._withheld = max(0.0, capacity / _RECOVERY_SHARE)
        self._per_second = self._withheld / _RECOVERY_SECONDS
        self._since = now

    def withheld(self, now: float) -> int:
        """Bytes of the capacity that are not to be given out yet."""
        if self._withheld:
            left = self._withheld - (now - self._since) * self._per_second
            if left <= 0:
                self._withheld = 0.0
            return max(0, int(left))
        return 0
