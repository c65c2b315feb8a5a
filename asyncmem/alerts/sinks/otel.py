"""The sink that emits OpenTelemetry log records: one event per alert, through the logs API.

It needs the API alone (``pip install 'asyncmem[otel]'``). Provider, processors and exporter are the application's: an
SDK set up in code, or by ``opentelemetry-instrument``; without one, records go nowhere. Metrics are not covered here.

Python's logs API is still called ``opentelemetry._logs``, because it may change. From 1.39 on the API and the SDK have
agreed on the keywords that are used here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from asyncmem.events import AdmissionOutlook, AlertLevel, AlertState, MemoryAlert, MemorySnapshot

try:
    from opentelemetry._logs import LoggerProvider, SeverityNumber, get_logger
    from opentelemetry.context import Context
    from opentelemetry.trace import INVALID_SPAN, set_span_in_context
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise ImportError(
        "asyncmem.alerts.sinks.otel needs opentelemetry-api; install it with: pip install 'asyncmem[otel]'",
        name=missing.name,
    ) from missing

__all__ = ["otel_sink"]

_SCOPE: Final = "asyncmem.alerts"
_EVENT: Final = "asyncmem.memory_alert"
_SEVERITIES: Final = {
    AlertLevel.INFO: SeverityNumber.INFO,
    AlertLevel.WARNING: SeverityNumber.WARN,
    # As the SDK maps `logging.CRITICAL`: alerts look the same whether they come this way or through the log.
    AlertLevel.CRITICAL: SeverityNumber.FATAL,
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def otel_sink(logger_provider: LoggerProvider | None = None) -> Callable[[MemoryAlert], None]:
    """Make a handler that emits one log record per alert.

    The record is an event, ``asyncmem.memory_alert``: body is the message, timestamp the alert's, severity its level
    (critical is FATAL, the end of an episode INFO). Attributes are ``asyncmem.alert.*`` for the alert itself; of the
    snapshot, in bytes and under the names of the semantic conventions where there are some, ``process.memory.usage``,
    ``process.memory.virtual``, ``system.memory.linux.available``, ``asyncmem.memory.working_set`` and
    ``asyncmem.memory.limit``, and ``asyncmem.memory.percent``; of admission ``asyncmem.admission.*``.

    A record belongs to no trace: memory is the whole process's, and the request during which it ran short is seldom
    the one to blame.

    The handler is thread-safe. Behind a processor that batches it is quick, too, and can be added with
    ``immediate=True``; one that exports at once blocks, and such a handler belongs into its thread (the default).

    Args:
        logger_provider: Where records go; None for the global provider, also one that is set later.
    """
    logger = get_logger(_SCOPE, logger_provider=logger_provider)
    # Neither None nor empty: both would mean the context of whoever raises the alert.
    no_trace = set_span_in_context(INVALID_SPAN, Context())

    def sink(alert: MemoryAlert) -> None:
        level = AlertLevel.INFO if alert.state is AlertState.RESOLVED else alert.level
        logger.emit(
            timestamp=(alert.timestamp - _EPOCH) // _MICROSECOND * 1000,
            context=no_trace,
            severity_number=_SEVERITIES[level],
            severity_text=level.value.upper(),
            body=alert.message,
            attributes=_attributes(alert),
            event_name=_EVENT,
        )

    return sink


def _attributes(alert: MemoryAlert) -> dict[str, str | float]:
    fields: dict[str, str | float | None] = {
        "level": alert.level.value,
        "type": alert.alert_type.value,
        "state": alert.state.value,
        "fingerprint": alert.fingerprint,
        "rule": alert.rule,
        "value": alert.value,
        "threshold": alert.threshold,
    }
    attributes = {f"asyncmem.alert.{name}": value for name, value in fields.items() if value is not None}
    if alert.snapshot is not None:
        attributes |= _of_snapshot(alert.snapshot)
    if alert.admission is not None:
        attributes |= _of_admission(alert.admission)
    return attributes


def _of_admission(admission: AdmissionOutlook) -> dict[str, str | float]:
    fields: dict[str, str | float | None] = {
        "action": admission.action.value,
        "headroom": admission.headroom,
        "in_flight": admission.in_flight,
        "queued": admission.queued,
        "task_class": admission.task_class,
        "task_class_share": admission.task_class_share,
        "exceeds_limit": admission.exceeds_limit,
    }
    return {f"asyncmem.admission.{name}": value for name, value in fields.items() if value is not None}


def _of_snapshot(snapshot: MemorySnapshot) -> dict[str, str | float]:
    return {
        "process.memory.usage": snapshot.rss,
        "process.memory.virtual": snapshot.vms,
        "system.memory.linux.available": snapshot.available_system,
        "asyncmem.memory.working_set": snapshot.working_set,
        "asyncmem.memory.limit": snapshot.limit,
        "asyncmem.memory.percent": round(snapshot.percent, 2),
    }
