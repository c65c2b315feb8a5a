"""A process that holds what the tests say, and a clock that they turn."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from asyncmem.admission.learning import LearnedCostModel, TaskClass

MIB = 1024 * 1024


@dataclass(eq=False, kw_only=True)
class Task:
    """One task; stands where the model expects a permit."""

    task_class: TaskClass
    admitted_at: float
    reserved: int
    size: float = 0.0
    is_open: bool = True
    stage: int = -1
    declared: bool = False
    guessed: bool = False
    taken: int = -1
    measured: int = -1
    is_stepping: bool = False
    holds: float = 0.0
    """MiB now."""


class Process:
    """Tasks, the model that watches them, and time."""

    most = 4096 * MIB

    def __init__(self) -> None:
        self.model = LearnedCostModel()
        self.now = 100.0
        self.base = 200.0
        self.noise = 0.5
        self.waiting = self.waits = 0.0
        """MiB that those in the queue may take at most, and do."""
        self.tasks: list[Task] = []
        self.random = random.Random(7)  # noqa: S311 - reproducible
        self.sample()

    def sample(self, times: int = 1) -> None:
        """Let 10 ms pass and read, some times."""
        for _ in range(times):
            self.now += 0.01
            live = self.base + sum(task.holds for task in self.tasks) + self.waits
            live += self.random.uniform(-self.noise, self.noise)
            self.model.sample(int(live * MIB), self.now, int(self.waiting * MIB))

    def begin(self, name: str, holds: float = 0.0, *, size: float = 0.0, reserved: int | None = None) -> Task:
        """A task is admitted and takes so many MiB."""
        task_class = self.model.find(name)
        price = task_class.price(size, self.most) if reserved is None else reserved
        task = Task(task_class=task_class, admitted_at=self.now, reserved=price, size=size, holds=holds)
        task_class.enter(task)
        self.tasks.append(task)
        return task

    def end(self, task: Task, *, learn: bool = True) -> None:
        """It is over, and its memory free."""
        self.tasks.remove(task)
        task.is_open = False
        task.task_class.leave(task, self.now, learn=learn)

    def one(self, name: str, holds: float, *, size: float = 0.0, samples: int = 10) -> None:
        """A task from beginning to end, with nothing of its own beside it."""
        task = self.begin(name, holds, size=size)
        self.sample(samples)
        self.end(task)
        self.sample()

    def traffic(self, means: dict[str, float], count: int, *, company: int = 4, samples: int = 5) -> None:
        """So many tasks of classes by their mean in MiB (10 % more or less), with some of them always in flight."""
        names = list(means)
        for _ in range(count):
            name = self.random.choice(names)
            self.begin(name, means[name] * self.random.uniform(0.9, 1.1))
            self.sample(self.random.randint(1, samples))
            while len(self.tasks) > company:
                self.end(self.random.choice(self.tasks))
                self.sample(self.random.randint(1, samples))

    def price(self, name: str, size: float = 0.0) -> float:
        """MiB that the next task would reserve."""
        return self.model.find(name).price(size, self.most) / MIB


@pytest.fixture
def process() -> Process:
    """A process that holds 200 MiB and runs nothing."""
    return Process()


@pytest.fixture
def new_process() -> Callable[[], Process]:
    """Another one."""
    return Process
