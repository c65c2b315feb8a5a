"""The alert that memory cannot be watched."""

from __future__ import annotations

from asyncmem.alerts.sight import Sight
from asyncmem.events import AlertLevel, AlertState, AlertType
from asyncmem.testing import ManualClock


def test_a_single_failure_is_nobodys_business() -> None:
    """A file may just have been replaced."""
    clock = ManualClock()
    sight = Sight(clock, 1.0)
    assert sight.failed(OSError("gone")) is None
    clock.advance(0.5)
    assert sight.succeeded() is None
    clock.advance(0.7)
    assert sight.failed(OSError("gone")) is None


def test_failures_that_last_are_told_once_and_so_is_their_end() -> None:
    """With what went wrong; firing and resolved are one episode."""
    clock = ManualClock()
    sight = Sight(clock, 1.0)
    assert sight.failed(ValueError("no number")) is None
    clock.advance(2)
    fired = sight.failed(ValueError("no number"))
    assert fired is not None
    assert (fired.level, fired.alert_type, fired.state) == (
        AlertLevel.WARNING,
        AlertType.SAMPLING_FAILED,
        AlertState.FIRING,
    )
    assert "ValueError: no number" in fired.message
    assert fired.value == 2.0
    clock.advance(100)
    assert sight.failed(ValueError("no number")) is None
    resolved = sight.succeeded()
    assert resolved is not None
    assert (resolved.state, resolved.level, resolved.fingerprint) == (
        AlertState.RESOLVED,
        fired.level,
        fired.fingerprint,
    )
    assert sight.succeeded() is None


def test_a_gap_is_told_when_it_is_over() -> None:
    """Longer than three periods, and than five seconds."""
    clock = ManualClock()
    sight = Sight(clock, 1.0)
    assert sight.came() is None
    clock.advance(4.9)
    assert sight.came() is None
    clock.advance(7)
    alert = sight.came()
    assert alert is not None
    assert alert.value == 7.0
    assert "7.0 s" in alert.message
    clock.advance(1)
    resolved = sight.came()
    assert resolved is not None
    assert (resolved.state, resolved.level, resolved.fingerprint) == (
        AlertState.RESOLVED,
        alert.level,
        alert.fingerprint,
    )
    assert sight.came() is None
    assert Sight(clock, 60.0).came() is None
    slow = Sight(clock, 60.0)
    slow.came()
    clock.advance(179)
    assert slow.came() is None
