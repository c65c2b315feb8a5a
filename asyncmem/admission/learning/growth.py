"""How much tasks of one class still add: by their age, and by what they hold.

By age it is an upper bound for all, relative to the expected peak; it says what those in flight may still add.

By what they hold, tasks of one class that turn out differently can be told apart. Where one request in ten needs forty
times as much as the others, the nine show early that they are none of these: of all that were ever seen to hold as much
as they do, none went on to need more. What they have reserved beyond that is free for others. How long they have been
running plays no part in it: a dependency that hangs changes that for all of them, and what they need for none.
"""

from __future__ import annotations

from math import frexp, inf, sqrt
from typing import TYPE_CHECKING, Final

from asyncmem.admission.learning.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Growth", "kind_of"]

_RATE: Final = 0.1
"""Weight of the last task in what is followed with exponential forgetting."""
_SHARE_MOST: Final = 64.0
"""Shares beyond that say only that the expectation was wrong."""
_LEAST: Final = 5
"""Tasks from which on what tasks of an age add is believed."""
_UNKNOWN: Final = 2.0
_BEGUN: Final = 0.25
"""Tasks that hold less than this have not begun; from here on those within a factor of four are of one kind."""
_WINDOW: Final = 64
"""Counted are the last one or two times so many tasks of a kind."""
_ENOUGH: Final = 32
"""Tasks of a kind from which on it is believed what they came to need."""


def kind_of(level: float) -> int:
    """The kind of a task that holds so much, from 0."""
    return 0 if level < _BEGUN else 1 + max(0, frexp(level / _BEGUN)[1] - 1) // 2


class Growth:
    """What tasks of one class have added."""

    __slots__ = ("_kinds", "_stages", "_upper")

    def __init__(self) -> None:
        self._stages: list[tuple[int, float, float]] = [(0, 1.0, 0.0)] * STAGES
        """How many have taught it, mean and variance."""
        self._upper = [_UNKNOWN] * STAGES
        self._kinds: tuple[dict[int, _Tops], dict[int, _Tops]] = {}, {}
        """In MiB, and relative to what the size lets expect: whether it matters may be believed for a while only."""

    def learn(self, stage: int, added: float) -> None:
        """A task has added so much after the begin of a stage, relative to its expected peak."""
        count, mean, variance = self._stages[stage]
        rate = max(_RATE, 1.0 / (1 + count)) if count else 1.0
        off = min(added, _SHARE_MOST) - mean
        mean, variance = mean + rate * off, (1.0 - rate) * (variance + rate * off * off)
        self._stages[stage] = count + 1, mean, variance
        if count + 1 >= _LEAST:
            self._upper[stage] = mean + 2.0 * sqrt(variance)

    def learn_peak(self, kinds: int, peak: float, *, sized: bool) -> None:
        """A task that was of these kinds, one after another, came to need so much.

        Args:
            kinds: One bit for each `kind_of`.
            peak: MiB; where the input has a size that matters, relative to what that lets expect.
            sized: Which of both.
        """
        known, kind = self._kinds[sized], 0
        while kinds:
            if kinds & 1:
                tops = known.get(kind)
                if tops is None:
                    tops = known[kind] = _Tops()
                tops.add(peak)
            kinds >>= 1
            kind += 1

    def upper(self, stage: int) -> float:
        """What a task may still add from a stage on; upper quantile."""
        return self._upper[stage]

    def highest(self, least: float, most: float, *, sized: bool) -> float:
        """What those came to need that held about as much; infinite while there were few.

        Args:
            least: What is held, as `kind_of` was asked when it was learned; units as of `learn_peak`.
            most: What may be held in truth. Of all kinds in between the one that came to need most counts.
            sized: As of `learn_peak`.
        """
        known, found = self._kinds[sized], 0.0
        for kind in range(kind_of(least), kind_of(most) + 1):
            tops = known.get(kind)
            found = max(found, inf if tops is None else tops.second())
        return found

    def saved(self) -> list[tuple[int, float, float]]:
        """What is worth keeping over a restart: by stage how many have taught it, mean and variance."""
        return list(self._stages)

    def restore(self, stages: Iterable[tuple[int, float, float]]) -> None:
        """Begin with what was saved; it is soon overruled."""
        for stage, (count, mean, variance) in enumerate([*stages][:STAGES]):
            self._stages[stage] = min(count, _LEAST), mean, variance
            if count >= _LEAST:
                self._upper[stage] = mean + 2.0 * sqrt(variance)


class _Tops:
    """The second highest of the last one or two windows; one outlier may be what was taken for another's."""

    __slots__ = ("_before", "_count", "_tops")

    def __init__(self) -> None:
        self._count = 0
        self._tops = self._before = (0.0, 0.0)

    def add(self, value: float) -> None:
        if self._count and self._count % _WINDOW == 0:
            self._tops, self._before = (0.0, 0.0), self._tops
        self._count += 1
        first, second = self._tops
        if value > second:
            self._tops = (value, first) if value > first else (first, value)

    def second(self) -> float:
        if self._count < _ENOUGH:
            return inf
        return sorted((*self._tops, *self._before))[-2]
