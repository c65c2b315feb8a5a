from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from asyncmem.events import (
    ALERT_SCHEMA_VERSION,
    AlertLevel,
    AlertState,
    AlertType,
    BreakerState,
    MemoryAlert,
    MemorySnapshot,
)
from asyncmem.units import MIB

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


def snapshot(**fields: Any) -> MemorySnapshot:
    """A reading of 300 of 900 MiB."""
    figures: dict[str, Any] = {
        "timestamp": WHEN,
        "rss": 350 * MIB,
        "vms": 2000 * MIB,
        "working_set": 300 * MIB,
        "available_system": 4000 * MIB,
        "limit": 900 * MIB,
        "threads": 3,
    }
    return MemorySnapshot(**figures | fields)


def alert(**fields: Any) -> MemoryAlert:
    """An alert with what it must have."""
    figures: dict[str, Any] = {
        "level": AlertLevel.WARNING,
        "alert_type": AlertType.HIGH_MEMORY,
        "message": "much",
        "timestamp": WHEN,
        "fingerprint": "high_memory:1",
    }
    return MemoryAlert(**figures | fields)


def test_every_figure_in_bytes_has_its_twin_in_mib() -> None:
    """Those that may be missing are missing in both."""
    reading = snapshot(python_allocated=MIB // 2)
    for name in ("rss", "vms", "working_set", "available_system", "limit", "python_allocated"):
        assert getattr(reading, f"{name}_mb") == getattr(reading, name) / MIB
    assert reading.python_allocated_mb == 0.5
    assert snapshot().python_allocated_mb is None


def test_percent_is_the_share_of_the_limit() -> None:
    """Of a limit that was lowered to nothing it is very much, and no error."""
    assert snapshot().percent == pytest.approx(33.333, abs=0.001)
    assert snapshot(limit=0).percent > 100


def test_a_snapshot_is_json_ready() -> None:
    """All fields and the percentage, with the time as RFC 3339 has it."""
    fields = snapshot(label="after import", gc_objects=10, open_files=4).as_dict()
    assert json.loads(json.dumps(fields)) == fields
    assert fields == {
        "timestamp": "2026-01-02T03:04:05.678000Z",
        "rss": 350 * MIB,
        "vms": 2000 * MIB,
        "working_set": 300 * MIB,
        "available_system": 4000 * MIB,
        "limit": 900 * MIB,
        "threads": 3,
        "label": "after import",
        "python_allocated": None,
        "gc_objects": 10,
        "open_files": 4,
        "gpu": None,
        "percent": 33.33,
    }
    assert datetime.fromisoformat(fields["timestamp"]) == WHEN


def test_an_alert_is_json_ready() -> None:
    """Words for what is enumerated, the snapshot as it says itself, None where a field does not apply."""
    reading = snapshot()
    fields = alert(rule="percent", value=91.5, threshold=90.0, snapshot=reading).as_dict()
    assert json.loads(json.dumps(fields)) == fields
    assert fields == {
        "schema_version": 1,
        "level": "warning",
        "alert_type": "high_memory",
        "message": "much",
        "timestamp": "2026-01-02T03:04:05.678000Z",
        "fingerprint": "high_memory:1",
        "state": "firing",
        "rule": "percent",
        "value": 91.5,
        "threshold": 90.0,
        "snapshot": reading.as_dict(),
        "admission": None,
    }
    bare = alert(state=AlertState.RESOLVED).as_dict()
    assert json.loads(json.dumps(bare)) == bare
    assert (bare["state"], bare["rule"], bare["snapshot"]) == ("resolved", None, None)


def test_the_schema_has_a_version() -> None:
    """It stands first, where people look."""
    assert next(iter(alert().as_dict().items())) == ("schema_version", ALERT_SCHEMA_VERSION)


@pytest.mark.parametrize("event", [snapshot(), alert()], ids=["snapshot", "alert"])
def test_events_are_frozen(event: MemorySnapshot | MemoryAlert) -> None:
    """What was handed to one cannot be changed under another; equal ones are equal, also as keys."""
    with pytest.raises(AttributeError):
        event.timestamp = WHEN  # type: ignore[misc]
    again = type(event)(**{name: getattr(event, name) for name in event.__struct_fields__})
    assert again == event
    assert len({event, again}) == 1


def test_levels_can_be_compared() -> None:
    """By their severity, from info to critical."""
    assert [level.severity for level in (AlertLevel.INFO, AlertLevel.WARNING, AlertLevel.CRITICAL)] == [0, 1, 2]


def test_breaker_states_are_words() -> None:
    """They go into logs, metrics and alerts as they are; two of them let all work pass."""
    assert [f"{state}" for state in BreakerState] == ["closed", "warning", "open", "half_open"]
    assert [state for state in BreakerState if state.is_closed] == [BreakerState.CLOSED, BreakerState.WARNING]
