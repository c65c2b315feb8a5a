"""Whose jump was it: a reading that is far from what was predicted.

No such reading is noise. Something happened that the terms do not know of, and before the reading is taken in,
whoever may have done it is given the freedom to have done it. The variance that each gets is the likelihood that it
was the one times the square of the jump: which is what the variance of «it was he or it was not» is, so the filter
knows afterwards how unsure it is whom it has blamed, and the next arrivals and departures settle it.

A task that adds or gives back is one explanation. The other is open at departures only: what had been taken for the
memory of others was that of the one that has just left, or the reverse. Then not a term is loosened but a
*direction*: one up, the others down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from asyncmem.admission.learning.crowds import Crowd
    from asyncmem.admission.learning.tracks import Track
    from asyncmem.stats import SumFilter, SumTerm

__all__ = ["Suspects", "let_loose"]

_BASE_SHARE: Final = 0.001
"""Of a jump, for the base: caches that are filled at once."""
_BASE_SWAP: Final = 0.05
"""The same at a departure: what stays behind a task that has left is the base's from then on."""
_CROWD: Final = 0.1
_WRONG: Final = 0.3
"""How likely it is that a task that leaves was not taken for what it was."""
_OTHER: Final = 0.05
"""How likely it is that another jumps in the same interval."""
_NOBODY: Final = 1e-9


class Suspects(NamedTuple):
    """Who may have caused a jump."""

    base: SumTerm
    """The term that stands for no task."""
    tracks: Collection[Track]
    """Tasks in flight."""
    crowds: Collection[Crowd]
    """Further ones."""
    departed: Collection[Track]
    """Tasks that have left since the last sample."""


def let_loose(terms: SumFilter, error: float, suspects: Suspects) -> None:
    """Let whoever may have caused a jump have caused it; between `expect` and `correct`.

    Args:
        terms: The filter.
        error: The jump, in MiB; not 0.
        suspects: Who may have been it.
    """
    base, tracks, crowds, departed = suspects
    jump = abs(error)
    square = error * error
    weights = [0.0] * len(terms.terms)
    for track in tracks:
        weights[track.term.index] = track.may_rise(jump) if error > 0.0 else track.may_fall(jump)
    for crowd in crowds:
        weights[crowd.term.index] = _CROWD / jump if crowd.count else 0.0
    total = sum(weights)
    weights[base.index] = _BASE_SHARE * total + _NOBODY
    if departed:
        other = 0.01 + _OTHER * jump * total
        wrong = _WRONG * max([track.may_have_held(track.term.value - error) for track in departed])
        swapped = wrong / (wrong + other)
        _let_swap(terms, error, swapped * square, weights, suspects)
        square *= 1.0 - swapped
    scale = square / sum(weights)
    terms.loosen(
        [
            w * scale / t.coefficient**2 if w and t.coefficient > 0.0 else 0.0
            for w, t in zip(weights, terms.terms, strict=True)
        ]
    )


def _let_swap(terms: SumFilter, error: float, variance: float, weights: list[float], suspects: Suspects) -> None:
    """What was thought to be held by the others may have been held by those that have just left, or the reverse."""
    base, tracks, crowds, departed = suspects
    jump = abs(error)
    direction = [0.0] * len(weights)
    for track in tracks:
        index = track.term.index
        if error > 0.0:
            direction[index] = -weights[index] * jump
        else:
            # One that holds less than is missing can hardly have been credited with it.
            direction[index] = -(min(1.0, max(track.term.value, 0.0) / jump) ** 2)
    for crowd in crowds:
        direction[crowd.term.index] = -min(max(crowd.term.value, 0.0), _CROWD)
    direction[base.index] = _BASE_SWAP * sum(direction) - _NOBODY
    total = -sum([step * t.coefficient for step, t in zip(direction, terms.terms, strict=True)])
    direction = [step / total for step in direction]
    gone = sum([max(0.0, track.term.value) for track in departed])
    for track in departed:
        # Too much was thought of those that were thought to hold much; too little, of anyone.
        share = max(0.0, track.term.value) / gone if error > 0.0 and gone > 0.0 else 1.0 / len(departed)
        direction[track.term.index] = share
    terms.doubt(direction, variance)
