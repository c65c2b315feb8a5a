from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from asyncmem._clock import Clock, SystemClock
from asyncmem.testing import ManualClock


def test_it_stands_still_until_it_is_advanced() -> None:
    """Both clocks go on together, and only then."""
    clock = ManualClock()
    assert (clock.monotonic(), clock.now()) == (0.0, datetime(2026, 1, 1, tzinfo=UTC))
    assert clock.monotonic() == 0.0
    clock.advance(1.5)
    clock.advance(0)
    assert (clock.monotonic(), clock.now()) == (1.5, datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC))


def test_it_begins_where_it_is_told() -> None:
    """Seconds and wall clock apart; the time zone stays."""
    zone = timezone(timedelta(hours=2))
    clock = ManualClock(start=100.0, now=datetime(2030, 6, 1, tzinfo=zone))
    clock.advance(60)
    assert (clock.monotonic(), clock.now()) == (160.0, datetime(2030, 6, 1, 0, 1, tzinfo=zone))


def test_time_does_not_go_back() -> None:
    """The message says what was asked; nothing has changed."""
    clock = ManualClock(start=5.0)
    with pytest.raises(ValueError, match=r"got -0\.1; expected 0 or more"):
        clock.advance(-0.1)
    assert clock.monotonic() == 5.0


def test_both_clocks_serve_as_one() -> None:
    """The real one and the one turned by hand have the same methods, and aware times."""
    clocks: list[Clock] = [SystemClock(), ManualClock()]
    for clock in clocks:
        first, second = clock.monotonic(), clock.monotonic()
        assert second >= first
        assert clock.now().utcoffset() == timedelta(0)
