"""Time, as something that can be put in from outside.

Decisions read a `Clock` and never the `time` module, so that each can be tested without waiting;
`asyncmem.testing.ManualClock` is the one that tests turn by hand.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Where time comes from."""

    def monotonic(self) -> float:
        """Seconds that only ever go forward, from an arbitrary origin."""
        ...

    def now(self) -> datetime:
        """The wall clock, aware and in UTC."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        """The wall clock, aware and in UTC."""
        return datetime.now(UTC)
