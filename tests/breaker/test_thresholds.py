"""Where a breaker warns and opens: by bytes, by share, by headroom; and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncmem.breaker import Lines, Thresholds
from asyncmem.errors import ConfigError
from asyncmem.units import MIB

GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("settings", "limit", "warning", "opens"),
    [
        ({}, 10_000, 5000, 7500),
        ({"open_at": "90%"}, 10_000, 6000, 9000),
        ({"warning": "40%"}, 10_000, 4000, 7500),
        ({"open_at": "1.5GB"}, 10**10, 10**9, 15 * 10**8),
        ({"warning": "1.0GB", "open_at": 15 * 10**8}, 10**10, 10**9, 15 * 10**8),
        ({"headroom": "200MiB"}, GIB, GIB - 400 * MIB + 1, GIB - 200 * MIB + 1),
        ({"headroom": "10%"}, 10_000, 8001, 9001),
        ({"headroom": 1000, "warning": "50%"}, 10_000, 5000, 9001),
        ({"open_at": "100%"}, 900, 600, 900),
    ],
)
def test_thresholds_can_be_shares_bytes_or_headroom(
    settings: dict[str, Any], limit: int, warning: int, opens: int
) -> None:
    """The warning comes at two thirds, or at twice the headroom, unless it is given."""
    lines = Thresholds(**settings).lines(limit)
    assert (lines.warning, lines.open) == (warning, opens)


def test_less_than_the_headroom_left_opens() -> None:
    """So many bytes exactly are still enough."""
    lines = Thresholds(headroom=100).lines(1000)
    assert lines.place(900) < lines.place(901) == 4


def test_each_line_is_left_below_where_it_is_reached() -> None:
    """By a quarter of the way between warning and opening."""
    assert Thresholds().lines(10_000) == Lines(calm=4375, warning=5000, reset=6875, open=7500)


def test_they_move_with_the_limit() -> None:
    """A share of it, and what must be left below it."""
    thresholds = Thresholds(headroom=100)
    assert [thresholds.lines(limit).open for limit in (1000, 2000, 1000)] == [901, 1901, 901]


def test_the_limit_itself_opens_in_any_case() -> None:
    """Bytes that are more than the limit would never open it."""
    assert Thresholds(open_at="8GB").lines(GIB).open == GIB


def test_bytes_and_shares_that_cross_leave_the_opening_in_its_place() -> None:
    """Which comes first is known only when the limit is."""
    thresholds = Thresholds(warning="1GiB", open_at="50%")
    assert thresholds.lines(4 * GIB).warning == GIB
    assert thresholds.lines(GIB) == Thresholds(open_at="50%").lines(GIB)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"warning": "80%"}, ["warning='80%'", "open_at='75%'"]),
        ({"warning": "75%", "open_at": "75%"}, ["warning='75%'", "open_at='75%'"]),
        ({"warning": 2000, "open_at": 1000}, ["warning=2000", "open_at=1000"]),
        ({"warning": "2GB", "open_at": "1.5GB"}, ["warning='2GB'", "open_at='1.5GB'"]),
        ({"warning": "95%", "headroom": "10%"}, ["warning='95%'", "headroom='10%'"]),
        ({"open_at": "75%", "headroom": "200MiB"}, ["open_at='75%'", "headroom='200MiB'"]),
        ({"open_at": 0}, ["open_at", "0", "more than 0"]),
        ({"open_at": "0%"}, ["open_at", "'0%'", "more than 0"]),
        ({"warning": 0}, ["warning", "0"]),
        ({"headroom": 0}, ["headroom", "0"]),
        ({"open_at": -1}, ["open_at", "-1"]),
        ({"open_at": "much"}, ["open_at", "'much'", "'75%'"]),
        ({"open_at": "120%"}, ["open_at", "'120%'"]),
        ({"warning": "-5%"}, ["warning", "'-5%'"]),
        ({"headroom": "3 parsecs"}, ["headroom", "parsecs"]),
        ({"open_at": 0.75}, ["open_at", "0.75"]),
        ({"open_at": True}, ["open_at", "True"]),
    ],
)
def test_what_cannot_be_is_refused_at_once(settings: dict[str, Any], words: list[str]) -> None:
    """With the argument and the value in the message; with both where two contradict each other."""
    with pytest.raises(ConfigError) as refused:
        Thresholds(**settings)
    assert all(word in str(refused.value) for word in words), refused.value


quantities = st.integers(1, 10**12) | st.integers(1, 100).map("{}%".format)


@given(quantities, quantities, st.booleans(), st.integers(0, 10**12))
def test_the_lines_rise_whatever_the_limit(warning: int | str, other: int | str, headroom: bool, limit: int) -> None:
    """From 1 on, so that nothing in use is always calm, and the limit itself opens."""
    try:
        thresholds = (
            Thresholds(warning=warning, headroom=other) if headroom else Thresholds(warning=warning, open_at=other)
        )
    except ConfigError:
        return
    lines = thresholds.lines(limit)
    assert 1 <= lines.calm <= lines.warning <= lines.reset <= lines.open <= max(1, limit)
    assert lines.place(0) == 0
    assert lines.place(max(1, limit)) == 4
