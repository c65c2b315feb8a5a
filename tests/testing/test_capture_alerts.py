from __future__ import annotations

from datetime import UTC, datetime

import pytest

from asyncmem import AlertLevel, AlertManager, AlertType, MemoryAlert
from asyncmem.testing import capture_alerts


def alert(number: int) -> MemoryAlert:
    """One of several alerts."""
    return MemoryAlert(
        level=AlertLevel.INFO,
        alert_type=AlertType.HIGH_MEMORY,
        message=f"number {number}",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        fingerprint=str(number),
    )


def test_it_collects_what_is_raised_inside() -> None:
    """At once and in order, without a loop; nothing from before or after."""
    alerts = AlertManager()
    alerts.emit(alert(0))
    with capture_alerts(alerts) as raised:
        assert raised == []
        alerts.emit(alert(1))
        assert raised == [alert(1)]
        alerts.emit(alert(2))
    alerts.emit(alert(3))
    assert raised == [alert(1), alert(2)]


def test_it_leaves_no_handler_behind() -> None:
    """Also where the block raises; what was collected stays."""
    alerts = AlertManager()
    caught: list[list[MemoryAlert]] = []

    def broken() -> None:
        with capture_alerts(alerts) as raised:
            caught.append(raised)
            alerts.emit(alert(1))
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert caught == [[alert(1)]]
    assert alerts.statistics().handlers == 0


def test_captures_can_be_nested() -> None:
    """Each has a list of its own."""
    alerts = AlertManager()
    with capture_alerts(alerts) as outer:
        alerts.emit(alert(1))
        with capture_alerts(alerts) as inner:
            alerts.emit(alert(2))
        alerts.emit(alert(3))
    assert (outer, inner) == ([alert(1), alert(2), alert(3)], [alert(2)])
