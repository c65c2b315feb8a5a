"""Those that cannot be served whatever is given back block nobody, cost little, and come back to their place."""

from __future__ import annotations

import pytest

from asyncmem.admission import FairQueue, Priority
from asyncmem.admission.waiter import Waiter


class Kind:
    """A kind of work that may start or not, and counts how often that was asked."""

    def __init__(self) -> None:
        self.ready = False
        self.asked = 0

    def may_start(self) -> bool:
        """Whether it may."""
        self.asked += 1
        return self.ready

    def join(self, queue: FairQueue, nbytes: int = 10, *, now: float = 0.0, grouped: bool = True) -> Waiter:
        """Put a waiter of this kind in."""
        waiter = Waiter(nbytes, may_start=self.may_start, now=now, kind=self if grouped else None)
        queue.add(waiter)
        return waiter


def join(queue: FairQueue, nbytes: int, priority: Priority = Priority.NORMAL, now: float = 0.0) -> Waiter:
    """Put a waiter in that may always start."""
    waiter = Waiter(nbytes, priority, now=now)
    queue.add(waiter)
    return waiter


def serve(queue: FairQueue, headroom: int = 100, most: int = 100, version: int = 0) -> Waiter | None:
    """Take out whoever is next."""
    waiter = queue.next(headroom, most, 0.0, version)
    if waiter is not None:
        queue.remove(waiter)
    return waiter


def test_one_larger_than_all_there_is_blocks_nobody() -> None:
    """And is the first again when there is enough."""
    queue = FairQueue(passing_seconds=0)
    large, small, other = join(queue, 150), join(queue, 10), join(queue, 10)
    assert serve(queue) is small
    assert list(queue) == [large, other]
    assert serve(queue, 100, 200) is None
    assert serve(queue, 150, 200) is large
    assert serve(queue) is other


def test_they_come_back_in_their_order_when_there_is_more() -> None:
    """Those of two priorities among those that came later."""
    queue = FairQueue(passing_seconds=0)
    sizes = [150, 300, 120, 200, 180, 110]
    large = [join(queue, nbytes, priority) for nbytes in sizes for priority in (Priority.LOW, Priority.HIGH)]
    assert serve(queue) is None
    late = join(queue, 100, Priority.HIGH)
    order = [waiter for waiter in (*large, late) if waiter.priority is Priority.HIGH]
    order += [waiter for waiter in large if waiter.priority is Priority.LOW]
    assert list(queue) == order
    fitting = [waiter for waiter in order if waiter.nbytes <= 200]
    assert [serve(queue, 200, 200) for _ in range(len(fitting) + 1)] == [*fitting, None]
    assert [waiter.nbytes for waiter in queue] == [300, 300]
    assert [queue.first(), serve(queue, 300, 300)] == [order[1], order[1]]


def test_one_whose_price_has_fallen_comes_back() -> None:
    """Prices are asked again when their version changes."""
    price = 150
    queue = FairQueue()
    waiter = Waiter(150, price=lambda: price)
    queue.add(waiter)
    assert serve(queue, version=1) is None
    price = 80
    assert serve(queue, version=1) is None
    assert serve(queue, version=2) is waiter


def test_thousands_are_priced_anew_some_at_a_time() -> None:
    """So that a look stays cheap; after as many looks as it takes all have been asked."""
    price, asked = 150, 0

    def ask() -> int:
        nonlocal asked
        asked += 1
        return price

    queue = FairQueue()
    for _ in range(1000):
        queue.add(Waiter(150, price=ask))
    assert serve(queue, version=1) is None
    asked, price = 0, 120
    for _ in range(100):
        assert serve(queue, version=2) is None
    assert asked == 1000
    assert serve(queue, 120, 120, version=2) is not None


def test_thousands_of_them_are_walked_over_once() -> None:
    """Then a look asks nobody but the one that it finds."""
    asked = 0

    def may_start() -> bool:
        nonlocal asked
        asked += 1
        return True

    queue = FairQueue()
    for _ in range(10_000):
        queue.add(Waiter(150, may_start=may_start))
    small = join(queue, 90)
    assert queue.next(90, 100, 0.0, 0) is small
    asked = 0
    for _ in range(100):
        assert queue.next(90, 100, 0.0, 0) is small
        assert queue.next(10, 100, 0.0, 0) is None
    assert asked == 0


def test_one_whose_kind_may_not_start_blocks_nobody() -> None:
    """And has its turn, before those that came later, as soon as it may."""
    queue, kind = FairQueue(passing_seconds=0), Kind()
    first, other, later = kind.join(queue), join(queue, 10), join(queue, 10)
    assert queue.first() is other
    assert serve(queue) is other
    kind.ready = True
    assert serve(queue) is first
    assert serve(queue) is later


def test_a_kind_is_asked_once_for_all() -> None:
    """However many of it wait; and each that starts is asked for again, for that may have been the last that may."""
    queue, kind = FairQueue(), Kind()
    joined = [kind.join(queue) for _ in range(5000)]
    kind.asked = 0
    for _ in range(10):
        assert serve(queue) is None
    assert kind.asked == 10
    kind.ready = True
    assert [serve(queue) for _ in range(3)] == joined[:3]
    kind.ready = False
    assert serve(queue) is None
    kind.ready = True
    assert [serve(queue) for _ in range(4998)] == [*joined[3:], None]


def test_a_kind_that_lost_its_readiness_while_it_was_blocked_keeps_its_order() -> None:
    """Its first came back, did not fit, and may not start after all."""
    queue, kind = FairQueue(), Kind()
    joined = [kind.join(queue, 80) for _ in range(4)]
    kind.ready = True
    for _ in range(3):
        assert serve(queue, 50) is None
    kind.ready = False
    assert serve(queue) is None
    assert list(queue) == joined
    kind.ready = True
    assert [serve(queue) for _ in range(5)] == [*joined, None]


def test_without_a_kind_each_is_asked_in_turn() -> None:
    """Some at a time, so that each is found in the end."""
    queue = FairQueue()
    kinds = [Kind() for _ in range(500)]
    joined = [kind.join(queue, grouped=False) for kind in kinds]
    for kind in kinds:
        kind.asked = 0
    assert serve(queue) is None
    assert sum(kind.asked for kind in kinds) == 32
    kinds[77].ready = True
    looks = 1
    while serve(queue) is None:
        looks += 1
    assert looks <= 500 // 32 + 1
    assert joined[77] not in list(queue)


def test_priorities_within_a_kind() -> None:
    """The higher goes first here too."""
    queue, kind = FairQueue(), Kind()
    low, high = (Waiter(10, p, may_start=kind.may_start, kind=kind) for p in (Priority.LOW, Priority.HIGH))
    queue.add(low)
    queue.add(high)
    assert serve(queue) is None
    kind.ready = True
    assert [serve(queue), serve(queue)] == [high, low]


def test_those_set_aside_stand_in_nobodys_way_in_forecasts() -> None:
    """They wait for something else than bytes; what they hold by waiting counts all the same."""
    queue, kind = FairQueue(), Kind()
    kind.join(queue, 70)
    queue.add(Waiter(500, held_bytes=5))
    join(queue, 30)
    assert queue.next(10, 100, 0.0, 0) is None
    assert (queue.wanted, queue.held_bytes, len(queue)) == (30, 5, 3)
    kind.ready = True
    assert queue.next(10, 500, 0.0, 0) is None
    assert queue.wanted == 600


def test_where_all_are_set_aside_there_is_a_first_all_the_same() -> None:
    """None would mean that nobody waits."""
    queue, kind = FairQueue(), Kind()
    waiter = kind.join(queue)
    assert queue.first() is waiter
    queue.remove(waiter)
    assert queue.first() is None
    large = join(queue, 150)
    assert serve(queue) is None
    assert queue.first() is large


@pytest.mark.parametrize("rounds", [200])
def test_those_that_left_are_not_kept(rounds: int) -> None:
    """Waiters larger than there is come and time out for ever: nothing piles up."""
    queue, kind = FairQueue(), Kind()
    for _ in range(rounds):
        joined = [join(queue, 150) for _ in range(10)] + [kind.join(queue) for _ in range(10)]
        assert serve(queue) is None
        for waiter in joined:
            queue.remove(waiter)
    assert len(queue) == 0
    assert len(queue._oversized._heap) < 200
    assert not queue._unready


def test_the_first_of_a_kind_does_not_hide_the_next_by_being_too_large() -> None:
    """The kind may start again; its first asks for more than there is; its second came before the others."""
    queue, kind = FairQueue(passing_seconds=0), Kind()
    large, second = kind.join(queue, 150), kind.join(queue, 20)
    join(queue, 10, now=1.0)
    kind.ready = True
    assert serve(queue) is second
    assert queue.wanted == 10
    assert serve(queue, 150, 150) is large
