"""When an alert begins, changes its level, and ends: once, however often its condition is looked at.

An episode rises at once, because memory can be gone before the next look. It eases to a level, and ends, only when
the condition was never above that for the whole *cooldown*: a value that flaps is one episode, and makes no storm.
Prometheus does the same with ``keep_firing_for``.

Covers one condition. Which level a number belongs to say `rules`; all conditions together are in `episodes`.
"""

from __future__ import annotations

import math
import secrets
from itertools import count
from typing import Final, NamedTuple

from asyncmem.events import AlertLevel, AlertState

__all__ = ["Episode", "Fingerprints", "Step"]

_AT_REST: Final = -1
_RANKS: Final = range(_AT_REST, len(AlertLevel))


class Fingerprints:
    """Names for episodes; two processes, or two runs of one, never use the same for two episodes."""

    __slots__ = ("_numbers", "_origin")

    def __init__(self) -> None:
        self._origin: Final = secrets.token_hex(4)
        self._numbers: Final = count(1)

    def new(self, condition: str) -> str:
        """A name for a new episode of a condition."""
        return f"{condition}-{self._origin}-{next(self._numbers)}"


class Step(NamedTuple):
    """Something to be told."""

    state: AlertState
    level: AlertLevel
    """For the end of an episode the level that it was at."""
    fingerprint: str
    levels: frozenset[AlertLevel]
    """Whose receivers it concerns: the level's; where it eases also those of the level before; at the end all that it
    was at, so that whoever heard of it hears the end."""


class Episode:
    """One condition from rest to rest: when it was resolved, it is done with.

    Args:
        condition: Its name, with which fingerprints begin.
        fingerprints: Names the episodes.
        cooldown: Seconds for which it must have stayed lower before it eases or ends; 0 to ease at once.
    """

    __slots__ = ("_above", "_cooldown", "_levels", "fingerprint", "level")

    def __init__(self, condition: str, fingerprints: Fingerprints, cooldown: float) -> None:
        self._cooldown: Final = cooldown
        self._levels: frozenset[AlertLevel] = frozenset()
        self._above = dict.fromkeys(_RANKS, -math.inf)
        self.fingerprint: Final = fingerprints.new(condition)
        self.level: AlertLevel | None = None
        """The level that was told; None at rest."""

    def move(self, level: AlertLevel | None, now: float) -> Step | None:
        """Take in where the condition is now.

        Args:
            level: The level that it is at; None for none.
            now: Monotonic seconds.

        Returns:
            What is to be told of it; None where nothing has changed, or not for long enough.
        """
        before, rank = self.level, _AT_REST if level is None else level.severity
        for lower in _RANKS:
            if rank > lower:
                self._above[lower] = now
        if before is None:
            return None if level is None else self._tell(AlertState.FIRING, level, {level})
        if level is before:
            return None
        if level is not None and rank > before.severity:
            return self._tell(AlertState.ESCALATED, level, {level})
        if now - self._above[rank] < self._cooldown:
            return None
        if level is not None:
            return self._tell(AlertState.EASED, level, {before, level})
        self.level = None
        return Step(AlertState.RESOLVED, before, self.fingerprint, self._levels)

    def _tell(self, state: AlertState, level: AlertLevel, concerned: set[AlertLevel]) -> Step:
        self.level = level
        self._levels |= {level}
        return Step(state, level, self.fingerprint, frozenset(concerned))
