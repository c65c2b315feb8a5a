"""What counts as too much memory: rules, thresholds, and pure functions that judge a number by them.

A `Rule` says what is measured; a `Threshold` is one rule's line for one level. Nothing here keeps state: whether a
level is entered or left follows from the value and from the level that the rule was at before.

A level is entered when the value passes its threshold, and left when the value is back past it by `HYSTERESIS`. That
two-sided gate is what keeps a value that trembles around the line from raising an alert at each sample;
``distributed/worker_memory.py`` of dask does the same with separate pause and resume fractions.

Episodes are in `asyncmem.alerts.episode`; who is told of them, in `asyncmem.alerts.manager`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from asyncmem.errors import ConfigError
from asyncmem.events import AlertLevel, AlertType, MemorySnapshot
from asyncmem.units import MIB

__all__ = [
    "HYSTERESIS",
    "RULES",
    "Reading",
    "Rule",
    "Threshold",
    "level_of",
    "levels_of",
    "settled",
    "threshold_for",
    "worst",
]

HYSTERESIS: Final = 0.05
"""Share of the threshold by which a value must be back past it before its level is left. 5 % is some 4 points of a
percentage near 80, and 25 MiB of 500: more than the noise between two samples, less than the gap between two levels."""


class Reading(NamedTuple):
    """A snapshot, and what is known beside it."""

    snapshot: MemorySnapshot
    headroom: int | None = None
    """Bytes that admission may still promise; None where there is no admission."""
    growth: int = 0
    """Bytes by which resident memory is above the baseline."""
    growth_per_hour: float | None = None
    """Bytes per hour; None where that cannot be told yet."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that is measured and that can have a threshold for each level.

    Args:
        name: The keyword that sets it, and `MemoryAlert.rule`.
        alert_type: What its alerts are about.
        subject: How a message begins, before the number.
        unit: What the number counts, as a message writes it.
        read: Takes the value from a reading; None where that cannot tell.
        falling: Whether low values are the bad ones.
        highest: The largest threshold that makes sense.
    """

    name: str
    alert_type: AlertType
    subject: str
    unit: str
    read: Callable[[Reading], float | None]
    falling: bool = False
    highest: float = math.inf


@dataclass(frozen=True, slots=True)
class Threshold:
    """One rule's line for one level, in the rule's unit; made and checked by `threshold_for`."""

    rule: str
    level: AlertLevel
    value: float

    @property
    def release(self) -> float:
        """The value at which the level is left again."""
        return self.value * (1 + HYSTERESIS if RULES[self.rule].falling else 1 - HYSTERESIS)

    def passed_by(self, value: float) -> bool:
        """Whether `value` is past the line, so that the level is entered."""
        return value < self.value if RULES[self.rule].falling else value > self.value

    def held_by(self, value: float) -> bool:
        """Whether `value` is not yet far enough back for the level to be left."""
        return value < self.release if RULES[self.rule].falling else value > self.release


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            Rule(
                "percent",
                AlertType.HIGH_MEMORY,
                "the working set is",
                "% of the limit",
                # No limit, no share of it: the rule then says nothing, neither that it fires nor that it is over.
                lambda reading: reading.snapshot.percent if reading.snapshot.limit > 0 else None,
                highest=100.0,
            ),
            Rule("rss_mb", AlertType.HIGH_MEMORY, "resident memory is", "MiB", lambda reading: reading.snapshot.rss_mb),
            Rule(
                "headroom_mb",
                AlertType.HIGH_MEMORY,
                "what may still be promised is",
                "MiB",
                lambda reading: None if reading.headroom is None else reading.headroom / MIB,
                falling=True,
            ),
            Rule(
                "growth_mb",
                AlertType.RAPID_GROWTH,
                "resident memory is above its baseline by",
                "MiB",
                lambda reading: reading.growth / MIB,
            ),
            Rule(
                "growth_mb_per_hour",
                AlertType.RAPID_GROWTH,
                "resident memory grows by",
                "MiB per hour",
                lambda reading: None if reading.growth_per_hour is None else reading.growth_per_hour / MIB,
            ),
            Rule(
                "available_mb",
                AlertType.LOW_SYSTEM_MEMORY,
                "what the system has available is",
                "MiB",
                lambda reading: reading.snapshot.available_system_mb,
                falling=True,
            ),
        )
    }
)
"""All rules by name, in the order in which they are checked."""


def level_of(value: AlertLevel | str) -> AlertLevel:
    """Read a level.

    Raises:
        ConfigError: There is no such level.
    """
    try:
        return AlertLevel(value)
    except ValueError:
        raise ConfigError(f"{value!r} is no alert level; expected {', '.join(AlertLevel)}") from None


def levels_of(values: Iterable[AlertLevel | str] | None) -> frozenset[AlertLevel]:
    """Read a choice of levels; None means all, one level alone is taken as it is.

    Raises:
        ConfigError: There is no such level, or none was chosen.
    """
    if values is None:
        return frozenset(AlertLevel)
    chosen = frozenset(map(level_of, [values] if isinstance(values, str) else values))
    if not chosen:
        raise ConfigError("a choice of no alert levels chooses nothing; expected some, or None for all")
    return chosen


def threshold_for(rule: Rule, level: AlertLevel, value: float, beside: Iterable[Threshold]) -> Threshold:
    """Make a threshold and check it, alone and against the rule's other levels.

    Args:
        rule: What it is about.
        level: The level that is entered past it.
        value: The line, in the rule's unit.
        beside: Thresholds already set, of any rule; an older one of the same rule and level is going to be replaced.

    Raises:
        ConfigError: Not a number in range, or a more serious level would be entered no later than a lesser one.
    """
    if not _in_range(value, rule.highest):
        end = f"at most {rule.highest:g}" if math.isfinite(rule.highest) else "finite"
        raise ConfigError(f"{rule.name}={value!r} for {level} is no threshold; expected a number above 0 and {end}")
    made = Threshold(rule.name, level, value)
    for other in beside:
        if other.rule != rule.name or other.level is level:
            continue
        lesser, graver = sorted((made, other), key=lambda threshold: threshold.level.severity)
        if not (graver.value < lesser.value if rule.falling else graver.value > lesser.value):
            raise ConfigError(
                f"{rule.name}: {lesser.level} at {lesser.value:g} and {graver.level} at {graver.value:g} contradict "
                f"each other; expected {lesser.level} {'above' if rule.falling else 'below'} {graver.level}. Where "
                f"both are to move, first set the one that moves away from the other"
            )
    return made


def worst(thresholds: Iterable[Threshold], value: float) -> Threshold | None:
    """The most serious of one rule's thresholds that `value` passes, whatever was before."""
    return _gravest(threshold for threshold in thresholds if threshold.passed_by(value))


def settled(thresholds: Iterable[Threshold], value: float, current: AlertLevel | None) -> Threshold | None:
    """The threshold of the level that a rule is at now, coming from `current`.

    Args:
        thresholds: The rule's own.
        value: What was measured.
        current: The level that the rule was at; None where nothing was firing.

    Returns:
        The most serious threshold that is passed, or that lies at or below `current` and still holds; None where the
        rule is at rest.
    """
    reached = -1 if current is None else current.severity
    return _gravest(
        threshold
        for threshold in thresholds
        if threshold.passed_by(value) or (threshold.level.severity <= reached and threshold.held_by(value))
    )


def _in_range(value: object, highest: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 < value <= highest


def _gravest(thresholds: Iterable[Threshold]) -> Threshold | None:
    return max(thresholds, key=lambda threshold: threshold.level.severity, default=None)
