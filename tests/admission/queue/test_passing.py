"""Small ones go by a head that does not fit, so many times and so many seconds, and then it has its turn."""

from __future__ import annotations

from collections import deque

import pytest

from asyncmem.admission import FairQueue, Priority
from asyncmem.admission.waiter import Waiter

CAPACITY = 100


def join(queue: FairQueue, nbytes: int, priority: Priority = Priority.NORMAL, now: float = 0.0) -> Waiter:
    """Put a waiter in."""
    waiter = Waiter(nbytes, priority, now=now)
    queue.add(waiter)
    return waiter


def serve(queue: FairQueue, headroom: int, now: float = 0.0) -> Waiter | None:
    """Take out whoever is next."""
    waiter = queue.next(headroom, CAPACITY, now, 0)
    if waiter is not None:
        queue.remove(waiter)
    return waiter


def test_a_small_one_uses_what_the_head_cannot() -> None:
    """Memory that lies idle serves nobody."""
    queue = FairQueue()
    head, small = join(queue, 80), join(queue, 30)
    assert serve(queue, 50) is small
    assert head.passed == 1
    assert serve(queue, 80) is head


def test_without_passing_the_order_is_strict() -> None:
    """As in the semaphore."""
    for queue in (FairQueue(passing_seconds=0), FairQueue(max_passes=0), FairQueue(look_ahead=0)):
        head = join(queue, 80)
        join(queue, 30)
        assert serve(queue, 50) is None
        assert serve(queue, 80) is head


def test_the_number_of_passes_is_bounded() -> None:
    """Then nobody passes, though there is room."""
    queue = FairQueue(max_passes=3)
    head = join(queue, 80)
    for _ in range(5):
        join(queue, 1)
    served = [serve(queue, 50) for _ in range(4)]
    assert None not in served[:3]
    assert served[3] is None
    assert head.passed == 3
    assert serve(queue, 80) is head


def test_the_shadow_grows_from_nothing_to_the_whole_of_the_head() -> None:
    """With 100 free and a head of 200 blocked for half of the period nothing is left over; at a quarter, 50."""
    queue = FairQueue(passing_seconds=4)
    join(queue, 200)
    for nbytes in (90, 50, 51, 1):
        join(queue, nbytes)

    def passes(now: float) -> int | None:
        waiter = queue.next(100, 1000, now, 0)
        return None if waiter is None else waiter.nbytes

    assert passes(0.0) == 90
    assert passes(1.0) == 50
    assert passes(1.9) == 1
    assert passes(2.1) is None
    assert passes(0.0) == 90


def test_the_shadow_counts_from_the_first_time_it_was_blocked() -> None:
    """And not from its arrival: whoever waited behind others has held nobody up."""
    queue = FairQueue(passing_seconds=2)
    join(queue, 80, now=0.0)
    small = join(queue, 40, now=0.0)
    assert serve(queue, 50, now=60.0) is small
    join(queue, 40, now=61.0)
    assert serve(queue, 50, now=61.0) is None
    join(queue, 10, now=61.0)
    assert serve(queue, 50, now=61.0) is not None
    assert serve(queue, 50, now=62.0) is None


def test_one_that_comes_to_stand_before_the_head_does_not_reset_its_claim() -> None:
    """Its shadow goes on where it was when the other is gone."""
    queue = FairQueue(passing_seconds=2)
    head = join(queue, 90)
    assert serve(queue, 50, now=0.0) is None
    urgent = join(queue, 60, Priority.HIGH, now=1.0)
    small = join(queue, 10, now=1.0)
    assert serve(queue, 50, now=1.0) is small
    assert (urgent.passed, head.passed) == (1, 0)
    assert serve(queue, 60, now=1.5) is urgent
    join(queue, 10, now=1.5)
    assert serve(queue, 50, now=2.0) is None


def test_only_so_many_are_looked_at() -> None:
    """One that would fit behind them is not found until it has moved up."""
    queue = FairQueue(look_ahead=4)
    join(queue, 90)
    four = [join(queue, 60) for _ in range(4)]
    small = join(queue, 10)
    assert serve(queue, 50) is None
    queue.remove(four[2])
    assert serve(queue, 50) is small


@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.HIGH])
def test_one_that_comes_later_and_fits_is_seen(priority: Priority) -> None:
    """That nobody fitted at the last look does not hide it."""
    queue = FairQueue()
    join(queue, 90)
    join(queue, 80)
    assert serve(queue, 50) is None
    late = join(queue, 50, priority)
    assert serve(queue, 50) is late


def test_the_blocked_head_may_pass_one_that_came_before_it() -> None:
    """A higher priority stands first and does not fit; the head of before is smaller."""
    queue = FairQueue()
    before = join(queue, 60)
    join(queue, 95)
    assert serve(queue, 50) is None
    join(queue, 90, Priority.HIGH)
    assert serve(queue, 70) is before


def test_a_price_that_falls_is_seen() -> None:
    """A look that found nobody counts for its version of prices alone."""
    price = 60
    queue = FairQueue()
    join(queue, 90)
    waiter = Waiter(60, price=lambda: price)
    queue.add(waiter)
    assert queue.next(50, CAPACITY, 0.0, 1) is None
    price = 40
    assert queue.next(50, CAPACITY, 0.0, 1) is None
    assert queue.next(50, CAPACITY, 0.0, 2) is waiter


def test_what_a_look_costs_does_not_grow_with_the_queue() -> None:
    """Counted in questions: none about others while the head fits, and none twice while it is blocked."""
    asked = 0

    def may_start() -> bool:
        nonlocal asked
        asked += 1
        return True

    for length in (100, 10_000):
        queue = FairQueue()
        for _ in range(length):
            queue.add(Waiter(90, may_start=may_start))
        asked = 0
        assert queue.next(90, CAPACITY, 0.0, 0) is not None
        assert asked == 1
        assert queue.next(50, CAPACITY, 0.0, 0) is None
        assert asked == 2 + 32
        for _ in range(10):
            queue.add(Waiter(90, may_start=may_start, now=1.0))
            assert queue.next(50, CAPACITY, 1.0, 0) is None
        assert asked == 2 + 32 + 20


@pytest.mark.parametrize("small", [1, 10, 40])
def test_a_large_head_does_not_starve_under_a_stream_of_small_ones(small: int) -> None:
    """More small ones come than there is room for, and each stays a second: the large one still has its turn."""
    queue = FairQueue()
    held: deque[tuple[float, int]] = deque()
    large, started = join(queue, CAPACITY), None
    for tick in range(1000):
        now = tick / 100
        while held and held[0][0] <= now:
            held.popleft()
        for _ in range(2 + CAPACITY // small // 50):
            join(queue, small, now=now)
        free = CAPACITY - sum(nbytes for _, nbytes in held)
        while (waiter := serve(queue, free, now)) is not None:
            free -= waiter.nbytes
            held.append((now + 1.0, waiter.nbytes))
            if waiter is large:
                started = now
        assert free >= 0
        if started is not None:
            break
    assert started is not None
    assert started <= 2.0 + 1.0 + 0.02
