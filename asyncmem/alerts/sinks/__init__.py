"""Sinks: handlers that are ready to use, for alerts that leave the process.

Each is given to `AlertManager.add_handler`, which says what becomes of its errors and how many alerts may wait for it.
Those that need more than asyncmem itself are an extra, and imported by their path.

========= ================================================= ===============================
module    where alerts go                                   extra
========= ================================================= ===============================
log       structlog, one event per alert: `structlog_sink`
webhook   an HTTP endpoint, retried: `WebhookSink`          ``asyncmem[webhook]``
otel      OpenTelemetry logs: `otel_sink`                   ``asyncmem[otel]``
========= ================================================= ===============================

Beside them, `slack` makes the message that a webhook sends by default, and `endpoint` keeps its URL to itself. Files,
queues and e-mail are not covered: a handler of one's own is a function of one alert.
"""

from __future__ import annotations

from asyncmem.alerts.sinks.log import EventLogger, structlog_sink

__all__ = ["EventLogger", "structlog_sink"]
