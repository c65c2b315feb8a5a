"""The circuit by itself: readings and ends of work go in, the state comes out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncmem.breaker import Circuit, Outcome, Thresholds
from asyncmem.errors import ConfigError
from asyncmem.events import BreakerState

CLOSED, WARNING, OPEN, HALF_OPEN = BreakerState
LIMIT = 10_000
"""Warned from 5000 (to 4375), open from 7500, closes below 6875."""
LEGAL = {
    (CLOSED, WARNING),
    (WARNING, CLOSED),
    (CLOSED, OPEN),
    (WARNING, OPEN),
    (OPEN, HALF_OPEN),
    (HALF_OPEN, OPEN),
    (HALF_OPEN, CLOSED),
    (HALF_OPEN, WARNING),
}


class Readings:
    """A circuit that is told what is in use."""

    def __init__(self, **settings: Any) -> None:
        self.now = 100.0
        self.changes: list[tuple[BreakerState, BreakerState]] = []
        self.circuit = Circuit(
            Thresholds(), on_change=lambda before, after: self.changes.append((before, after)), **settings
        )

    def see(self, used: int, seconds: float = 0.1, in_flight: int | None = None) -> BreakerState:
        """So much is in use after a while."""
        self.now += seconds
        return self.circuit.read(used, LIMIT, self.now, in_flight=in_flight)

    def begin(self) -> int:
        """A probe passes."""
        ticket = self.circuit.begin(self.now)
        assert ticket
        return ticket

    @property
    def wait(self) -> float:
        """How long it stays open."""
        return self.circuit.statistics(self.now).backoff


@pytest.mark.parametrize(
    ("used", "state"),
    [(0, CLOSED), (4999, CLOSED), (5000, WARNING), (7499, WARNING), (7500, OPEN), (99_999, OPEN)],
)
def test_one_reading_warns_or_opens(used: int, state: BreakerState) -> None:
    """Half of the limit and three quarters of it; opening needs no warning before."""
    assert Readings().see(used) is state


def test_a_warning_ends_below_where_it_began() -> None:
    """Between the two nothing changes, whichever way it came."""
    readings = Readings()
    assert [readings.see(used) for used in (4999, 5000, 4375, 4374, 4999)] == [CLOSED, WARNING, WARNING, CLOSED, CLOSED]


def test_open_lasts_until_its_time_is_over_and_memory_is_lower() -> None:
    """Neither alone is enough; then it lets work through to try."""
    readings = Readings()
    readings.see(7500)
    assert readings.see(0, seconds=0.9) is OPEN
    assert readings.see(7500, seconds=5.0) is OPEN
    assert readings.see(7499) is HALF_OPEN


def test_too_much_in_use_at_the_end_of_its_time_is_no_failed_attempt() -> None:
    """Nothing was tried, so it does not take longer the next time: memory that is back is used at once."""
    readings = Readings()
    readings.see(8000)
    for _ in range(100):
        readings.see(8000, seconds=1.0)
    assert readings.wait == 1.0
    assert readings.see(1000) is HALF_OPEN


def test_a_probe_that_goes_well_closes_it() -> None:
    """At the next reading, if that is low enough."""
    readings = Readings()
    readings.see(8000)
    readings.see(1000, seconds=1.0)
    ticket = readings.begin()
    assert readings.circuit.begin(readings.now) is None
    assert readings.see(1000) is HALF_OPEN
    readings.circuit.end(ticket, Outcome.SUCCEEDED, readings.now)
    assert readings.see(6875) is HALF_OPEN
    assert readings.see(6874) is WARNING
    assert readings.circuit.begin(readings.now) == 0


def test_as_many_have_to_go_well_as_pass_at_a_time() -> None:
    """One after the other will do."""
    readings = Readings(probes=3)
    readings.see(8000)
    readings.see(1000, seconds=1.0)
    for _ in range(2):
        readings.circuit.end(readings.begin(), Outcome.SUCCEEDED, readings.now)
        assert readings.see(1000) is HALF_OPEN
    tickets = [readings.begin() for _ in range(3)]
    assert readings.circuit.begin(readings.now) is None
    readings.circuit.end(tickets[1], Outcome.SUCCEEDED, readings.now)
    assert readings.see(1000) is CLOSED


@pytest.mark.parametrize("state", [CLOSED, WARNING])
def test_work_that_runs_out_of_memory_opens_it(state: BreakerState) -> None:
    """However little is in use."""
    readings = Readings()
    readings.see(1000 if state is CLOSED else 6000)
    readings.circuit.end(0, Outcome.FAILED, readings.now)
    assert readings.circuit.state is OPEN
    assert readings.circuit.failures == 1


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.NEITHER])
def test_work_that_is_no_probe_shows_nothing_by_ending(outcome: Outcome) -> None:
    """It began while the circuit was closed, and gives no place back either."""
    readings = Readings()
    free = readings.circuit.begin(readings.now)
    readings.see(8000)
    readings.see(1000, seconds=1.0)
    readings.begin()
    assert free == 0
    readings.circuit.end(free, outcome, readings.now)
    assert readings.see(1000) is HALF_OPEN
    assert readings.circuit.begin(readings.now) is None


def test_it_stays_open_twice_as_long_each_time_up_to_a_most() -> None:
    """And begins anew when it has closed."""
    readings = Readings(backoff=0.5, max_backoff=3.0)
    readings.circuit.end(0, Outcome.FAILED, readings.now)
    waits = []
    for _ in range(5):
        waits.append(readings.wait)
        assert readings.see(1000, seconds=readings.wait - 0.01) is OPEN
        assert readings.see(1000, seconds=0.02) is HALF_OPEN
        readings.circuit.end(readings.begin(), Outcome.FAILED, readings.now)
        assert readings.circuit.state is OPEN
    assert waits == [0.5, 1.0, 2.0, 3.0, 3.0]
    readings.see(1000, seconds=3.0)
    readings.circuit.end(readings.begin(), Outcome.SUCCEEDED, readings.now)
    assert readings.see(1000) is CLOSED
    assert readings.wait == 0.5


def test_too_much_in_use_while_trying_opens_it_for_longer() -> None:
    """The probes have shown that memory does not suffice."""
    readings = Readings()
    readings.see(8000)
    readings.see(7000, seconds=1.0)
    assert readings.see(7500) is OPEN
    assert readings.wait == 2.0


def test_a_failure_while_it_is_open_changes_nothing() -> None:
    """It is of work that had passed before, and is counted."""
    readings = Readings()
    readings.see(8000)
    for _ in range(3):
        readings.circuit.end(0, Outcome.FAILED, readings.now)
    assert (readings.circuit.state, readings.wait, readings.circuit.failures) == (OPEN, 1.0, 3)
    assert readings.see(1000, seconds=1.0) is HALF_OPEN


def test_a_probe_of_an_earlier_time_gives_no_place_back() -> None:
    """Nor does it count as one that went well."""
    readings = Readings()
    readings.see(8000)
    readings.see(1000, seconds=1.0)
    old = readings.begin()
    readings.see(8000)
    readings.see(1000, seconds=2.0)
    new = readings.begin()
    assert new != old
    readings.circuit.end(old, Outcome.SUCCEEDED, readings.now)
    assert readings.circuit.begin(readings.now) is None
    assert readings.see(1000) is HALF_OPEN
    assert readings.circuit.is_running(new)
    assert not readings.circuit.is_running(old)


def test_a_probe_that_does_not_end_gives_its_place_to_another() -> None:
    """After the longest backoff: a stream that never ends does not keep everybody out for ever."""
    readings = Readings(max_backoff=10.0)
    readings.see(8000)
    readings.see(7000, seconds=1.0)
    endless = readings.begin()
    readings.see(7000, seconds=9.9)
    assert readings.circuit.begin(readings.now) is None
    readings.see(7000, seconds=0.2)
    assert readings.begin()
    readings.circuit.end(endless, Outcome.SUCCEEDED, readings.now)
    assert readings.circuit.running == 1


def test_without_work_it_closes_by_readings_alone() -> None:
    """When memory was low for as long as it was open."""
    readings = Readings(backoff=2.0)
    readings.see(8000)
    assert readings.see(1000, seconds=2.0) is HALF_OPEN
    assert readings.see(1000, seconds=1.9) is HALF_OPEN
    assert readings.see(1000, seconds=0.2) is CLOSED


def test_a_higher_reading_begins_that_time_anew() -> None:
    """All of them have to lie below where it closes."""
    readings = Readings()
    readings.see(8000)
    assert readings.see(1000, seconds=1.0) is HALF_OPEN
    readings.see(7000, seconds=0.9)
    readings.see(1000)
    assert readings.see(1000, seconds=0.9) is HALF_OPEN
    assert readings.see(1000, seconds=0.2) is CLOSED


def test_while_a_probe_runs_it_does_not_close_by_readings() -> None:
    """What the probe needs is not known before it has ended."""
    readings = Readings()
    readings.see(8000)
    readings.see(1000, seconds=1.0)
    ticket = readings.begin()
    assert readings.see(1000, seconds=5.0) is HALF_OPEN
    readings.circuit.end(ticket, Outcome.NEITHER, readings.now)
    assert readings.see(1000) is CLOSED


def test_probes_that_show_nothing_do_not_keep_it_half_open() -> None:
    """Work that always ends by some error of its own closes it as no work would."""
    readings = Readings()
    readings.see(8000)
    readings.see(1000, seconds=1.0)
    states = []
    while readings.circuit.state is HALF_OPEN:
        ticket = readings.begin()
        assert readings.see(1000, seconds=0.125) is HALF_OPEN  # nobody reads memory between two of them
        readings.circuit.end(ticket, Outcome.NEITHER, readings.now)
        states.append(readings.circuit.state)
    assert states == [HALF_OPEN] * 7 + [CLOSED]


def test_with_nothing_in_flight_it_is_half_open_and_not_open() -> None:
    """At once, however much is in use: else it would refuse for ever what could only be given back by running."""
    readings = Readings()
    assert readings.see(9999, in_flight=3) is OPEN
    assert readings.see(9999, in_flight=0) is HALF_OPEN
    assert readings.changes == [(CLOSED, OPEN), (OPEN, HALF_OPEN)]
    assert Readings().see(9999, in_flight=0) is HALF_OPEN


def test_as_few_in_flight_as_it_lets_pass_do_not_open_it_again() -> None:
    """They are its probes; more of them open it, and that is no failed attempt."""
    readings = Readings(probes=2)
    readings.see(9999, in_flight=0)
    assert readings.see(9999, in_flight=2) is HALF_OPEN
    assert readings.see(9999, in_flight=3) is OPEN
    assert readings.wait == 1.0
    assert readings.see(9999, in_flight=0) is HALF_OPEN
    assert readings.see(1000, in_flight=0) is HALF_OPEN
    assert readings.see(1000, in_flight=9, seconds=1.0) is CLOSED


def test_a_lowered_limit_counts_at_once() -> None:
    """And a raised one."""
    circuit = Circuit(Thresholds())
    assert circuit.read(4000, 10_000, 1.0) is CLOSED
    assert circuit.read(4000, 5000, 2.0) is OPEN
    assert circuit.read(4000, 10_000, 3.0) is HALF_OPEN


def test_an_older_reading_changes_nothing() -> None:
    """Threads may be held up between reading and saying so."""
    circuit = Circuit(Thresholds())
    circuit.read(1000, 10_000, 2.0)
    assert circuit.read(9000, 10_000, 1.0) is CLOSED


def test_where_memory_cannot_be_read_the_last_reading_stands() -> None:
    """Also for what depends on time; where there is none, memory counts as low."""
    readings = Readings()
    readings.see(8000)
    assert readings.circuit.blind(readings.now + 50) is OPEN

    never = Circuit(Thresholds())
    never.end(0, Outcome.FAILED, 1.0)
    assert [never.blind(now) for now in (1.5, 2.0, 2.9, 3.1)] == [OPEN, HALF_OPEN, HALF_OPEN, CLOSED]
    assert never.unreadable == 4
    assert never.readings == 0


def test_it_tells_when_another_try_is_worth_it() -> None:
    """Open, when its time is over; half-open with no place free, after a first backoff or when one must be."""
    readings = Readings(backoff=2.0, max_backoff=5.0)
    assert readings.circuit.retry_after(readings.now) == 0
    readings.see(8000)
    assert readings.circuit.retry_after(readings.now + 0.5) == pytest.approx(1.5)
    assert readings.circuit.retry_after(readings.now + 9) == 2.0
    readings.see(7000, seconds=2.0)
    readings.begin()
    assert readings.circuit.retry_after(readings.now) == 2.0
    assert readings.circuit.retry_after(readings.now + 4) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"backoff": 0}, ["backoff", "0"]),
        ({"backoff": -1.0}, ["backoff", "-1.0"]),
        ({"backoff": float("nan")}, ["backoff", "nan"]),
        ({"backoff": "1s"}, ["backoff", "'1s'"]),
        ({"max_backoff": float("inf")}, ["max_backoff", "inf"]),
        ({"backoff": 90}, ["backoff=90", "max_backoff=60.0"]),
        ({"probes": 0}, ["probes", "0"]),
        ({"probes": 1.5}, ["probes", "1.5"]),
        ({"probes": True}, ["probes", "True"]),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], words: list[str]) -> None:
    """With the value in the message, and with both that contradict each other."""
    with pytest.raises(ConfigError) as refused:
        Circuit(Thresholds(), **settings)
    assert all(word in str(refused.value) for word in words), refused.value


def test_statistics_tell_what_was_taken_in() -> None:
    """With the thresholds in bytes, and None for what is not known yet."""
    readings = Readings()
    first = readings.circuit.statistics(0.0)
    assert (first.used, first.limit, first.open_at, first.since) == (None, None, None, None)
    readings.see(1000)
    readings.see(8000)
    assert readings.circuit.begin(readings.now) is None
    assert not readings.circuit.check(readings.now)
    statistics = readings.circuit.statistics(readings.now + 0.4)
    assert (statistics.state, statistics.since) == (OPEN, readings.now)
    assert (statistics.used, statistics.limit) == (8000, LIMIT)
    assert (statistics.warning_at, statistics.reset_at, statistics.open_at) == (5000, 6875, 7500)
    assert (statistics.opened, statistics.rejected, statistics.readings) == (1, 2, 2)
    assert statistics.retry_after == pytest.approx(0.6)


amounts = st.integers(0, 12_000)
steps = st.floats(0.001, 5.0)


@given(st.lists(st.tuples(st.integers(6875, 8500), steps), min_size=1, max_size=200))
def test_a_usage_about_the_threshold_does_not_flap(samples: list[tuple[int, float]]) -> None:
    """It opens once and does not close; and what it tries in between becomes ever rarer."""
    readings = Readings()
    begun = readings.now
    for used, seconds in samples:
        readings.see(used, seconds)
    assert sum(after is OPEN for before, after in readings.changes if before.is_closed) <= 1
    assert not any(after.is_closed for before, after in readings.changes if before is HALF_OPEN)
    passed, waited, wait = readings.now - begun, 0.0, 1.0
    for before, after in readings.changes:
        if (before, after) == (OPEN, HALF_OPEN):
            waited += wait
            wait = min(2 * wait, 60.0)
    assert waited <= passed


@given(st.lists(st.tuples(st.integers(4375, 5624), steps), max_size=200))
def test_a_usage_about_the_warning_does_not_flap(samples: list[tuple[int, float]]) -> None:
    """One warning and no end of it."""
    readings = Readings()
    for used, seconds in samples:
        readings.see(used, seconds)
    assert len(readings.changes) <= 1


@given(st.lists(st.tuples(amounts, steps)), amounts)
def test_one_reading_is_enough_to_open_whatever_came_before(before: list[tuple[int, float]], used: int) -> None:
    """Work never passes freely while as much is in use as opens it."""
    readings = Readings()
    for amount, seconds in before:
        readings.see(amount, seconds)
    readings.see(used)
    assert used < 7500 or not readings.circuit.passes


@given(st.lists(st.tuples(amounts, steps, st.none() | st.integers(0, 3), st.integers(0, 20_000)), max_size=60))
def test_with_nothing_in_flight_something_may_always_begin(
    samples: list[tuple[int, float, int | None, int]],
) -> None:
    """Whatever the readings and the limits; and every change is along an edge that there is."""
    changes: list[tuple[BreakerState, BreakerState]] = []
    circuit, now = Circuit(Thresholds(), on_change=lambda *change: changes.append(change)), 0.0
    for used, seconds, in_flight, limit in samples:
        now += seconds
        circuit.read(used, limit, now, in_flight=in_flight)
        assert circuit.state is not OPEN or in_flight != 0
        assert circuit.passes is circuit.state.is_closed
    assert set(changes) <= LEGAL
    assert all(after is before for (_, after), (before, _) in pairwise(changes))


@given(st.lists(st.tuples(amounts, steps), max_size=60))
def test_memory_that_stays_low_always_closes_it_in_the_end(samples: list[tuple[int, float]]) -> None:
    """With no work at all: at most the longest backoff open, and as long again half-open."""
    readings = Readings(backoff=0.5, max_backoff=4.0)
    for used, seconds in samples:
        readings.see(used, seconds)
    for _ in range(85):
        readings.see(1000, seconds=0.1)
    assert readings.circuit.state is CLOSED
