"""Thresholds as values: what they refuse, when they are passed, and when they are left."""

from __future__ import annotations

import math

import pytest

from asyncmem.alerts.presets import PRESETS
from asyncmem.alerts.rules import RULES, Threshold, level_of, levels_of, settled, threshold_for, worst
from asyncmem.errors import ConfigError
from asyncmem.events import AlertLevel

INFO, WARNING, CRITICAL = AlertLevel

RISING = [Threshold("percent", WARNING, 80), Threshold("percent", CRITICAL, 90)]
FALLING = [Threshold("available_mb", WARNING, 500), Threshold("available_mb", CRITICAL, 200)]


def _level(threshold: Threshold | None) -> AlertLevel | None:
    return None if threshold is None else threshold.level


@pytest.mark.parametrize(
    ("thresholds", "value", "expected"),
    [
        (RISING, 80.0, None),
        (RISING, 80.1, WARNING),
        (RISING, 90.0, WARNING),
        (RISING, 90.1, CRITICAL),
        (FALLING, 500.0, None),
        (FALLING, 499.9, WARNING),
        (FALLING, 199.9, CRITICAL),
        ([], 99.0, None),
    ],
)
def test_the_gravest_level_passed_is_found(
    thresholds: list[Threshold], value: float, expected: AlertLevel | None
) -> None:
    """A value on the line has not passed it; past several lines the most serious one counts."""
    assert _level(worst(thresholds, value)) is expected


@pytest.mark.parametrize(
    ("thresholds", "current", "value", "expected"),
    [
        (RISING, None, 78.0, None),
        (RISING, WARNING, 78.0, WARNING),
        (RISING, WARNING, 76.0, None),
        (RISING, CRITICAL, 86.0, CRITICAL),
        (RISING, CRITICAL, 85.5, WARNING),
        (RISING, CRITICAL, 78.0, WARNING),
        (RISING, CRITICAL, 10.0, None),
        (RISING, WARNING, 88.0, WARNING),
        (RISING, WARNING, 91.0, CRITICAL),
        (FALLING, None, 510.0, None),
        (FALLING, WARNING, 510.0, WARNING),
        (FALLING, WARNING, 525.0, None),
        (FALLING, CRITICAL, 205.0, CRITICAL),
        (FALLING, CRITICAL, 210.0, WARNING),
    ],
)
def test_a_level_is_left_only_with_a_margin(
    thresholds: list[Threshold], current: AlertLevel | None, value: float, expected: AlertLevel | None
) -> None:
    """A level is entered at its line and left 5 % behind it, one step or several at a time."""
    assert _level(settled(thresholds, value, current)) is expected


@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan, math.inf, -math.inf, True, "80"])
@pytest.mark.parametrize("name", list(RULES))
def test_what_is_no_threshold_is_refused(name: str, value: float) -> None:
    """Zero, negative, endless and other than numbers are refused for each rule, with the value in the message."""
    with pytest.raises(ConfigError, match="is no threshold") as refused:
        threshold_for(RULES[name], WARNING, value, [])
    assert repr(value) in str(refused.value)


def test_percent_ends_at_100() -> None:
    """100 percent can be set, more cannot."""
    assert threshold_for(RULES["percent"], WARNING, 100, []).value == 100
    with pytest.raises(ConfigError, match=r"100\.5.*at most 100"):
        threshold_for(RULES["percent"], WARNING, 100.5, [])


@pytest.mark.parametrize(
    ("rule", "beside", "level", "value"),
    [
        ("percent", Threshold("percent", CRITICAL, 70), WARNING, 85),
        ("percent", Threshold("percent", CRITICAL, 85), WARNING, 85),
        ("rss_mb", Threshold("rss_mb", INFO, 4000), CRITICAL, 3500),
        ("available_mb", Threshold("available_mb", WARNING, 200), CRITICAL, 500),
        ("available_mb", Threshold("available_mb", WARNING, 200), CRITICAL, 200),
    ],
)
def test_contradictory_levels_are_refused(rule: str, beside: Threshold, level: AlertLevel, value: float) -> None:
    """A graver level that would be entered no later is refused, with both values and both levels in the message."""
    with pytest.raises(ConfigError, match="contradict") as refused:
        threshold_for(RULES[rule], level, value, [beside])
    message = str(refused.value)
    assert all(text in message for text in (f"{beside.value:g}", f"{value:g}", level, beside.level, rule))


def test_other_rules_and_the_replaced_threshold_do_not_contradict() -> None:
    """Only the other levels of the same rule are compared."""
    beside = [Threshold("percent", WARNING, 80), Threshold("rss_mb", CRITICAL, 10)]
    assert threshold_for(RULES["percent"], WARNING, 95, beside) == Threshold("percent", WARNING, 95)


def test_levels_are_read_by_name() -> None:
    """A level is accepted as itself or by its value; a choice is a collection, one alone, or None for all."""
    assert level_of("critical") is CRITICAL
    assert levels_of(None) == {INFO, WARNING, CRITICAL}
    assert levels_of("warning") == levels_of([WARNING]) == {WARNING}
    with pytest.raises(ConfigError, match="'fatal' is no alert level; expected info, warning, critical"):
        level_of("fatal")
    with pytest.raises(ConfigError, match="chooses nothing"):
        levels_of([])


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_obey_their_own_rules(name: str) -> None:
    """Each preset could have been set by hand."""
    for threshold in PRESETS[name]:
        made = threshold_for(RULES[threshold.rule], threshold.level, threshold.value, PRESETS[name])
        assert made == threshold
