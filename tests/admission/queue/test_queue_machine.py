"""Anything may happen in any order: the queue against a plain model of what it promises."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asyncmem.admission import FairQueue, Priority
from asyncmem.admission.waiter import Waiter

AGEING, PASSING, PASSES, CAPACITY = 5.0, 2.0, 3, 100
KINDS = ("plain", "new", "newer")


class Work(Waiter):
    """A waiter with what the model knows of it."""

    __slots__ = ("arrival", "cost", "first_blocked", "overtaken")

    arrival: int
    cost: int
    overtaken: int
    first_blocked: float | None

    def right(self) -> tuple[float, float, int]:
        """The lesser goes first."""
        return (self.since - self.priority * AGEING, self.since, self.arrival)


class QueueMachine(RuleBasedStateMachine):
    """A gate of the plainest kind on top of the queue."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue(AGEING, PASSING, PASSES)
        self.capacity = CAPACITY
        self.now = 0.0
        self.version = 0
        self.arrivals = 0
        self.barred: set[str] = set()
        self.waiting: list[Work] = []
        self.running: list[int] = []

    @rule(
        cost=st.integers(1, 120),
        priority=st.sampled_from(Priority),
        kind=st.sampled_from(KINDS),
        held=st.sampled_from((0, 0, 3)),
        grouped=st.booleans(),
    )
    def join(self, cost: int, priority: Priority, kind: str, held: int, grouped: bool) -> None:
        """Another one comes."""
        work: Work
        work = Work(
            cost,
            priority,
            price=lambda: work.cost,
            may_start=lambda: kind not in self.barred,
            held_bytes=held,
            now=self.now,
            kind=kind if grouped else None,
        )
        self.arrivals += 1
        work.arrival, work.cost, work.overtaken, work.first_blocked = self.arrivals, cost, 0, None
        work.size(self.version)
        self.queue.add(work)
        self.waiting.append(work)
        self.admit()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """Work ends and gives back."""
        self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.admit()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """One that waits is cancelled, wherever it stands."""
        self.queue.remove(self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1))))
        self.admit()

    @rule(capacity=st.integers(0, 150))
    def resize(self, capacity: int) -> None:
        """The limit is changed."""
        self.capacity = capacity
        self.admit()

    @rule(kinds=st.sets(st.sampled_from(KINDS[1:])))
    def bar(self, kinds: set[str]) -> None:
        """Some kinds may not start for now."""
        self.barred = kinds
        self.admit()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def learn(self, data: st.DataObject) -> None:
        """Prices change."""
        for work in data.draw(st.lists(st.sampled_from(self.waiting), unique_by=id)):
            work.cost = data.draw(st.integers(1, 150))
        self.version += 1
        self.admit()

    @rule(seconds=st.sampled_from((0.1, 0.7, 2.5)))
    def pass_time(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds
        self.admit()

    def free(self) -> int:
        """Bytes that may be promised."""
        return self.capacity - sum(self.running) - sum(work.held_bytes for work in self.waiting)

    def eligible(self) -> list[Work]:
        """Those that can be served at all, in order."""
        able = (w for w in self.waiting if w.cost <= self.capacity and w._may_start is not None and w._may_start())
        return sorted(able, key=Work.right)

    def admit(self) -> None:
        """Admit while somebody may, and check each decision; then nobody may be left who should have been."""
        idle = 0
        # Of each kind that was barred one comes back at a time, so the queue is asked until it has been through.
        while idle <= len(self.waiting):
            able, free = self.eligible(), self.free()
            chosen = self.queue.next(free, self.capacity, self.now, self.version)
            if able and able[0].cost - able[0].held_bytes > free and able[0].first_blocked is None:
                able[0].first_blocked = self.now
            if chosen is None:
                idle += 1
                continue
            idle = 0
            assert isinstance(chosen, Work)
            assert chosen in able
            assert chosen.nbytes == chosen.cost
            assert chosen.cost - chosen.held_bytes <= free
            if chosen is not able[0]:
                assert chosen.cost - chosen.held_bytes <= self.left_over(able[0], free)
                able[0].overtaken += 1
            self.queue.remove(chosen)
            self.waiting.remove(chosen)
            self.running.append(chosen.cost)
            assert self.free() >= 0 or chosen.cost <= chosen.held_bytes
        able, free = self.eligible(), self.free()
        if able:
            head, *others = able
            assert head.cost - head.held_bytes > free
            left_over = self.left_over(head, free)
            assert all(work.cost - work.held_bytes > left_over for work in others[:32])

    def left_over(self, head: Work, free: int) -> float:
        """What those may take who pass the head."""
        assert head.first_blocked is not None
        blocked = self.now - head.first_blocked
        if blocked >= PASSING or head.overtaken >= PASSES:
            return float("-inf")
        return free - int((head.cost - head.held_bytes) * blocked / PASSING)

    @invariant()
    def books_agree(self) -> None:
        """The queue holds who waits, in order, and its sums are theirs."""
        queue = self.queue
        assert list(queue) == sorted(self.waiting, key=Work.right)
        assert len(queue) == len(self.waiting)
        assert queue.held_bytes == sum(work.held_bytes for work in self.waiting)
        assert (queue.first() is None) == (not self.waiting)
        standing = [w for w in self.waiting if w.home is not queue._unready and w.home is not queue._oversized]
        assert queue.wanted == queue.ahead_of(Priority.LOW) == sum(work.counted for work in standing)
        assert queue.ahead_of(Priority.HIGH) == sum(w.counted for w in standing if w.priority is Priority.HIGH)

    def teardown(self) -> None:
        """As long as room comes back and nobody is barred, everybody that fits at all is served; nothing is left."""
        self.barred = set()
        self.capacity = 1000
        for work in self.waiting:
            work.cost = min(work.cost, self.capacity)
        while self.waiting:
            before = len(self.waiting)
            self.running.clear()
            self.now += PASSING
            self.admit()
            assert len(self.waiting) < before
        assert (len(self.queue), self.queue.held_bytes, self.queue.wanted) == (0, 0, 0)


QueueMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestQueueMachine = QueueMachine.TestCase
