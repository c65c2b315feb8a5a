"""When an alert begins, changes its level, and ends: one episode per condition, however often it is looked at.

An episode rises at once, because memory can be gone before the next look. It eases, and ends, only when the condition
has stayed lower for the whole *cooldown*: a value that flaps is one episode, and makes no storm of alerts. What it then
falls to is the worst that was seen meanwhile. Prometheus does the same with ``keep_firing_for``.

Covers one condition. Which level a number belongs to say `rules`; all conditions together are in `episodes`.
"""

from __future__ import annotations

import secrets
from itertools import count
from typing import Final, NamedTuple

from asyncmem.events import AlertLevel, AlertState

__all__ = ["Episode", "Fingerprints", "Step"]

_AT_REST: Final = -1
_LEVELS: Final = tuple(AlertLevel)


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
    """One condition: at rest, or firing at a level.

    Args:
        condition: Its name, with which fingerprints begin.
        fingerprints: Names the episodes.
        cooldown: Seconds for which it must have stayed lower before it eases or ends; 0 to ease at once.
    """

    __slots__ = (
        "_calm_since",
        "_condition",
        "_cooldown",
        "_fingerprint",
        "_fingerprints",
        "_levels",
        "_worst",
        "level",
    )

    def __init__(self, condition: str, fingerprints: Fingerprints, cooldown: float) -> None:
        self._condition: Final = condition
        self._fingerprints: Final = fingerprints
        self._cooldown: Final = cooldown
        self._fingerprint = ""
        self._levels: frozenset[AlertLevel] = frozenset()
        self._calm_since: float | None = None
        self._worst = _AT_REST
        self.level: AlertLevel | None = None
        """The level that was told; None at rest."""

    @property
    def fingerprint(self) -> str:
        """Of the episode that is firing; of the next one where there is none."""
        if not self._fingerprint:
            self._fingerprint = self._fingerprints.new(self._condition)
        return self._fingerprint

    def move(self, level: AlertLevel | None, now: float) -> Step | None:
        """Take in where the condition is now.

        Args:
            level: The level that it is at; None for none.
            now: Monotonic seconds.

        Returns:
            What is to be told of it; None where nothing has changed, or not for long enough.
        """
        before, rank = self.level, _AT_REST if level is None else level.severity
        if before is None:
            return None if level is None else self._tell(AlertState.FIRING, level, {level})
        if level is not None and rank >= before.severity:
            self._calm_since = None
            return None if level is before else self._tell(AlertState.ESCALATED, level, {level})
        if self._calm_since is None:
            self._calm_since, self._worst = now, rank
        else:
            self._worst = max(self._worst, rank)
        if now - self._calm_since < self._cooldown:
            return None
        if self._worst == _AT_REST:
            return self._end(before)
        eased = _LEVELS[self._worst]
        return self._tell(AlertState.EASED, eased, {before, eased})

    def _tell(self, state: AlertState, level: AlertLevel, concerned: set[AlertLevel]) -> Step:
        self.level, self._calm_since = level, None
        self._levels |= {level}
        return Step(state, level, self.fingerprint, frozenset(concerned))

    def _end(self, before: AlertLevel) -> Step:
        step = Step(AlertState.RESOLVED, before, self.fingerprint, self._levels)
        self.level, self._calm_since, self._fingerprint, self._levels = None, None, "", frozenset()
        return step
