"""Tasks that are not followed one by one, because there are too many: counted by class and stage of age.

A `Crowd` is one term of the sum, which stands for what each of them holds, and counts as often as there are tasks: for
crowds the filter is a recursive least squares of the process on counts. With inputs of known size a task counts as much
as its class expects of it. `Crowds` are all of a model, which drives them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from asyncmem.admission.learning.evidence import LEAST, Peak
from asyncmem.admission.learning.running import reserved_of, size_of
from asyncmem.admission.learning.stages import LAST_STAGE, STAGE_ENDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.admission.learning.evidence import Fit
    from asyncmem.admission.learning.protocols import Running
    from asyncmem.admission.learning.task_class import TaskClass
    from asyncmem.stats import SumFilter, SumTerm

__all__ = ["BEGIN_SPREAD", "Crowd", "Crowds"]

_SPREAD: Final = 0.3
"""By how much one task may differ from the mean, relative, and in MiB at least."""
_WAVER: Final = 0.01
"""Share by which the mean may change in a tick."""
_LEAST: Final = 0.5
"""MiB: what a task of a crowd is taken to hold at least when it is said by how much it may change."""
BEGIN_SPREAD: Final = 0.01
"""Variance, relative, by which newcomers may differ from what their class lets expect, however well it is known."""
_TEACH_SECONDS: Final = 0.25
_SURE: Final = 0.2
"""Crowds teach their class where their mean is known to within this share of it."""


class Crowd:
    """Tasks that are counted. Amounts in MiB.

    Args:
        task_class: Their class.
        stage: Their stage.
        term: Their term; its value is relative to what `fit` expects, or MiB where there is none.
        fit: What was known of the class when the crowd began.
        due: Moment at which it may teach its class.
    """

    __slots__ = ("_size", "count", "due", "fit", "queue", "room", "stage", "task_class", "term")

    def __init__(self, task_class: TaskClass, stage: int, term: SumTerm, fit: Fit | None, due: float) -> None:
        self.task_class = task_class
        self.stage = stage
        self.term = term
        self.fit = fit
        self.due = due
        self.queue: deque[Running] = deque()
        """In the order in which they came, so that the oldest leaves the stage first; the last stage needs none."""
        self.room = 0.0
        """What one of them may still add."""
        self.count = 0
        """Tasks in it."""
        self._size = 0.0

    def add(self, size: float) -> None:
        """A task with so many MiB of input has reached the stage."""
        self.count += 1
        self._size += size
        self._recount()

    def drop(self, size: float) -> None:
        """One has left it."""
        self.count -= 1
        self._size -= size
        self._recount()

    def waver(self, ticks: float) -> None:
        """Time has passed, and they may hold another amount each."""
        if self.count:
            off = _WAVER * max(self.term.value, _LEAST * self.count / self.term.coefficient)
            self.term.loosen(off * off * ticks)

    def mean(self) -> Peak:
        """What one of them holds on average; to be asked only where there is one."""
        term = self.term
        each = term.coefficient / self.count
        return Peak(max(0.0, self._size) / self.count, max(0.0, term.value) * each, term.variance * each * each)

    def _recount(self) -> None:
        self.term.coefficient = self._expected()
        if self.count:
            # The one that came or went is not like the mean, and that moves it.
            off = _SPREAD * max(self.term.value, self.count / self.term.coefficient) / self.count
            self.term.loosen(off * off)

    def _expected(self) -> float:
        """What all of them need together, by what is known: how often the term counts."""
        fit = self.fit
        if fit is None:
            return float(self.count)
        if not fit.sized:
            return self.count * fit.predict(0.0)
        return max(self.count * LEAST, self.count * fit.intercept + max(0.0, self._size) * fit.slope)


class Crowds:
    """All crowds of one model. Amounts in MiB.

    Args:
        terms: What each is a term of.
        mark: Called with a class that a crowd has taught.
    """

    __slots__ = ("_mark", "_terms", "all")

    def __init__(self, terms: SumFilter, mark: Callable[[TaskClass], object]) -> None:
        self._terms = terms
        self._mark = mark
        self.all: list[Crowd] = []

    def __bool__(self) -> bool:
        return bool(self.all)

    def join(self, running: Running, task_class: TaskClass, stage: int, now: float) -> None:
        """A task has reached a stage."""
        crowd = task_class.crowds[stage]
        if crowd is None:
            crowd = self._gather(running, task_class, stage, now)
        crowd.add(size_of(running))
        running.stage = stage
        if stage < LAST_STAGE:
            crowd.queue.append(running)

    def age(self, now: float) -> bool:
        """Move those that have reached the next stage; returns whether there were any."""
        is_stirred = False
        for crowd in [*self.all]:
            queue, stage = crowd.queue, crowd.stage
            end = STAGE_ENDS[stage]
            while queue and (queue[0].stage != stage or now - queue[0].admitted_at >= end):
                running = queue.popleft()
                if running.stage == stage:
                    crowd.drop(size_of(running))
                    self.join(running, crowd.task_class, stage + 1, now)
                    is_stirred = True
        return is_stirred

    def look(self, now: float, reading: float) -> tuple[float, float]:
        """A sample was taken in; returns what all hold, and may add. Crowds that have become empty are given up."""
        held = to_come = 0.0
        for crowd in [*self.all]:
            task_class = crowd.task_class
            if not crowd.count:
                task_class.crowds[crowd.stage] = None
                self.all.remove(crowd)
                self._terms.remove(crowd.term)
                continue
            crowd.term.value = max(0.0, min(reading / crowd.term.coefficient, crowd.term.value))
            each = crowd.mean()
            if now >= crowd.due:
                crowd.due = now + _TEACH_SECONDS
                self._teach(crowd, each)
            fit = task_class.fit
            if fit is not None and task_class.evidence.peaks:
                room = min(
                    fit.price(each.size) - each.peak, task_class.growth.upper(crowd.stage) * fit.predict(each.size)
                )
                crowd.room = max(0.0, room)
            held += each.peak * crowd.count
            to_come += crowd.room * crowd.count
        return held, to_come

    def _gather(self, running: Running, task_class: TaskClass, stage: int, now: float) -> Crowd:
        fit = task_class.fit
        before = task_class.crowds[stage - 1] if stage else None
        if before is not None:
            # What they held a moment ago, and doubt of half as much.
            fit = before.fit
            value, variance = before.term.value, before.term.variance + 0.25 * before.term.value**2
        elif fit is None:
            value, variance = 0.0, reserved_of(running) ** 2
        else:
            value, variance = task_class.begin_mean, task_class.begin_variance + BEGIN_SPREAD
        term = self._terms.add(value, variance, coefficient=0.0)
        crowd = task_class.crowds[stage] = Crowd(task_class, stage, term, fit, now + _TEACH_SECONDS)
        self.all.append(crowd)
        return crowd

    def _teach(self, crowd: Crowd, each: Peak) -> None:
        """A crowd teaches by and by what its tasks hold on average, in the stage where that is most."""
        task_class = crowd.task_class
        if each.variance > (_SURE * max(each.peak, LEAST)) ** 2:
            return
        for other in task_class.crowds:
            if other is not None and other.count and other.mean().peak > each.peak:
                return
        task_class.learn(each, alone=False, reserved=0.0)
        self._mark(task_class)
