"""Conditions that others report: pressure, shedding, reclaim, and those of users."""

from __future__ import annotations

from itertools import pairwise

import pytest

from asyncmem.alerts import AlertManager
from asyncmem.alerts.conditions import Conditions
from asyncmem.errors import ConfigError
from asyncmem.events import (
    AdmissionOutlook,
    AlertLevel,
    AlertState,
    AlertType,
    BreakerState,
    MemorySnapshot,
    PressureLevel,
)
from asyncmem.testing import ManualClock
from asyncmem.units import MIB

INFO, WARNING, CRITICAL = AlertLevel
FIRING, ESCALATED, EASED, RESOLVED = AlertState


class Scene:
    """A manager on a clock by hand, with its conditions."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.alerts = AlertManager(clock=self.clock, cooldown=30)
        self.conditions = Conditions(self.alerts, self.snapshot, self.clock)

    def snapshot(self) -> MemorySnapshot:
        """A reading, of which only the time matters."""
        return MemorySnapshot(
            timestamp=self.clock.now(), rss=1, vms=1, working_set=1, available_system=1, limit=1, threads=1
        )

    @property
    def told(self) -> list[tuple[AlertState, AlertLevel]]:
        """States and levels, in order."""
        return [(alert.state, alert.level) for alert in self.alerts.history]


@pytest.fixture
def scene() -> Scene:
    """Makes a scene."""
    return Scene()


def test_pressure_is_one_episode(scene: Scene) -> None:
    """Up at once, with the numbers; down when it has stayed there; looked at a hundred times a second."""
    for level, used in ((PressureLevel.LOW, 1), (PressureLevel.MEDIUM, 700), (PressureLevel.CRITICAL, 960)):
        for _ in range(100):
            scene.conditions.pressure(level, used * MIB, 1000 * MIB)
    assert scene.told == [(FIRING, INFO), (ESCALATED, CRITICAL)]
    alert = scene.alerts.history[-1]
    assert (alert.alert_type, alert.rule, alert.value) == (AlertType.PRESSURE_CHANGE, "pressure", 960 * MIB)
    assert alert.message == "memory pressure is critical: 960 MiB of 1000 MiB are in use"
    assert alert.snapshot is not None
    for _ in range(31):
        scene.clock.advance(1)
        scene.conditions.pressure(PressureLevel.LOW, 1, 1000 * MIB)
    assert scene.told[2:] == [(RESOLVED, CRITICAL)]
    assert scene.alerts.active == ()


def test_pressure_that_eases_says_so_by_a_reading_of_that_level(scene: Scene) -> None:
    """However it trembled below CRITICAL meanwhile: what is told is what was measured then."""
    scene.conditions.pressure(PressureLevel.CRITICAL, 960 * MIB, 1000 * MIB)
    for second in range(40):
        scene.clock.advance(1)
        level, used = ((PressureLevel.HIGH, 870), (PressureLevel.LOW, 100))[second % 2]
        scene.conditions.pressure(level, used * MIB, 1000 * MIB)
    assert scene.told == [(FIRING, CRITICAL), (EASED, WARNING)]
    assert scene.alerts.history[-1].message == "memory pressure is high: 870 MiB of 1000 MiB are in use"


def test_an_alert_without_a_reading_is_better_than_none(scene: Scene) -> None:
    """At CRITICAL there may be no memory left to take one."""

    def fail() -> MemorySnapshot:
        raise MemoryError

    conditions = Conditions(scene.alerts, fail, scene.clock)
    conditions.pressure(PressureLevel.CRITICAL, 2, 2)
    assert scene.told == [(FIRING, CRITICAL)]
    assert scene.alerts.history[0].snapshot is None


def test_the_breaker_is_told_while_it_is_open(scene: Scene) -> None:
    """Half-open is no alert: work is let in again."""
    for state, used in ((BreakerState.WARNING, 600), (BreakerState.OPEN, 910), (BreakerState.HALF_OPEN, 890)):
        scene.conditions.breaker(state, used * MIB, 900 * MIB)
    assert scene.told == [(FIRING, WARNING)]
    assert scene.alerts.history[0].message == "admission's breaker is open: 910 MiB of 900 MiB are in use"
    scene.clock.advance(31)
    scene.conditions.breaker(BreakerState.CLOSED, 100 * MIB, 900 * MIB)
    assert scene.told == [(FIRING, WARNING), (RESOLVED, WARNING)]
    assert scene.alerts.history[0].alert_type is AlertType.BREAKER_CHANGE


def test_shedding_is_told_once_and_its_end(scene: Scene) -> None:
    """Refusals for a minute are one alert; work that is cancelled makes it critical."""
    for second in range(60):
        scene.conditions.shedding(second, 0, scene.snapshot())
        scene.clock.advance(1)
    assert scene.told == [(FIRING, WARNING)]
    assert scene.alerts.history[0].value == 1
    scene.conditions.shedding(60, 2, scene.snapshot())
    assert scene.alerts.history[-1].message == "refused for want of memory: 1, cancelled to free it: 2"
    for _ in range(32):
        scene.conditions.shedding(60, 2, scene.snapshot())
        scene.clock.advance(1)
    assert scene.told == [(FIRING, WARNING), (ESCALATED, CRITICAL), (RESOLVED, CRITICAL)]


def test_reclaim_is_told_where_it_gave_something_back(scene: Scene) -> None:
    """Less than a MiB is not worth a line."""
    scene.conditions.reclaimed(MIB // 2, scene.snapshot())
    assert scene.told == []
    scene.conditions.reclaimed(40 * MIB + MIB // 2, scene.snapshot())
    assert scene.told == [(FIRING, INFO)]
    assert scene.alerts.history[0].message == "reclaim gave 40 MiB back"


def test_a_limit_that_flaps_is_told_once_a_second(scene: Scene) -> None:
    """The first is known, the second is news at once, and then one a second with what it was when last told."""
    for turn in range(300):
        scene.conditions.limit((600 if turn % 2 else 900) * MIB, "memory.max")
        scene.clock.advance(0.01)
    told = scene.alerts.history
    assert 2 <= len(told) <= 4
    assert told[0].message == "the memory limit changed from 900 MiB to 600 MiB (memory.max)"
    assert all(later.threshold == earlier.value for earlier, later in pairwise(told))
    assert len({alert.fingerprint for alert in told}) == len(told)


def test_a_condition_of_ones_own(scene: Scene) -> None:
    """Users report what they measure, and may tell changes only."""
    scene.alerts.report("temperature", None, "cool")
    for _ in range(2):
        scene.alerts.report("temperature", "warning", "the temperature is high", value=80.0, threshold=75.0)
    (alert,) = scene.alerts.active
    assert (alert.rule, alert.value, alert.threshold, alert.state) == ("temperature", 80.0, 75.0, FIRING)
    scene.alerts.report("temperature", None, "cool")
    scene.clock.advance(31)
    assert alert.fingerprint in {each.fingerprint for each in scene.alerts.active}
    scene.alerts.check_thresholds(scene.snapshot())
    assert alert.fingerprint not in {each.fingerprint for each in scene.alerts.active}
    assert (scene.told, scene.alerts.history[-1].message) == ([(FIRING, WARNING), (RESOLVED, WARNING)], "cool")


def test_nothing_is_kept_of_what_is_over() -> None:
    """Names may be as many as users like."""
    alerts = AlertManager(cooldown=0)
    for number in range(100):
        alerts.report(f"queue {number}", WARNING, "long")
        alerts.report(f"queue {number}", None, "short")
    assert not alerts._episodes._episodes
    assert not alerts._episodes._reports


def test_where_nobody_looks_any_more_nothing_is_firing(scene: Scene) -> None:
    """Whoever was told of the begin is told of the end."""
    heard: list[AlertState] = []
    scene.alerts.add_handler(lambda alert: heard.append(alert.state), ["warning"], immediate=True)
    scene.alerts.report("queue", WARNING, "long")
    scene.alerts.end("the runtime has stopped")
    assert heard == [FIRING, RESOLVED]
    assert scene.alerts.active == ()
    assert scene.alerts.history[0].fingerprint == scene.alerts.history[1].fingerprint


def test_names_and_levels_that_cannot_be_are_refused(scene: Scene) -> None:
    """A rule's name is taken; the message says what to use."""
    with pytest.raises(ConfigError, match=r"'percent' is the name of a rule.*set_threshold"):
        scene.alerts.report("percent", WARNING, "no")
    with pytest.raises(ConfigError, match=r"'loud' is no alert level"):
        scene.alerts.report("temperature", "loud", "no")


def test_an_alert_says_what_admission_did(scene: Scene, outlook: AdmissionOutlook) -> None:
    """Asked once for each alert that is told; where that fails the alert goes out without it."""
    scene.alerts.outlook = lambda: outlook
    scene.conditions.pressure(PressureLevel.HIGH, 1, 2)
    (alert,) = scene.alerts.history
    assert alert.admission is outlook
    assert alert.as_dict()["admission"]["task_class"] == "resize"

    def fail() -> AdmissionOutlook:
        raise OSError("unreadable")

    scene.alerts.outlook = fail
    scene.conditions.pressure(PressureLevel.CRITICAL, 2, 2)
    assert scene.alerts.history[-1].admission is None


@pytest.mark.parametrize("cooldown", [-1, float("nan"), float("inf"), True, "30"])
def test_a_cooldown_that_cannot_be_is_refused(cooldown: object) -> None:
    """It is seconds from 0."""
    with pytest.raises(ConfigError, match="expected seconds from 0"):
        AlertManager(cooldown=cooldown)  # type: ignore[arg-type]
