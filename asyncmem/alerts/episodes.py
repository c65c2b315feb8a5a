"""From readings and reports to transitions: which conditions began, changed their level, or ended.

A condition is a rule with thresholds, judged by snapshots, or whatever others report under a name. Each has one
`Episode`, so one condition gives one alert when it begins, one at each change of its level and one when it has ended,
all with the same fingerprint. Nothing here delivers or locks; that is the manager's part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from asyncmem.alerts.episode import Episode, Fingerprints, Step
from asyncmem.alerts.rules import RULES, Reading, Rule, Threshold, settled, threshold_for, worst
from asyncmem.errors import ConfigError
from asyncmem.events import AdmissionOutlook, AlertLevel, AlertState, AlertType, MemoryAlert, MemorySnapshot

__all__ = ["Episodes", "Judgement", "Moment", "Report", "Transition"]


class Transition(NamedTuple):
    """An alert to be told, and the levels whose receivers it concerns."""

    alert: MemoryAlert
    levels: frozenset[AlertLevel]


class Judgement(NamedTuple):
    """What one snapshot says."""

    firing: list[MemoryAlert]
    """An alert for each rule that has a threshold passed by this snapshot, hysteresis aside."""
    transitions: list[Transition]
    """What has changed since the snapshot before."""


class Moment(NamedTuple):
    """When something is judged, and what can be asked about it."""

    at: datetime
    monotonic: float
    outlook: Callable[[], AdmissionOutlook | None]


class Report(NamedTuple):
    """Where a condition is that others judge."""

    condition: str
    level: AlertLevel | None
    alert_type: AlertType
    message: str
    value: float | None
    threshold: float | None
    snapshot: MemorySnapshot | None


class Episodes:
    """The thresholds that are set, and the episodes of all conditions.

    Args:
        thresholds: Those to begin with.
        cooldown: Seconds for which a condition must have stayed lower before it eases or ends.
    """

    __slots__ = ("_active", "_cooldown", "_episodes", "_fingerprints", "_reports", "_thresholds")

    def __init__(self, thresholds: Iterable[Threshold] = (), *, cooldown: float) -> None:
        self._thresholds = {(threshold.rule, threshold.level): threshold for threshold in thresholds}
        self._cooldown: Final = cooldown
        self._fingerprints: Final = Fingerprints()
        self._episodes: dict[str, Episode] = {}
        self._active: dict[str, MemoryAlert] = {}
        self._reports: dict[str, Report] = {}

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """Those that are set, by rule and level."""
        return tuple(threshold for rule in RULES.values() for threshold in self._of(rule))

    @property
    def active(self) -> tuple[MemoryAlert, ...]:
        """The latest alert of each episode that is firing, in the order in which they began."""
        return tuple(self._active.values())

    def is_active(self, condition: str) -> bool:
        """Whether a condition is firing; may be asked without the lock."""
        return condition in self._active

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
        episode = self._episodes.get(rule)
        reached = -1 if episode is None or episode.level is None else episode.level.severity
        passed = worst(self._of(RULES[rule]), value)
        return passed is not None and passed.level.severity > reached

    def judge(self, reading: Reading, moment: Moment) -> Judgement:
        """Judge one reading by all thresholds, and move the episodes on."""
        judgement = Judgement([], [])
        for rule in RULES.values():
            thresholds = self._of(rule)
            value = rule.read(reading) if thresholds else None
            if value is None:
                continue
            episode = self._episode(rule.name)
            passed = worst(thresholds, value)
            at = settled(thresholds, value, episode.level)
            step = episode.move(None if at is None else at.level, moment.monotonic)
            if passed is not None:
                now = Step(AlertState.FIRING, passed.level, episode.fingerprint, frozenset({passed.level}))
                judgement.firing.append(self._judged(rule, now, value, reading, moment))
            if step is not None:
                transition = Transition(self._judged(rule, step, value, reading, moment), step.levels)
                self._keep(rule.name, transition.alert)
                judgement.transitions.append(transition)
        return judgement

    def report(self, report: Report, moment: Moment) -> Transition | None:
        """Take in where a condition is that others judge."""
        step = self._episode(report.condition).move(report.level, moment.monotonic)
        if step is None:
            if report.condition in self._active:
                self._reports[report.condition] = report
            return None
        alert = MemoryAlert(
            level=step.level,
            alert_type=report.alert_type,
            state=step.state,
            message=report.message,
            timestamp=moment.at,
            fingerprint=step.fingerprint,
            rule=report.condition,
            value=report.value,
            threshold=report.threshold,
            snapshot=report.snapshot,
            admission=moment.outlook(),
        )
        self._keep(report.condition, alert)
        if step.state is not AlertState.RESOLVED:
            self._reports[report.condition] = report
        return Transition(alert, step.levels)

    def settle(self, moment: Moment) -> list[Transition]:
        """Let those ease or end that were reported lower, and for long enough, by somebody who tells changes only."""
        told = [self.report(report, moment) for report in list(self._reports.values())]
        return [transition for transition in told if transition is not None]

    def end(self, message: str, moment: Moment) -> list[Transition]:
        """Nobody looks any more: end all that is firing."""
        ended = [
            Transition(
                msgspec.structs.replace(
                    alert,
                    state=AlertState.RESOLVED,
                    message=message,
                    timestamp=moment.at,
                    snapshot=None,
                    admission=None,
                ),
                frozenset(AlertLevel),
            )
            for alert in self._active.values()
        ]
        for kept in (self._active, self._episodes, self._reports):
            kept.clear()
        return ended

    def _episode(self, condition: str) -> Episode:
        episode = self._episodes.get(condition)
        if episode is None:
            episode = self._episodes[condition] = Episode(condition, self._fingerprints, self._cooldown)
        return episode

    def _of(self, rule: Rule) -> list[Threshold]:
        return [found for level in AlertLevel if (found := self._thresholds.get((rule.name, level))) is not None]

    def _keep(self, condition: str, alert: MemoryAlert) -> None:
        if alert.state is AlertState.RESOLVED:
            for kept in (self._active, self._episodes, self._reports):
                kept.pop(condition, None)
        else:
            self._active[condition] = alert

    def _judged(self, rule: Rule, step: Step, value: float, reading: Reading, moment: Moment) -> MemoryAlert:
        threshold = self._thresholds[rule.name, step.level]
        return MemoryAlert(
            level=step.level,
            alert_type=rule.alert_type,
            state=step.state,
            message=_message(rule, threshold, value, step.state),
            timestamp=moment.at,
            fingerprint=step.fingerprint,
            rule=rule.name,
            value=value,
            threshold=threshold.value,
            snapshot=reading.snapshot,
            admission=moment.outlook(),
        )


def _message(rule: Rule, threshold: Threshold, value: float, state: AlertState) -> str:
    bad, good = ("below", "above") if rule.falling else ("above", "below")
    measured = f"{rule.subject} {value:.1f} {rule.unit}"
    if state is AlertState.RESOLVED:
        return f"{measured} again, {good} {threshold.release:g}, where the {threshold.level} alert ends"
    if threshold.passed_by(value):
        return f"{measured}, {bad} the {threshold.level} threshold of {threshold.value:g}"
    return f"{measured}, not yet {good} {threshold.release:g}, where the {threshold.level} alert ends"
