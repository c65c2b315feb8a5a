"""How much the process has grown: since a baseline, and per hour.

Per hour counts the slope of the least resident memory of each minute, over the last sixty that were seen: work comes
and goes within a minute, and what stays shows in the minima. The slope is Theil and Sen's (`asyncmem.stats.theil_sen`),
which a few odd minutes do not move. It is told from half an hour on: before that a cache that fills and a leak look the
same. Whether it is a leak is not said here.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from asyncmem.events import MemorySnapshot
from asyncmem.stats import theil_sen

__all__ = ["Growth"]

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_LONGEST: Final = 60
"""Minutes that count."""
_SHORTEST: Final = 30
"""Minutes before which nothing is told."""


class Growth:
    """Follows snapshots. One older than the one before is left out of the slope; by over a minute, it begins anew."""

    __slots__ = ("_baseline", "_is_set", "_last", "_least", "_minute", "_minutes", "per_hour", "starting")

    def __init__(self) -> None:
        self._baseline: int | None = None
        self._is_set = False
        self._minutes: deque[tuple[float, float]] = deque(maxlen=_LONGEST)
        self._minute = self._last = 0.0
        self._least = 0
        self.per_hour: float | None = None
        """Bytes per hour; None until it can be told."""
        self.starting = 0
        """How many say that what is taken now is no growth."""

    def update(self, snapshot: MemorySnapshot) -> None:
        """Take in a snapshot; the first one is the baseline where none was set."""
        if self._baseline is None or self.starting:
            self._baseline = snapshot.rss
        if self.starting:
            self._minutes.clear()
            self.per_hour, self._minute = None, 0.0
        at = snapshot.timestamp.timestamp()
        if at < self._last - _MINUTE:  # the clock was set back
            self._minutes.clear()
            self.per_hour = None
            self._minute = 0.0
        elif at < self._last:  # taken a while ago, or by another thread
            return
        self._last = at
        if at - self._minute < _MINUTE:
            self._least = min(self._least, snapshot.rss)
            return
        if self._minute:
            self._minutes.append((self._minute, float(self._least)))
            self.per_hour = self._slope()
        self._minute, self._least = at, snapshot.rss

    def set_baseline(self, snapshot: MemorySnapshot | None) -> None:
        """Count from a snapshot on; None for the next one that comes."""
        self._is_set = True
        self._baseline = None if snapshot is None else snapshot.rss

    def follow_baseline(self, snapshot: MemorySnapshot) -> None:
        """Count from a snapshot on, unless a baseline was set."""
        if not self._is_set:
            self._baseline = snapshot.rss

    def since_baseline(self, snapshot: MemorySnapshot) -> int:
        """Bytes by which resident memory is above the baseline."""
        return snapshot.rss - (snapshot.rss if self._baseline is None else self._baseline)

    def _slope(self) -> float | None:
        if len(self._minutes) < _SHORTEST:
            return None
        seconds, values = zip(*self._minutes, strict=True)
        return theil_sen(seconds, values) * _HOUR
