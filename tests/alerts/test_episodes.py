"""Checking snapshots: what is returned, what is told, and that an episode is told once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncmem.alerts import AlertManager
from asyncmem.errors import ConfigError
from asyncmem.events import AlertLevel, AlertState, AlertType, MemoryAlert, MemorySnapshot

INFO, WARNING, CRITICAL = AlertLevel
FIRING, ESCALATED, EASED, RESOLVED = AlertState

Snapshots = Callable[..., MemorySnapshot]


def _told(manager: AlertManager) -> list[tuple[AlertState, AlertLevel]]:
    return [(alert.state, alert.level) for alert in manager.history]


def test_all_alerts_that_fire_are_returned_each_time(snapshot: Snapshots) -> None:
    """Each call returns the gravest alert of every rule; history has the beginning of each only."""
    manager = AlertManager.with_defaults(cooldown=0)
    for _ in range(3):
        fired = manager.check_thresholds(snapshot(percent=95, available_mb=400))
        assert [(alert.rule, alert.level) for alert in fired] == [("percent", CRITICAL), ("available_mb", WARNING)]
    assert len(manager.history) == 2
    assert manager.active == manager.history


def test_an_alert_says_what_was_measured(manager: AlertManager, snapshot: Snapshots) -> None:
    """An alert carries type, rule, value, threshold, the snapshot, the clock's time and a sentence with the numbers."""
    manager.set_threshold("warning", rss_mb=1024)
    reading = snapshot(rss_mb=1500)
    (alert,) = manager.check_thresholds(reading)
    assert (alert.alert_type, alert.rule, alert.value, alert.threshold) == (AlertType.HIGH_MEMORY, "rss_mb", 1500, 1024)
    assert alert.snapshot is reading
    assert alert.timestamp.second == 1
    assert alert.message == "resident memory is 1500.0 MiB, above the warning threshold of 1024"


def test_an_episode_has_one_fingerprint_from_start_to_end(snapshot: Snapshots) -> None:
    """Escalation, de-escalation and the end share the fingerprint; the next episode has another."""
    manager = AlertManager.with_defaults(cooldown=0)
    for percent in (81, 95, 88, 84, 70):
        manager.check_thresholds(snapshot(percent=percent))
    assert _told(manager) == [(FIRING, WARNING), (ESCALATED, CRITICAL), (EASED, WARNING), (RESOLVED, WARNING)]
    assert len({alert.fingerprint for alert in manager.history}) == 1
    assert manager.active == ()
    manager.check_thresholds(snapshot(percent=81))
    assert len({alert.fingerprint for alert in manager.history}) == 2


def test_a_value_that_trembles_around_the_line_makes_no_storm(manager: AlertManager, snapshot: Snapshots) -> None:
    """Back by less than the margin, nothing is told, though the snapshot by itself fires nothing."""
    manager.set_threshold(WARNING, percent=80)
    for _ in range(50):
        assert manager.check_thresholds(snapshot(percent=80.5))
        assert manager.check_thresholds(snapshot(percent=77)) == []
    assert _told(manager) == [(FIRING, WARNING)]
    assert [alert.level for alert in manager.active] == [WARNING]


def test_messages_tell_the_stages_apart(snapshot: Snapshots) -> None:
    """Passing a line, being held by the margin and being over read differently."""
    manager = AlertManager.with_defaults(cooldown=0)
    for percent in (95, 78, 75):
        manager.check_thresholds(snapshot(percent=percent))
    assert [alert.message for alert in manager.history] == [
        "the working set is 95.0 % of the limit, above the critical threshold of 90",
        "the working set is 78.0 % of the limit, not yet below 76, where the warning alert ends",
        "the working set is 75.0 % of the limit again, below 76, where the warning alert ends",
    ]


def test_low_system_memory_falls(snapshot: Snapshots) -> None:
    """What is available counts downwards, and has a type of its own."""
    manager = AlertManager.with_defaults(cooldown=0)
    for available in (499, 199, 205, 300, 520, 530):
        manager.check_thresholds(snapshot(available_mb=available))
    assert _told(manager) == [(FIRING, WARNING), (ESCALATED, CRITICAL), (EASED, WARNING), (RESOLVED, WARNING)]
    assert {alert.alert_type for alert in manager.history} == {AlertType.LOW_SYSTEM_MEMORY}


def test_a_snapshot_without_limit_says_nothing_about_percent(snapshot: Snapshots) -> None:
    """A limit of zero neither fires nor ends a percent alert, and does not raise."""
    manager = AlertManager.with_defaults(cooldown=0)
    manager.check_thresholds(snapshot(percent=85))
    blind = MemorySnapshot(
        timestamp=snapshot().timestamp, rss=1, vms=1, working_set=1, available_system=2**40, limit=0, threads=1
    )
    assert manager.check_thresholds(blind) == []
    assert len(manager.active) == 1


def test_a_moved_threshold_counts_from_the_next_snapshot(manager: AlertManager, snapshot: Snapshots) -> None:
    """An episode ends by the threshold that holds when it is judged."""
    manager.set_threshold(WARNING, percent=50)
    manager.check_thresholds(snapshot(percent=60))
    manager.set_threshold(WARNING, percent=90)
    assert manager.check_thresholds(snapshot(percent=60)) == []
    assert _told(manager) == [(FIRING, WARNING), (RESOLVED, WARNING)]


@pytest.mark.parametrize("values", [{}, {"percent": 80, "rss_mb": 100}])
def test_a_threshold_is_about_exactly_one_thing(manager: AlertManager, values: dict[str, float]) -> None:
    """None and several keywords are refused."""
    with pytest.raises(ConfigError, match="expected exactly one of percent, rss_mb, available_mb"):
        manager.set_threshold(WARNING, **values)


def test_a_refused_threshold_changes_nothing(manager: AlertManager) -> None:
    """Contradictory thresholds are refused with both values, and the earlier one stays."""
    manager.set_threshold("critical", percent=70)
    with pytest.raises(ConfigError, match=r"warning at 85 and critical at 70"):
        manager.set_threshold("warning", percent=85)
    assert [(threshold.level, threshold.value) for threshold in manager.thresholds] == [(CRITICAL, 70)]


ALL_PRESETS = [
    ("growth_mb", 100),
    ("growth_mb", 500),
    ("growth_mb_per_hour", 50),
    ("growth_mb_per_hour", 100),
    ("available_mb", 500),
    ("available_mb", 200),
]


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (None, [("percent", 80), ("percent", 90), *ALL_PRESETS]),
        ("none", []),
        (
            "conservative",
            [
                ("percent", 50),
                ("percent", 75),
                ("rss_mb", 1024),
                ("rss_mb", 2048),
                ("rss_mb", 3500),
                *ALL_PRESETS,
            ],
        ),
    ],
)
def test_presets(preset: str | None, expected: list[tuple[str, float]]) -> None:
    """The presets have the documented thresholds."""
    manager = AlertManager.with_defaults(preset)
    assert [(threshold.rule, threshold.value) for threshold in manager.thresholds] == expected


def test_an_unknown_preset_is_refused() -> None:
    """The message names the presets that there are."""
    with pytest.raises(ConfigError, match=r"'strict' is no preset.*default, conservative, none"):
        AlertManager.with_defaults("strict")


@given(
    values=st.lists(
        st.tuples(
            st.floats(0, 110),
            st.sampled_from([100.0, 199.0, 205.0, 211.0, 499.0, 505.0, 526.0, 9000.0]),
            st.floats(0, 5000),
        ),
        max_size=60,
    )
)
def test_every_firing_is_a_change_and_is_resolved_or_active(
    snapshot: Snapshots, values: list[tuple[float, float, float]]
) -> None:
    """Whatever the values: no level is told twice running within an episode, and no episode is forgotten."""
    manager = AlertManager.with_defaults("conservative", cooldown=0)
    for percent, available_mb, rss_mb in values:
        fired = manager.check_thresholds(snapshot(percent=percent, available_mb=available_mb, rss_mb=rss_mb))
        # What fires by itself is always part of an episode, and never graver than the episode is.
        levels = {alert.fingerprint: alert.level.severity for alert in manager.active}
        assert all(alert.level.severity <= levels[alert.fingerprint] for alert in fired)
    last: dict[str, MemoryAlert] = {}
    for alert in manager.history:
        before = last.get(alert.fingerprint)
        if before is None:
            assert alert.state is FIRING
        else:
            assert before.state is not RESOLVED
            step = alert.level.severity - before.level.severity
            assert {ESCALATED: step > 0, EASED: step < 0, RESOLVED: step == 0}[alert.state]
        last[alert.fingerprint] = alert
    assert {alert.fingerprint for alert in last.values() if alert.state is not RESOLVED} == {
        alert.fingerprint for alert in manager.active
    }


def test_threads_share_episodes(snapshot: Snapshots) -> None:
    """Snapshots from several threads at once give whole episodes: beginnings and ends take turns."""
    manager = AlertManager.with_defaults(history=100_000, cooldown=0)
    start = threading.Barrier(4)

    def check() -> None:
        start.wait()
        for turn in range(500):
            manager.check_thresholds(snapshot(percent=85 if turn % 2 else 20))

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = [alert.state for alert in manager.history]
    assert states == [FIRING, RESOLVED] * (len(states) // 2) + [FIRING] * (len(states) % 2)
    assert manager.statistics().emitted == len(states)


def test_what_a_snapshot_would_raise_is_known_before_it_is_taken(manager: AlertManager, snapshot: Snapshots) -> None:
    """A level that is new or graver; never one that fires already, falls, or has no threshold."""
    assert not manager.would_raise(percent=100)
    manager.set_threshold("warning", percent=80)
    manager.set_threshold("critical", percent=90)
    said = {}
    for percent in (80, 81, 91):
        said[percent] = manager.would_raise(percent=percent), manager.would_raise(percent=79)
        manager.check_thresholds(snapshot(percent=percent))
        assert not manager.would_raise(percent=percent)
    assert said == {80: (False, False), 81: (True, False), 91: (True, False)}
    assert not manager.would_raise(percent=85)
    manager.check_thresholds(snapshot(percent=10))
    assert manager.would_raise(percent=85)
