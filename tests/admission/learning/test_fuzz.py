"""Whatever comes in, prices are bytes, and what has left holds nothing."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from asyncmem.admission.learning import LearnedCostModel

if TYPE_CHECKING:
    from asyncmem.admission.learning import TaskClass

MIB = 1024 * 1024
NAMES = st.sampled_from("abcdefgh")


class Task:
    """One task."""

    def __init__(self, task_class: TaskClass, admitted_at: float, reserved: int, size: float) -> None:
        self.task_class = task_class
        self.admitted_at = admitted_at
        self.reserved = reserved
        self.size = size
        self.is_open = True
        self.stage = -1
        self.declared = self.guessed = False
        self.taken = self.measured = -1
        self.is_stepping = False


class Anything(RuleBasedStateMachine):
    """Tasks come and go in any order, readings and clocks are what they like."""

    tasks: Bundle[Task] = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.model = LearnedCostModel(max_classes=5)
        self.now = 0.0
        self.open = 0

    @rule(
        target=tasks,
        name=NAMES,
        reserved=st.integers(-5, 1 << 50) | st.integers(0, 1 << 28),
        size=st.floats() | st.floats(0, 1e7),
    )
    def enter(self, name: str, reserved: int, size: float) -> Task:
        """One is admitted."""
        task_class = self.model.find(name)
        assert isinstance(task_class.may_start(self.now), bool)
        task = Task(task_class, self.now, reserved, size)
        task_class.enter(task)
        self.open += 1
        return task

    @rule(name=NAMES, reserved=st.integers(1, 1 << 24), count=st.integers(1, 60), size=st.sampled_from([0.0, 1e6]))
    def come_and_go(self, name: str, reserved: int, count: int, size: float) -> None:
        """Many at once, seen by some samples."""
        task_class = self.model.find(name)
        many = [Task(task_class, self.now, reserved, size * (i + 1)) for i in range(count)]
        for task in many:
            task_class.enter(task)
        for i in range(3):
            self.now += 0.3
            self.model.sample(100 * MIB + reserved * count * i // 4, self.now)
        for task in many:
            task_class.leave(task, self.now, learn=True)

    @rule(task=consumes(tasks), learn=st.booleans())
    def leave(self, task: Task, learn: bool) -> None:
        """One ends."""
        task.task_class.leave(task, self.now, learn=learn)
        self.open -= 1

    @rule(live=st.none() | st.integers(-10, 1 << 70) | st.integers(0, 1 << 33), times=st.integers(1, 20))
    def sample(self, live: int | None, times: int) -> None:
        """Memory is read."""
        for _ in range(times):
            self.now += 0.01
            self.model.sample(live, self.now)

    @rule(seconds=st.floats(-1e6, 1e6) | st.floats(0, 1))
    def pass_time(self, seconds: float) -> None:
        """The clock jumps."""
        self.now += seconds

    @rule()
    def restart(self) -> None:
        """What is known is written and read."""
        LearnedCostModel().load(self.model.dump()())

    @rule(name=NAMES, size=st.floats(), most=st.integers(0, 1 << 60))
    def price(self, name: str, size: float, most: int) -> None:
        """A price is asked for."""
        price = self.model.find(name).price(size, most)
        assert isinstance(price, int)
        assert 64 * 1024 <= price <= 1 << 62

    @invariant()
    def figures_are_figures(self) -> None:
        """Nothing is infinite, nothing is forgotten."""
        assert isfinite(self.model.held)
        assert isfinite(self.model.to_come)
        for known in self.model.statistics().values():
            assert known.cost is None or known.cost > 0
            assert known.peak >= 0
            assert known.spread >= 0
            assert isfinite(known.per_byte)

    def teardown(self) -> None:
        """When all have left, nothing is held."""
        if self.open == 0:
            for _ in range(3):
                self.now += 1.0
                self.model.sample(100 * MIB, self.now)
            assert self.model.held == 0.0
            assert self.model.to_come == 0.0
            assert len(self.model._terms.terms) == 2


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
