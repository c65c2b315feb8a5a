"""Time that passes when told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["ManualClock"]


class ManualClock:
    """A clock that stands still until it is advanced.

    Args:
        start: Monotonic seconds to begin with.
        now: The wall clock to begin with, aware; by default the first of January 2026, UTC.
    """

    def __init__(self, start: float = 0.0, now: datetime | None = None) -> None:
        self._monotonic = start
        self._now = datetime(2026, 1, 1, tzinfo=UTC) if now is None else now

    def monotonic(self) -> float:
        """Seconds since `start`, as far as it was advanced."""
        return self._monotonic

    def now(self) -> datetime:
        """The wall clock."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks.

        Raises:
            ValueError: Time does not go back.
        """
        if seconds < 0:
            raise ValueError(f"advance: got {seconds}; expected 0 or more, for time does not go back")
        self._monotonic += seconds
        self._now += timedelta(seconds=seconds)
