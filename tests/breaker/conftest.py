"""A breaker on memory and time that are set by hand."""

from __future__ import annotations

import copy
from typing import Any

from asyncmem.breaker import CircuitBreaker
from asyncmem.events import BreakerState
from asyncmem.testing import ManualClock

LIMIT = 10_000
"""Warned from 5000 (to 4375), open from 7500, closes below 6875."""
NORMAL, TRYING, SHORT = 1000, 7000, 8000
"""In use: little; too much to close, not too much to try; too much."""


class World:
    """A breaker over 10 000 bytes of which 1000 are in use; it stays open for 1 s first, and for 60 at most."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock(100.0)
        self.used = NORMAL
        self.limit = LIMIT
        self.error: Exception | None = None
        """Raised by every reading while it is set."""
        self.readings = 0
        self.changes: list[tuple[BreakerState, BreakerState]] = []
        defaults: dict[str, Any] = {"measure": self.measure, "clock": self.clock, "on_change": self.note}
        self.breaker = CircuitBreaker(**defaults | settings)

    def measure(self) -> tuple[int, int]:
        """Read what was set."""
        self.readings += 1
        if self.error is not None:
            raise copy.copy(self.error)  # one that is kept would keep, by its traceback, what was going on then
        return self.used, self.limit

    def note(self, before: BreakerState, after: BreakerState) -> None:
        """Keep a change."""
        self.changes.append((before, after))

    def see(self, used: int, seconds: float = 0.02) -> BreakerState:
        """So much is in use after a while, which somebody looks at."""
        self.used = used
        self.clock.advance(seconds)
        return self.breaker.look()

    def half_open(self, used: int = NORMAL) -> None:
        """Open it, and let its time pass."""
        self.see(SHORT)
        assert self.see(used, self.breaker.statistics().backoff) is BreakerState.HALF_OPEN
