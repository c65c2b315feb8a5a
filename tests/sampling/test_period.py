"""How soon to look again, from what is left and how fast it goes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncmem.sampling import GrowthRate, next_period

MIB = 1024 * 1024
GIB = 1024 * MIB

rooms = st.integers(-4 * GIB, 64 * GIB)
growths = st.floats(-1e12, 1e12)


def test_nothing_in_flight_asks_for_nothing() -> None:
    """However short memory is: then the idle interval and the kernel's events are enough."""
    assert next_period(-1, 1e12, 0) is None


@pytest.mark.parametrize(
    ("room", "growth", "seconds"),
    [
        (10 * GIB, 0, 0.050),
        (200 * MIB, 0, 0.04883),
        (41 * MIB, 0, 0.010),
        (20.5 * MIB, 0, 0.005),
        (4 * MIB, 0, 0.002),
        (0, 0, 0.002),
        (-100 * MIB, 0, 0.002),
        (200 * MIB, 4 * GIB, 0.0122),
        (200 * MIB, -4 * GIB, 0.04883),
    ],
)
def test_a_quarter_of_the_time_until_the_guard_band(room: float, growth: float, seconds: float) -> None:
    """Where nothing grows yet, one thread that begins to fill fresh memory is what is reckoned with."""
    assert next_period(room, growth, 1) == pytest.approx(seconds, rel=0.01)


@given(st.lists(rooms, min_size=2), growths)
def test_more_room_never_means_a_shorter_period(given_rooms: list[int], growth: float) -> None:
    """And it stays within its bounds."""
    periods = [next_period(room, growth, 1) for room in sorted(given_rooms)]
    for less, more in pairwise(periods):
        assert less is not None
        assert more is not None
        assert 0.002 <= less <= more <= 0.050


@given(rooms.filter(lambda room: room > 0), st.lists(growths, min_size=2))
def test_faster_growth_never_means_a_longer_period(room: int, given_growths: list[float]) -> None:
    """So that a run towards the limit is met with more looks."""
    periods = [next_period(room, growth, 1) or 0 for growth in sorted(given_growths)]
    assert periods == sorted(periods, reverse=True)


def test_the_bounds_can_be_set() -> None:
    """Whoever learns from samples wants them closer together."""
    assert next_period(10 * GIB, 0, 1, longest=0.010) == 0.010
    assert next_period(0, 0, 1, shortest=0.005) == 0.005


def test_growth_is_up_at_once_and_down_slowly() -> None:
    """A pause between two blocks does not end it."""
    rate = GrowthRate()
    assert rate.update(100 * MIB, 1.0) == 0
    assert rate.update(110 * MIB, 1.010) == pytest.approx(1000 * MIB, rel=0.01)
    assert rate.update(110 * MIB, 1.060) == pytest.approx(1000 * MIB * 0.905, rel=0.01)
    assert rate.update(50 * MIB, 1.110) == pytest.approx(1000 * MIB * 0.819, rel=0.01)
    assert rate.update(50 * MIB, 10.0) < MIB
    assert rate.value >= 0


def test_readings_that_come_too_close_are_left_to_the_next() -> None:
    """They neither count nor hide what grows."""
    rate = GrowthRate()
    rate.update(0, 0.0)
    assert rate.update(4 * MIB, 0.0001) == 0
    assert rate.update(10 * MIB, 0.010) == pytest.approx(1000 * MIB)


@given(st.lists(st.tuples(st.integers(0, GIB), st.floats(0, 1)), max_size=30))
def test_growth_is_never_negative(readings: list[tuple[int, float]]) -> None:
    """Whatever is read, at whatever time."""
    rate, now = GrowthRate(), 0.0
    for used, seconds in readings:
        now += seconds
        assert rate.update(used, now) >= 0
