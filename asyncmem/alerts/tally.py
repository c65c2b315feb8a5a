"""What the alert system has counted, as it counts it and as it shows it.

`Tally` is the one mutable record that manager, handlers and streams add to under their common lock; the others are the
frozen values that people, metrics and dashboards read.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from asyncmem.events import AlertLevel, AlertState, AlertType, MemoryAlert

__all__ = ["AlertStatistics", "AlertSummary", "StreamStatistics", "Tally"]


class AlertStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How alerts travelled, since the manager was made.

    Args:
        emitted: Alerts sent out: transitions of the rules, and what was given to `emit`.
        delivered: Handler calls that ended well, and alerts taken from streams.
        dropped: Alerts that a receiver never saw: its buffer was full, it was removed, or its call was cancelled.
        handler_errors: Handler calls that raised.
        handler_timeouts: Handler calls that took longer than they may.
        streams: Streams that are open.
        handlers: Handlers that are registered.
        queued: Alerts that wait for a handler now.
    """

    emitted: int
    delivered: int
    dropped: int
    handler_errors: int
    handler_timeouts: int
    streams: int
    handlers: int
    queued: int


class AlertSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the alerts were about, since the manager was made; not bounded by the history.

    Args:
        firing: Alerts that said that something begins, or changes its level.
        resolved: Alerts that said that it has ended.
        active: Episodes that are firing now.
        by_level: The firing ones by level, all levels named; a copy.
        by_type: The firing ones by type, all types named; a copy.
    """

    firing: int
    resolved: int
    active: int
    by_level: dict[AlertLevel, int]
    by_type: dict[AlertType, int]


class StreamStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one stream's alerts.

    Args:
        buffered: Alerts that wait to be taken.
        max_buffer: How many may wait.
        delivered: Alerts that were taken.
        dropped: Alerts that were pushed out by newer ones because nobody took them in time.
    """

    buffered: int
    max_buffer: int
    delivered: int
    dropped: int


class Tally:
    """The running counts; read and written under the manager's lock."""

    __slots__ = ("by_level", "by_type", "delivered", "dropped", "errors", "firing", "resolved", "timeouts")

    def __init__(self) -> None:
        self.firing = 0
        self.resolved = 0
        self.delivered = 0
        self.dropped = 0
        self.errors = 0
        self.timeouts = 0
        self.by_level: Counter[AlertLevel] = Counter()
        self.by_type: Counter[AlertType] = Counter()

    def add(self, alert: MemoryAlert) -> None:
        """Count an alert that goes out."""
        if alert.state is AlertState.RESOLVED:
            self.resolved += 1
            return
        self.firing += 1
        self.by_level[alert.level] += 1
        self.by_type[alert.alert_type] += 1

    def statistics(self, *, streams: int, handlers: int, queued: int) -> AlertStatistics:
        """The counts of the way that alerts took."""
        return AlertStatistics(
            emitted=self.firing + self.resolved,
            delivered=self.delivered,
            dropped=self.dropped,
            handler_errors=self.errors,
            handler_timeouts=self.timeouts,
            streams=streams,
            handlers=handlers,
            queued=queued,
        )

    def summary(self, *, active: int) -> AlertSummary:
        """The counts of what alerts were about."""
        return AlertSummary(
            firing=self.firing,
            resolved=self.resolved,
            active=active,
            by_level={level: self.by_level[level] for level in AlertLevel},
            by_type={kind: self.by_type[kind] for kind in AlertType},
        )
