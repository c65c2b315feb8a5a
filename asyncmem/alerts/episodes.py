"""From snapshots to transitions: which conditions began, changed their level, or ended.

One condition gives one *episode*: an alert when it begins, one at each change of its level, one when it has ended, all
with the same fingerprint. An episode ends, and its level falls, only when the value is back past the threshold by the
margin that `asyncmem.alerts.rules` gives. Nothing here delivers or locks; that is the manager's part.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import NamedTuple

from asyncmem.alerts.rules import RULES, Rule, Threshold, settled, threshold_for, worst
from asyncmem.errors import ConfigError
from asyncmem.events import AlertLevel, AlertState, MemoryAlert, MemorySnapshot

__all__ = ["Episodes", "Judgement", "Transition"]


class Transition(NamedTuple):
    """An alert to be told, and the levels whose receivers it concerns."""

    alert: MemoryAlert
    levels: frozenset[AlertLevel]
    """The alert's level; for the end of an episode all levels that it was at, so that who heard of it hears the end."""


class Judgement(NamedTuple):
    """What one snapshot says."""

    firing: list[MemoryAlert]
    """An alert for each rule that has a threshold passed by this snapshot, hysteresis aside."""
    transitions: list[Transition]
    """What has changed since the snapshot before."""


@dataclass(slots=True)
class _Episode:
    alert: MemoryAlert
    levels: frozenset[AlertLevel]


class Episodes:
    """The thresholds that are set, and the episodes that are firing.

    Args:
        thresholds: Those to begin with.
    """

    __slots__ = ("_firing", "_numbers", "_origin", "_thresholds")

    def __init__(self, thresholds: Iterable[Threshold] = ()) -> None:
        self._thresholds = {(threshold.rule, threshold.level): threshold for threshold in thresholds}
        self._firing: dict[str, _Episode] = {}
        # Two processes, or two runs of one, never use the same fingerprint for two episodes.
        self._origin = secrets.token_hex(4)
        self._numbers = count(1)

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """Those that are set, by rule and level."""
        return tuple(threshold for rule in RULES.values() for threshold in self._of(rule))

    @property
    def active(self) -> tuple[MemoryAlert, ...]:
        """The latest alert of each episode that is firing."""
        return tuple(self._firing[name].alert for name in RULES if name in self._firing)

    def set_threshold(self, level: AlertLevel, values: Mapping[str, float | None]) -> None:
        """Set or replace a threshold.

        Args:
            level: The level.
            values: By the name of the rule; exactly one is not None.

        Raises:
            ConfigError: None or several values, or one that `rules.threshold_for` refuses.
        """
        given = {name: value for name, value in values.items() if value is not None}
        if len(given) != 1:
            got = ", ".join(f"{name}={value!r}" for name, value in given.items()) or "none"
            raise ConfigError(f"a threshold is about one thing: got {got}; expected exactly one of {', '.join(values)}")
        ((name, value),) = given.items()
        self._thresholds[name, level] = threshold_for(RULES[name], level, value, self._thresholds.values())

    def would_raise(self, rule: str, value: float) -> bool:
        """Whether `judge` would begin an episode of the rule at this value, or raise its level."""
        episode = self._firing.get(rule)
        reached = -1 if episode is None else episode.alert.level.severity
        passed = worst(self._of(RULES[rule]), value)
        return passed is not None and passed.level.severity > reached

    def judge(self, snapshot: MemorySnapshot, now: datetime) -> Judgement:
        """Judge one snapshot and move the episodes on."""
        judgement = Judgement([], [])
        for rule in RULES.values():
            thresholds = self._of(rule)
            value = rule.read(snapshot) if thresholds else None
            if value is None:
                continue
            episode = self._firing.get(rule.name)
            passed = worst(thresholds, value)
            at = settled(thresholds, value, episode.alert.level if episode else None)
            if episode is None and at is None:
                continue
            fingerprint = episode.alert.fingerprint if episode else self._new_fingerprint(rule)
            alert = None if passed is None else _alert(passed, value, snapshot, now, fingerprint=fingerprint)
            if alert is not None:
                judgement.firing.append(alert)
            if at is None:
                judgement.transitions.append(self._end(rule, value, snapshot, now))
            elif episode is None or at.level is not episode.alert.level:
                told = (
                    alert
                    if alert is not None and at is passed
                    else _alert(at, value, snapshot, now, fingerprint=fingerprint)
                )
                seen = episode.levels if episode else frozenset()
                self._firing[rule.name] = _Episode(told, seen | {told.level})
                judgement.transitions.append(Transition(told, frozenset({told.level})))
        return judgement

    def _of(self, rule: Rule) -> list[Threshold]:
        return [found for level in AlertLevel if (found := self._thresholds.get((rule.name, level))) is not None]

    def _end(self, rule: Rule, value: float, snapshot: MemorySnapshot, now: datetime) -> Transition:
        episode = self._firing.pop(rule.name)
        threshold = self._thresholds[rule.name, episode.alert.level]
        alert = _alert(
            threshold, value, snapshot, now, fingerprint=episode.alert.fingerprint, state=AlertState.RESOLVED
        )
        return Transition(alert, episode.levels)

    def _new_fingerprint(self, rule: Rule) -> str:
        return f"{rule.name}-{self._origin}-{next(self._numbers)}"


def _alert(
    threshold: Threshold,
    value: float,
    snapshot: MemorySnapshot,
    now: datetime,
    *,
    fingerprint: str,
    state: AlertState = AlertState.FIRING,
) -> MemoryAlert:
    rule = RULES[threshold.rule]
    return MemoryAlert(
        level=threshold.level,
        alert_type=rule.alert_type,
        state=state,
        message=_message(rule, threshold, value, state),
        timestamp=now,
        fingerprint=fingerprint,
        rule=rule.name,
        value=value,
        threshold=threshold.value,
        snapshot=snapshot,
    )


def _message(rule: Rule, threshold: Threshold, value: float, state: AlertState) -> str:
    bad, good = ("below", "above") if rule.falling else ("above", "below")
    measured = f"{rule.subject} {value:.1f} {rule.unit}"
    if state is AlertState.RESOLVED:
        return f"{measured} again, {good} {threshold.release:g}, where the {threshold.level} alert ends"
    if threshold.passed_by(value):
        return f"{measured}, {bad} the {threshold.level} threshold of {threshold.value:g}"
    return f"{measured}, not yet {good} {threshold.release:g}, where the {threshold.level} alert ends"
