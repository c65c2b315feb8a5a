"""Who is served first: priority, arrival, and how long one has waited."""

from __future__ import annotations

import math

import pytest

from asyncmem.admission import FairQueue, Priority
from asyncmem.admission.waiter import Waiter
from asyncmem.errors import ConfigError

PLENTY = 1_000_000


def join(queue: FairQueue, nbytes: int = 10, priority: Priority = Priority.NORMAL, now: float = 0.0) -> Waiter:
    """Put a waiter in."""
    waiter = Waiter(nbytes, priority, now=now)
    queue.add(waiter)
    return waiter


def serve(queue: FairQueue, headroom: int = PLENTY, now: float = 0.0) -> Waiter | None:
    """Take out whoever is next."""
    waiter = queue.next(headroom, PLENTY, now, 0)
    if waiter is not None:
        queue.remove(waiter)
    return waiter


def serve_all(queue: FairQueue) -> list[Waiter]:
    """Everybody, in the order of service."""
    served = []
    while (waiter := serve(queue)) is not None:
        served.append(waiter)
    return served


def test_within_a_priority_first_come_first_served() -> None:
    """Also where all came in the same moment."""
    queue = FairQueue()
    joined = [join(queue) for _ in range(10)]
    assert list(queue) == joined
    assert serve_all(queue) == joined
    assert len(queue) == 0


def test_the_higher_priority_goes_first() -> None:
    """Whatever the order of arrival."""
    queue = FairQueue()
    low, high, normal = (join(queue, priority=p) for p in (Priority.LOW, Priority.HIGH, Priority.NORMAL))
    assert queue.first() is high
    assert serve_all(queue) == [high, normal, low]


def test_seconds_of_waiting_count_as_a_priority() -> None:
    """After five seconds a low one goes before a normal one that has just come, after ten before a high one."""
    queue = FairQueue(ageing=5)
    low = join(queue, priority=Priority.LOW, now=0)
    high = join(queue, priority=Priority.HIGH, now=9.9)
    late_high = join(queue, priority=Priority.HIGH, now=10.1)
    normal = join(queue, priority=Priority.NORMAL, now=4.95)
    late_normal = join(queue, priority=Priority.NORMAL, now=5.05)
    assert serve_all(queue) == [high, normal, low, late_normal, late_high]


def test_of_equals_the_one_that_waited_longer_goes_first() -> None:
    """The aged one has as much of a right as one of a higher priority that came an ageing period later."""
    queue = FairQueue(ageing=5)
    high = join(queue, priority=Priority.HIGH, now=5)
    normal = join(queue, priority=Priority.NORMAL, now=0)
    assert serve_all(queue) == [normal, high]


def test_the_low_do_not_starve_under_a_stream_of_the_high() -> None:
    """Room for one at a time, a high one comes with each that is served: the low one has its turn after ten seconds."""
    queue = FairQueue(ageing=5)
    low = join(queue, priority=Priority.LOW)
    join(queue, priority=Priority.HIGH)
    for tenths in range(1, 200):
        now = tenths / 10
        join(queue, priority=Priority.HIGH, now=now)
        if serve(queue, now=now) is low:
            assert now == pytest.approx(10, abs=0.2)
            return
    pytest.fail("it starved")


def test_removed_wherever_it_stands() -> None:
    """First, last, in the middle: the rest keep their order and the sums follow."""
    queue = FairQueue()
    joined = [join(queue, nbytes) for nbytes in range(1, 8)]
    for index in (6, 3, 0):
        queue.remove(joined.pop(index))
        assert list(queue) == joined
        assert queue.first() is joined[0]
        assert queue.wanted == sum(waiter.nbytes for waiter in joined)


def test_an_empty_queue() -> None:
    """Has no first, no next and asks for nothing."""
    queue = FairQueue()
    assert queue.first() is None
    assert queue.next(PLENTY, PLENTY, 0.0, 0) is None
    assert list(queue) == []
    assert (len(queue), queue.wanted, queue.held_bytes) == (0, 0, 0)


def test_bytes_held_by_waiting_are_counted_and_come_back() -> None:
    """One fits when what it needs beyond what it holds already is free."""
    queue = FairQueue()
    waiter = Waiter(100, held_bytes=30)
    queue.add(waiter)
    assert queue.held_bytes == 30
    assert serve(queue, headroom=69) is None
    assert serve(queue, headroom=70) is waiter
    assert queue.held_bytes == 0


def test_what_stands_ahead_of_a_priority() -> None:
    """A thousand low ones are no reason to tell a high one that it would wait."""
    queue = FairQueue()
    for _ in range(1000):
        join(queue, 100, Priority.LOW)
    join(queue, 7, Priority.NORMAL)
    join(queue, 5, Priority.HIGH)
    assert [queue.ahead_of(priority) for priority in Priority] == [100_012, 12, 5]
    assert queue.wanted == 100_012


def test_prices_are_asked_for_when_their_version_changes() -> None:
    """And only then; the sum of what is wanted follows."""
    prices = iter((50, 20))
    queue = FairQueue()
    waiter = Waiter(90, price=lambda: next(prices))
    queue.add(waiter)
    assert queue.wanted == 90
    for _ in range(5):
        assert queue.next(10, PLENTY, 0.0, 1) is None
    assert queue.wanted == 50
    assert queue.next(20, PLENTY, 0.0, 2) is waiter
    assert (waiter.nbytes, queue.wanted) == (20, 20)


def test_ten_thousand_removed_at_once() -> None:
    """From the front, where a plain dictionary would be slow at finding its first."""
    queue = FairQueue()
    joined = [join(queue) for _ in range(10_000)]
    for waiter in joined:
        queue.remove(waiter)
        queue.first()
    assert (len(queue), queue.wanted) == (0, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ageing", 0.0), ("ageing", math.inf), ("passing_seconds", -1.0), ("max_passes", -1), ("look_ahead", math.nan)],
)
def test_numbers_that_cannot_be_are_refused(name: str, value: float) -> None:
    """With the name of the argument."""
    with pytest.raises(ConfigError, match=name):
        FairQueue(**{name: value})  # type: ignore[arg-type]
