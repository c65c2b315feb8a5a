"""The sink that logs: one event per alert, at its level, ready for JSON, with or without a loop."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import msgspec
import pytest
import structlog
from structlog.testing import CapturingLogger, capture_logs

from asyncmem.alerts import AlertManager
from asyncmem.alerts.sinks import structlog_sink
from asyncmem.events import AdmissionOutlook, AlertLevel, AlertState, AlertType, MemoryAlert, MemorySnapshot

Snapshots = Callable[..., MemorySnapshot]


def test_an_episode_is_logged_at_its_levels(snapshot: Snapshots) -> None:
    """Info, warning and critical are logged as such, the end of an episode at info; all without a loop."""
    manager = AlertManager(cooldown=0)
    for level, rss_mb in (("info", 1024), ("warning", 2048), ("critical", 3500)):
        manager.set_threshold(level, rss_mb=rss_mb)
    manager.add_handler(structlog_sink(), immediate=True)
    with capture_logs() as logs:
        for rss_mb in (1500, 2500, 4000, 10):
            manager.check_thresholds(snapshot(rss_mb=rss_mb))
    assert [(entry["log_level"], entry["alert_level"], entry["state"]) for entry in logs] == [
        ("info", "info", "firing"),
        ("warning", "warning", "escalated"),
        ("critical", "critical", "escalated"),
        ("info", "critical", "resolved"),
    ]
    assert {entry["event"] for entry in logs} == {"memory_alert"}


@pytest.mark.parametrize("kind", AlertType)
@pytest.mark.parametrize("level", AlertLevel)
def test_every_kind_of_alert_is_logged_by_level_and_state(
    kind: AlertType, level: AlertLevel, alert: Callable[..., MemoryAlert]
) -> None:
    """One that fires at its own level, and the end of it at info, whatever it is about and whoever raised it."""
    fires = msgspec.structs.replace(alert(level=level), alert_type=kind)
    ends = msgspec.structs.replace(fires, state=AlertState.RESOLVED)
    with capture_logs() as logs:
        structlog_sink()(fires)
        structlog_sink()(ends)
    assert [entry["log_level"] for entry in logs] == [level.value, "info"]
    assert [(entry["alert_level"], entry["alert_type"], entry["state"]) for entry in logs] == [
        (level.value, kind.value, "firing"),
        (level.value, kind.value, "resolved"),
    ]


def test_fields_are_flat_and_json_ready(snapshot: Snapshots) -> None:
    """The snapshot becomes a few numbers; nothing is nested, None, or in the way of log processors."""
    manager = AlertManager.with_defaults()
    manager.add_handler(structlog_sink(), immediate=True)
    with capture_logs() as logs:
        manager.check_thresholds(snapshot(percent=85, rss_mb=100, available_mb=8000))
    (entry,) = logs
    assert json.loads(json.dumps(entry)) == entry
    assert (entry["percent"], entry["rss"], entry["limit"]) == (85.0, 100 * 2**20, 1_000_000)
    assert (entry["rule"], entry["threshold"], entry["schema_version"]) == ("percent", 80, 1)
    assert not {"level", "message", "timestamp", "snapshot"} & entry.keys()
    assert not any(value is None or isinstance(value, dict | list) for value in entry.values())


def test_an_alert_without_snapshot_is_logged_too(alert: Callable[..., MemoryAlert]) -> None:
    """Fields that do not apply are left out."""
    with capture_logs() as logs:
        structlog_sink()(alert("the limit changed", AlertLevel.INFO))
    (entry,) = logs
    assert entry["alert_message"] == "the limit changed"
    assert not {"percent", "rule", "value"} & entry.keys()


def test_a_logger_of_ones_own_is_used(alert: Callable[..., MemoryAlert]) -> None:
    """A logger that is given gets the events, with what is bound to it."""
    capturing = CapturingLogger()
    logger = structlog.wrap_logger(capturing, processors=[structlog.processors.JSONRenderer()], service="resizer")
    structlog_sink(logger)(alert())
    (call,) = capturing.calls
    assert call.method_name == "warning"
    assert json.loads(call.args[0])["service"] == "resizer"


def test_the_standard_library_takes_the_fields(
    alert: Callable[..., MemoryAlert], caplog: pytest.LogCaptureFixture
) -> None:
    """Passed on as extra fields of a log record, no name collides with the record's own."""
    logger = structlog.wrap_logger(
        logging.getLogger("test-alerts"),
        processors=[structlog.stdlib.add_log_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    structlog_sink(logger)(alert("to the record"))
    (record,) = caplog.records
    assert record.getMessage() == "memory_alert"
    assert record.__dict__["alert_message"] == "to the record"


def test_what_admission_did_is_flat(alert: Callable[..., MemoryAlert], outlook: AdmissionOutlook) -> None:
    """One word for what it does, and the task class that holds most."""
    with capture_logs() as logs:
        structlog_sink()(msgspec.structs.replace(alert(), admission=outlook))
    (entry,) = logs
    assert (entry["admission"], entry["task_class"], entry["task_class_share"]) == ("queueing", "resize", 0.75)
    assert (entry["headroom"], entry["queued"], entry["exceeds_limit"]) == (-5, 3, True)
    assert json.loads(json.dumps(entry)) == entry
