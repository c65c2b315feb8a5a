"""Growth of resident memory: since the baseline, and per hour."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

import pytest

from asyncmem.alerts import AlertManager
from asyncmem.alerts.growth import Growth
from asyncmem.events import AlertLevel, AlertType, MemorySnapshot
from asyncmem.units import MIB

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float, mib: float) -> MemorySnapshot:
    """A snapshot so many seconds after the start."""
    rss = int(mib * MIB)
    return MemorySnapshot(
        timestamp=START + timedelta(seconds=seconds),
        rss=rss,
        vms=rss,
        working_set=rss,
        available_system=2**34,
        limit=2**33,
        threads=1,
    )


def follow(growth: Growth, mib: list[float], *, period: float = 20.0, since: float = 0.0) -> float | None:
    """MiB per hour after so many snapshots."""
    for index, value in enumerate(mib):
        growth.update(at(since + index * period, value))
    return None if growth.per_hour is None else growth.per_hour / MIB


def test_half_an_hour_passes_before_anything_is_told() -> None:
    """However fast it grows: a cache that fills looks the same."""
    growth = Growth()
    assert follow(growth, [100.0 + step for step in range(90)]) is None
    assert follow(growth, [190.0 + step for step in range(10)], since=1800.0) == pytest.approx(180, rel=0.01)


def test_work_that_comes_and_goes_is_no_growth() -> None:
    """A sawtooth of 200 MiB that always comes back, with noise."""
    noise = random.Random(1)  # noqa: S311 - reproducible
    rate = follow(Growth(), [100 + 200 * noise.random() * (step % 3 > 0) for step in range(200)])
    assert rate is not None
    assert abs(rate) < 1


def test_what_stays_under_work_that_comes_and_goes_is_seen() -> None:
    """60 MiB per hour below a sawtooth of 200."""
    noise = random.Random(1)  # noqa: S311 - reproducible
    rate = follow(Growth(), [100 + step / 3 + 200 * noise.random() * (step % 3 > 0) for step in range(180)])
    assert rate == pytest.approx(60, rel=0.05)


def test_a_clock_set_back_begins_anew() -> None:
    """No slope is drawn between two times of which neither is known to come first."""
    growth = Growth()
    assert follow(growth, [100.0 + step for step in range(100)]) is not None
    growth.update(at(-3600, 100))
    assert growth.per_hour is None
    assert follow(growth, [100.0] * 100, since=-3590) == pytest.approx(0)


def test_growth_counts_from_the_baseline() -> None:
    """The first snapshot, until another is set; what a model takes while it is loaded is then no growth."""
    manager = AlertManager(cooldown=0)
    manager.set_threshold("warning", growth_mb=100)
    manager.check_thresholds(at(0, 50))
    (alert,) = manager.check_thresholds(at(1, 151))
    assert (alert.alert_type, alert.rule, alert.value) == (AlertType.RAPID_GROWTH, "growth_mb", 101)
    assert alert.message == "resident memory is above its baseline by 101.0 MiB, above the warning threshold of 100"
    manager.set_baseline(at(1, 151))
    assert manager.check_thresholds(at(2, 250)) == []
    manager.set_baseline()
    assert manager.check_thresholds(at(3, 500)) == []
    assert manager.check_thresholds(at(4, 601))


def test_what_is_taken_while_it_starts_is_no_growth() -> None:
    """A model that is loaded after the first work; what comes behind it counts again, from there on."""
    manager = AlertManager(cooldown=0)
    manager.set_threshold("warning", growth_mb=100)
    manager.check_thresholds(at(0, 50))
    with manager.starting():
        for second in range(1, 10):
            assert manager.check_thresholds(at(second, 50 + 40 * second)) == []
    assert manager.check_thresholds(at(10, 410)) == []
    assert manager.check_thresholds(at(11, 511))


def test_growth_per_hour_fires_and_is_resolved() -> None:
    """And says by how much."""
    manager = AlertManager(cooldown=0)
    manager.set_threshold(AlertLevel.CRITICAL, growth_mb_per_hour=100)
    for minute in range(60):
        manager.check_thresholds(at(60 * minute, 100 + 3 * minute))
    for minute in range(60, 180):
        manager.check_thresholds(at(60 * minute, 280))
    first, last = manager.history
    assert first.value is not None
    assert math.isclose(first.value, 180, rel_tol=0.01)
    assert (last.fingerprint, last.state) == (first.fingerprint, "resolved")
