"""Alerts: thresholds on memory snapshots, and delivery to handlers, to async streams and to the log.

`AlertManager` is the way in. It covers thresholds on percent of the limit, resident memory, its growth, headroom and
what the system has available, with hysteresis and a cooldown, so that one condition gives one alert and not one per
sample; and conditions that others report. It does not take snapshots (`asyncmem.monitor` does) and does not act on
pressure (admission and `asyncmem.reclaim` do).

Where next: `rules` for what is measured, `episode` for when an alert begins and ends, `episodes` for all of them,
`growth` for the trend, `delivery` and `handlers` for
calling functions, `streams` for iterating, `sinks` for handlers that are ready to use, `sight` for when memory cannot
be seen.
"""

from __future__ import annotations

from asyncmem.alerts.delivery import AlertHandler
from asyncmem.alerts.episodes import Detail
from asyncmem.alerts.handlers import Subscription
from asyncmem.alerts.manager import AlertManager
from asyncmem.alerts.rules import Threshold
from asyncmem.alerts.sinks import structlog_sink
from asyncmem.alerts.streams import AlertStream
from asyncmem.alerts.tally import AlertStatistics, AlertSummary, StreamStatistics

__all__ = [
    "AlertHandler",
    "AlertManager",
    "AlertStatistics",
    "AlertStream",
    "AlertSummary",
    "Detail",
    "StreamStatistics",
    "Subscription",
    "Threshold",
    "structlog_sink",
]
