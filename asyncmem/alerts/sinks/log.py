"""The sink that logs through structlog; `MemoryRuntime` adds it unless told otherwise.

It flattens an alert into one event and picks the level. How events are written is the business of structlog's
configuration; records for OpenTelemetry are made by `asyncmem.alerts.sinks.otel`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import structlog

from asyncmem.events import AlertLevel, AlertState, MemoryAlert

__all__ = ["EventLogger", "structlog_sink"]


class EventLogger(Protocol):
    """What `structlog_sink` needs of a logger; structlog's bound loggers have it."""

    def info(self, event: str, **fields: object) -> object:
        """Log at level info."""
        ...

    def warning(self, event: str, **fields: object) -> object:
        """Log at level warning."""
        ...

    def critical(self, event: str, **fields: object) -> object:
        """Log at level critical."""
        ...


_FROM_SNAPSHOT: Final = ("rss", "working_set", "limit", "available_system", "percent")
_FROM_ADMISSION: Final = ("headroom", "queued", "task_class", "task_class_share", "exceeds_limit")
_RENAMED: Final = {"level": "alert_level", "message": "alert_message", "timestamp": "alert_timestamp"}
"""structlog's processors write `level` and `timestamp` of their own, and the standard library's logging refuses an
extra field `message`."""


def structlog_sink(logger: EventLogger | None = None) -> Callable[[MemoryAlert], None]:
    """Make a handler that logs one ``memory_alert`` event per alert.

    The event has the fields of `MemoryAlert.as_dict` that apply, JSON-ready; `level`, `message` and `timestamp` are
    named ``alert_level``, ``alert_message`` and ``alert_timestamp``, and of the snapshot there are ``rss``,
    ``working_set``, ``limit``, ``available_system`` (bytes) and ``percent``; of admission ``admission`` (what it does),
    ``headroom``, ``queued``, ``task_class``, ``task_class_share`` and ``exceeds_limit``. It is logged at the alert's
    level, the end of an episode at info.

    The handler is quick and thread-safe as far as the logger is: add it with ``immediate=True``, and alerts are
    logged also where no loop runs.

    Args:
        logger: Takes the events; None for structlog's, named ``asyncmem.alerts``.
    """
    log: EventLogger = structlog.stdlib.get_logger("asyncmem.alerts") if logger is None else logger

    def sink(alert: MemoryAlert) -> None:
        fields = alert.as_dict()
        snapshot = fields.pop("snapshot") or {}
        admission = fields.pop("admission") or {}
        fields |= {name: snapshot[name] for name in _FROM_SNAPSHOT if name in snapshot}
        fields |= {name: admission[name] for name in _FROM_ADMISSION if name in admission}
        fields["admission"] = admission.get("action")
        event = {_RENAMED.get(name, name): value for name, value in fields.items() if value is not None}
        if alert.state is AlertState.RESOLVED or alert.level is AlertLevel.INFO:
            log.info("memory_alert", **event)
        elif alert.level is AlertLevel.WARNING:
            log.warning("memory_alert", **event)
        else:
            log.critical("memory_alert", **event)

    return sink
