"""The sink for OpenTelemetry: one record per alert, through the real SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

from asyncmem.alerts import AlertManager
from asyncmem.alerts.sinks.otel import otel_sink
from asyncmem.events import AdmissionOutlook, AlertLevel, AlertState, MemoryAlert, MemorySnapshot

Alerts = Callable[..., MemoryAlert]


class Telemetry:
    """An SDK whose records stay in memory."""

    def __init__(self) -> None:
        self.provider = LoggerProvider(shutdown_on_exit=False)
        self._exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(self._exporter))

    @property
    def records(self) -> tuple[ReadableLogRecord, ...]:
        """What was exported."""
        return self._exporter.get_finished_logs()


@pytest.fixture
def telemetry() -> Telemetry:
    """A provider of its own: the global one can be set only once."""
    return Telemetry()


def test_levels_become_severities(telemetry: Telemetry, alert: Alerts) -> None:
    """Critical is what the SDK makes of `logging.CRITICAL`; the end of an episode is information."""
    sink = otel_sink(telemetry.provider)
    for level in AlertLevel:
        sink(alert(level=level))
    sink(msgspec.structs.replace(alert(level=AlertLevel.CRITICAL), state=AlertState.RESOLVED))
    records = [record.log_record for record in telemetry.records]
    assert [(record.severity_number, record.severity_text) for record in records] == [
        (SeverityNumber.INFO, "INFO"),
        (SeverityNumber.WARN, "WARNING"),
        (SeverityNumber.FATAL, "CRITICAL"),
        (SeverityNumber.INFO, "INFO"),
    ]
    assert records[-1].attributes is not None
    assert records[-1].attributes["asyncmem.alert.level"] == "critical"


def test_a_record_has_all_of_the_alert(telemetry: Telemetry, snapshot: Callable[..., MemorySnapshot]) -> None:
    """Event name, message, time to the microsecond, and the numbers in bytes."""
    manager = AlertManager.with_defaults()
    manager.add_handler(otel_sink(telemetry.provider), immediate=True)
    (raised,) = manager.check_thresholds(snapshot(percent=85, rss_mb=100, available_mb=8000))
    (record,) = telemetry.records
    assert record.instrumentation_scope is not None
    assert record.instrumentation_scope.name == "asyncmem.alerts"
    assert record.log_record.event_name == "asyncmem.memory_alert"
    assert record.log_record.body == raised.message
    assert dict(record.log_record.attributes or {}) == {
        "asyncmem.alert.level": "warning",
        "asyncmem.alert.type": "high_memory",
        "asyncmem.alert.state": "firing",
        "asyncmem.alert.fingerprint": raised.fingerprint,
        "asyncmem.alert.rule": "percent",
        "asyncmem.alert.value": 85.0,
        "asyncmem.alert.threshold": 80.0,
        "process.memory.usage": 100 * 2**20,
        "process.memory.virtual": 200 * 2**20,
        "system.memory.linux.available": 8000 * 2**20,
        "asyncmem.memory.working_set": 850_000,
        "asyncmem.memory.limit": 1_000_000,
        "asyncmem.memory.percent": 85.0,
    }


def test_the_time_is_the_alerts(telemetry: Telemetry, alert: Alerts) -> None:
    """In nanoseconds, and exact: not by way of a float."""
    moment = datetime(2026, 11, 21, 12, 30, 15, 123457, tzinfo=UTC)
    otel_sink(telemetry.provider)(msgspec.structs.replace(alert(), timestamp=moment))
    (record,) = telemetry.records
    assert record.log_record.timestamp == 1_795_264_215_123_457_000


def test_what_does_not_apply_is_left_out(telemetry: Telemetry, alert: Alerts) -> None:
    """An event without snapshot and rule has no empty attributes."""
    otel_sink(telemetry.provider)(alert("the limit changed"))
    (record,) = telemetry.records
    assert set(record.log_record.attributes or {}) == {
        f"asyncmem.alert.{name}" for name in ("level", "type", "state", "fingerprint")
    }


def test_an_alert_belongs_to_no_trace(telemetry: Telemetry, alert: Alerts) -> None:
    """Also where it is raised inside of a request's span."""
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("request"):
        assert trace.get_current_span().get_span_context().is_valid
        otel_sink(telemetry.provider)(alert())
    (record,) = telemetry.records
    assert not record.log_record.trace_id
    assert not record.log_record.span_id


def test_without_an_sdk_nothing_happens(alert: Alerts) -> None:
    """The API alone takes records and drops them."""
    otel_sink()(alert())


@pytest.mark.anyio
async def test_it_is_a_handler_on_any_loop(
    telemetry: Telemetry,
    manager: AlertManager,
    alert: Alerts,
    serving: Callable[[AlertManager], AbstractAsyncContextManager[None]],
) -> None:
    """Added without more, it runs in a thread, so that an exporter may block."""
    manager.add_handler(otel_sink(telemetry.provider))
    async with serving(manager):
        manager.emit(alert("one"))
        manager.emit(alert("two"))
        assert await manager.drain(30)
    assert [record.log_record.body for record in telemetry.records] == ["one", "two"]
    assert manager.statistics().handler_errors == 0


def test_it_is_quick_enough_for_a_loop(telemetry: Telemetry, manager: AlertManager, alert: Alerts) -> None:
    """Immediate on the loop's own thread, nothing in it blocks (blockbuster would say so)."""
    manager.add_handler(otel_sink(telemetry.provider), immediate=True)

    async def raise_one() -> None:
        manager.emit(alert())

    asyncio.run(raise_one())
    assert len(telemetry.records) == 1
    assert manager.statistics().handler_errors == 0


def test_what_admission_did_becomes_attributes(telemetry: Telemetry, alert: Alerts, outlook: AdmissionOutlook) -> None:
    """What it does, and the task class that holds most."""
    otel_sink(telemetry.provider)(msgspec.structs.replace(alert(), admission=outlook))
    attributes = telemetry.records[0].log_record.attributes
    assert attributes is not None
    assert {name: value for name, value in attributes.items() if name.startswith("asyncmem.admission.")} == {
        "asyncmem.admission.action": "queueing",
        "asyncmem.admission.headroom": -5,
        "asyncmem.admission.in_flight": 2,
        "asyncmem.admission.queued": 3,
        "asyncmem.admission.task_class": "resize",
        "asyncmem.admission.task_class_share": 0.75,
        "asyncmem.admission.exceeds_limit": True,
    }
