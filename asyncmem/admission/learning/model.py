"""Learns what tasks need from one number, the bytes that the process holds, while many of them overlap.

What is held is a base and what each task in flight holds. The model keeps an estimate of every one of these terms and
of how unsure it is (`stats.SumFilter`). A task that joins begins as its class lets expect, narrowly or widely as the
class is known; each sample corrects the terms together, each by its share of the doubt. So what a sample shows beyond
the expected goes to the newcomer, or to the one that had yet to grow; and the sample after a task has left shows by
the drop what it held, and thereby what its neighbours hold. At 10 ms a sample most intervals see one event or none,
which therefore is measured nearly by itself, even where no task is ever alone. What was found of each task teaches
its class (`evidence`): this is expectation-maximisation of a mixed-effects model, one task at a time (Dempster, Laird
and Rubin, 1977; Laird and Ware, 1982). A prediction that is far off is looked into by `surprise`.

Too many tasks to follow are counted in `crowds`. Tasks that no sample sees cost no sample anything.

Not here: the reading (`sampling.LiveMeter`), and what admission makes of the figures (`controller`).
"""

from __future__ import annotations

from collections import OrderedDict
from math import sqrt
from typing import TYPE_CHECKING, Final

from asyncmem.admission.learning.crowds import BEGIN_SPREAD, Crowds
from asyncmem.admission.learning.noise import Noise
from asyncmem.admission.learning.running import MIB, MOST, reserved_of, size_of
from asyncmem.admission.learning.saved import dump_classes, load_classes
from asyncmem.admission.learning.stages import LAST_STAGE
from asyncmem.admission.learning.surprise import Suspects, let_loose
from asyncmem.admission.learning.task_class import TaskClass
from asyncmem.admission.learning.tracks import ENDED, TRACKED, Track, peaks_so_far
from asyncmem.stats import SumFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.admission.learning.protocols import Running, TaskClassCost
    from asyncmem.stats import SumTerm

__all__ = ["LearnedCostModel"]


_TRACKS: Final = 16
"""Tasks that are followed one by one; a sample costs the square of their number."""
_TRACKS_LARGE: Final = 24
"""The same for those that are expected to need more than the others do on average."""
_TRACKS_FEW: Final = 32
_FEW_OF_A_CLASS: Final = 4
"""The same for classes of which fewer than so many are followed, and for tasks whose own steps say what they hold."""
_FOREVER: Final = 1e12
_TICK: Final = 0.01
"""Seconds between samples that the changes below are given for."""
_QUEUE_DOUBT: Final = 0.1
_QUEUE_DRIFT: Final = 0.02
"""What those that wait take may be any share of the most that they may, and so much another one a tick later."""
_DRIFT: Final = 0.02
"""MiB by which the base may move in a tick: caches, leaks."""
_GROWTH: Final = 0.01
"""Share of what tasks of its age may still add that one may add in a tick without surprise."""
_WAVER: Final = 0.003
"""Share of what a task holds that may change in a tick without surprise."""
_SURPRISE: Final = 5.0
"""An error of the prediction whose square is beyond so many times its variance is taken as a change."""
_IDLE_DOUBT: Final = 4.0
"""With nothing in flight the base is what is read, whatever it was before."""
_BEGIN_VARIANCE: Final = 1.0
"""MiB squared: however well a class is known, a newcomer may differ by that, or a wrong belief would last for ever."""
_STRAIN_COMPANY: Final = 2
"""Where more tasks of a class than this are followed, so many must hold more than it reserves to be believed."""
_MAY_DOUBLE: Final = 2.0
"""Those far beyond what is known still grow: as after the very first, twice as much is reserved."""
_UNLIKE: Final = 2.0
"""Of a class of which tasks that still grow hold so many times what it reserves, nothing is known."""
_STRAIN_MOST: Final = 64.0
"""A class reserves at most so many times what its evidence says."""
_UNEXPLAINED: Final = 6.0
_UNEXPLAINED_SHARE: Final = 0.1
"""Steps are believed where they explain what is held to within so many MiB, or so much of it."""
_REFIT_SECONDS: Final = 0.25
_EVICTION_TRIES: Final = 32


class LearnedCostModel:
    """Learns costs as the module says. All calls are made under the gate's lock.

    Args:
        max_classes: Classes that are remembered; then the one that was not asked for longest is forgotten, so that
            names that come from outside cannot fill the memory. One with tasks in flight stays.
    """

    __slots__ = (
        "_base",
        "_classes",
        "_crowds",
        "_departed",
        "_dirty",
        "_has_base",
        "_is_stirred",
        "_max_classes",
        "_newcomers",
        "_noise",
        "_queue",
        "_strained",
        "_terms",
        "_tracks",
        "fresh",
        "held",
        "sampled_at",
        "samples",
        "to_come",
        "unneeded",
        "version",
    )

    def __init__(self, *, max_classes: int = 1000) -> None:
        self._classes: OrderedDict[str, TaskClass] = OrderedDict()
        self._max_classes = max_classes
        self._terms = SumFilter()
        self._base: SumTerm = self._terms.add(0.0, 1.0)
        self._has_base = False
        self._queue: SumTerm = self._terms.add(0.5, _QUEUE_DOUBT, coefficient=0.0)
        """What those that wait take, as a share of the most that they may."""
        self._noise = Noise()
        self._tracks: dict[Running, Track] = {}
        self._crowds = Crowds(self._terms, self.mark)
        self._strained: set[TaskClass] = set()
        self._departed: list[Track] = []
        self._newcomers: dict[TaskClass, float] = {}
        self._is_stirred = False
        self._dirty: dict[TaskClass, float] = {}
        self.fresh: dict[Running, TaskClass] = {}
        """Tasks that no sample has seen."""
        self.held = 0.0
        """Bytes that the tasks in flight are believed to hold."""
        self.to_come = 0.0
        """Bytes that the tasks in flight may still add."""
        self.unneeded = 0.0
        """Bytes that they have reserved and will not need."""
        self.version = 0
        """Goes up whenever a price may have changed."""
        self.samples = 0
        """Readings taken in so far."""
        self.sampled_at = 0.0
        """Monotonic seconds of the last one."""

    @property
    def base(self) -> float:
        """Bytes that the process is believed to hold beside what its tasks do."""
        return self._base.value * MIB

    def find(self, name: str) -> TaskClass:
        """The class of that name; made on demand."""
        classes = self._classes
        found = classes.get(name)
        if found is not None:
            classes.move_to_end(name)
            return found
        if len(classes) >= self._max_classes:
            self._evict()
        found = classes[name] = TaskClass(self)
        return found

    def followed(self) -> list[Running]:
        """The tasks that are followed one by one, oldest first."""
        return list(self._tracks)

    def promised(self) -> dict[str, int]:
        """Bytes promised to the tasks in flight, by class: exact for those that are followed, a price for the rest."""
        followed: dict[TaskClass, list[int]] = {}
        for running, track in self._tracks.items():
            followed.setdefault(track.task_class, []).append(running.reserved)
        promised: dict[str, int] = {}
        for name, found in self._classes.items():
            if found.in_flight:
                exact = followed.get(found, [])
                promised[name] = sum(exact) + max(0, found.in_flight - len(exact)) * found.steady_price
        return promised

    def statistics(self) -> dict[str, TaskClassCost]:
        """What is known, by class."""
        return {name: found.statistics() for name, found in self._classes.items()}

    def dump(self) -> Callable[[], bytes]:
        """What was learned, as JSON, for `load` after a restart: copied at once, and written by what this returns."""
        return dump_classes(self._classes)

    def load(self, data: bytes) -> None:
        """Begin with what another process has learned; new evidence soon overrules it.

        Raises:
            ValueError: It is nothing that `dump` has written.
        """
        for name, saved in load_classes(data, self._max_classes):
            self.find(name).restore(saved)
        self.version += 1

    def sample(self, live: int | None, now: float, waiting: int = 0) -> None:
        """Take in a reading."""
        if live is None or not 0 <= live < MOST * MIB or not -_FOREVER < now < _FOREVER:
            return
        reading = live / MIB
        passed = now - self.sampled_at
        ticks = min(passed, 1.0) / _TICK if passed > 0.0 else 0.0
        self.sampled_at = now
        self.samples += 1
        self._noise.hear(reading, quiet=not (self.fresh or self._departed or self._is_stirred))
        self._is_stirred = False
        self._queue.coefficient = waiting / MIB
        self._drift(reading, ticks)
        if self.fresh:
            self._begin(now)
        if self._crowds and self._crowds.age(now):
            self._is_stirred = True
        self._take_in(reading)
        self._trust_steps(reading)
        self._look_at_tracks(now, reading)
        if self._departed:
            self._finish()
        if self._crowds:
            held, to_come = self._crowds.look(now, reading)
            self.held += held * MIB
            self.to_come += to_come * MIB
        if self._dirty:
            self._refit(now)

    def end(self, task_class: TaskClass, running: Running, *, learn: bool) -> None:
        """A task that samples have seen has ended; `TaskClass.leave` calls it."""
        stage, running.stage = running.stage, ENDED
        if stage == TRACKED:
            track = self._tracks.pop(running, None)
            if track is None:
                return
            self.held -= max(0.0, track.term.value) * MIB
            self.to_come -= track.room * MIB
            self.unneeded -= track.unneeded * MIB
            track.learn = learn
            task_class.tracked -= 1
            track.term.coefficient = 0.0
            self._departed.append(track)
        elif 0 <= stage <= LAST_STAGE and (crowd := task_class.crowds[stage]) is not None:
            self.held -= crowd.mean().peak * MIB
            self.to_come -= crowd.room * MIB
            crowd.drop(size_of(running))
            self._is_stirred = True

    # -- from the last sample to this one -----------------------------------------------------------------------------

    def _drift(self, reading: float, ticks: float) -> None:
        """Everything may have changed a little."""
        base = self._base
        is_idle = not self.fresh and not self._tracks and not self._crowds
        if not self._has_base:
            # With work in flight at the first sample, what it holds by then is anybody's guess.
            self._has_base = True
            base.value = reading
            base.loosen(0.0 if is_idle else (0.25 * reading) ** 2)
        if is_idle:
            base.loosen(_IDLE_DOUBT * self._noise.variance)
        base.loosen(_DRIFT * _DRIFT * ticks)
        queue = self._queue
        if queue.variance < _QUEUE_DOUBT:
            queue.loosen(_QUEUE_DRIFT * _QUEUE_DRIFT * ticks)
        for track in self._tracks.values():
            term = track.term
            grow, waver = _GROWTH * track.pace, _WAVER * term.value
            term.row[term.index] += (grow * grow + waver * waver) * ticks
        for crowd in self._crowds.all:
            crowd.waver(ticks)

    def _begin(self, now: float) -> None:
        """A sample sees them for the first time."""
        fresh, self.fresh = self.fresh, {}
        for running, task_class in fresh.items():
            if self._is_to_follow(running, task_class):
                self._follow(running, task_class)
            else:
                self._crowds.join(running, task_class, 0, now)

    def _is_to_follow(self, running: Running, task_class: TaskClass) -> bool:
        tracked = len(self._tracks)
        if tracked < _TRACKS:
            return True
        if tracked >= _TRACKS_FEW:
            return False
        if task_class.tracked < _FEW_OF_A_CLASS or running.taken >= 0:
            return True
        fit = task_class.fit
        return tracked < _TRACKS_LARGE and (fit is None or fit.predict(size_of(running)) * tracked * MIB > self.held)

    def _follow(self, running: Running, task_class: TaskClass) -> None:
        fit = task_class.fit
        size, reserved = size_of(running), reserved_of(running)
        term = self._terms.add(0.0, reserved * reserved)
        running.stage = TRACKED
        task_class.tracked += 1
        track = self._tracks[running] = Track(running, task_class, term, reserved=reserved, size=size)
        if fit is not None:
            scale = track.scale
            term.value = scale * task_class.begin_mean
            term.row[term.index] = scale * scale * (task_class.begin_variance + BEGIN_SPREAD) + _BEGIN_VARIANCE
            self._newcomers[task_class] = self._newcomers.get(task_class, 0.0) + scale

    def _take_in(self, reading: float) -> None:
        """Correct the terms by the reading."""
        terms = self._terms
        error, variance = terms.expect(reading, self._noise.variance)
        if self._newcomers:
            # What their classes expect of newcomers was wrong by so much; a jump counts as a large error, no more.
            bound = 3.0 * sqrt(variance)
            bounded = max(-bound, min(bound, error))
            for task_class, scale in self._newcomers.items():
                task_class.meet(scale, bounded, variance)
            self._newcomers.clear()
        if error * error > _SURPRISE * variance:
            let_loose(terms, error, Suspects(self._base, self._tracks.values(), self._crowds.all, self._departed))
        terms.correct()
        self._base.value = max(0.0, min(reading, self._base.value))
        self._queue.value = max(0.0, min(1.0, self._queue.value))

    # -- what was found -----------------------------------------------------------------------------------------------

    def _look_at_tracks(self, now: float, reading: float) -> None:
        """Note what each has reached, and what all hold and may add."""
        held = to_come = unneeded = 0.0
        tracks = self._tracks
        strained: dict[TaskClass, list[tuple[float, bool]]] = {task_class: [] for task_class in self._strained}
        is_shared = len(tracks) > 1 or bool(self._crowds)
        for track in tracks.values():
            stage = track.stage
            held += track.see(now, reading)
            to_come += track.room
            unneeded += track.unneeded
            if is_shared:
                track.alone = False
            if track.stage != stage or track.term.value > track.upper:
                self._dirty.setdefault(track.task_class, now)
            if track.strain > 1.0:
                strained.setdefault(track.task_class, []).append((track.strain, track.is_like_none_before(now)))
        self.held = held * MIB
        self.to_come = to_come * MIB
        self.unneeded = unneeded * MIB
        if strained:
            self._strain(strained)

    def _strain(self, strained: dict[TaskClass, list[tuple[float, bool]]]) -> None:
        """Reserve more for classes of which tasks in flight hold more than was foreseen.

        One of many may be told apart badly from the others, so the second counts where there are some.
        """
        for task_class, factors in strained.items():
            factors.sort(reverse=True)
            needed = _STRAIN_COMPANY if task_class.tracked > _STRAIN_COMPANY else 1
            factor, still_grows = factors[needed - 1] if len(factors) >= needed else (1.0, False)
            is_unlike = still_grows and factor > _UNLIKE
            if still_grows:
                factor *= _MAY_DOUBLE
            if task_class.strain_by(min(max(1.0, factor), _STRAIN_MOST), is_unlike=is_unlike):
                self.version += 1
            if task_class.strain > 1.0:
                self._strained.add(task_class)
            else:
                self._strained.discard(task_class)

    def mark(self, task_class: TaskClass) -> None:
        """Have a class's price made anew: evidence has come."""
        self._dirty.setdefault(task_class, self.sampled_at)

    def _trust_steps(self, reading: float) -> None:
        """Take what tasks have measured in their own steps for what they hold, where that explains the reading."""
        tracks = self._tracks.values()
        stepped = [track for track in tracks if track.running.taken >= 0]
        if not stepped:
            return
        taken = sum([track.running.taken for track in stepped]) / MIB
        others = sum([track.term.value for track in tracks if track.running.taken < 0])
        others += sum([crowd.term.value * crowd.term.coefficient for crowd in self._crowds.all])
        others += self._queue.value * self._queue.coefficient
        beside = reading - self._base.value
        unexplained, bearable = beside - others - taken, max(_UNEXPLAINED, _UNEXPLAINED_SHARE * beside)
        between = [track for track in stepped if not track.running.is_stepping]
        if unexplained > bearable and len(between) < len(stepped):
            return  # it may be what the step under way has taken so far
        for track in between:
            track.confirm(explained=abs(unexplained) <= bearable)

    def _finish(self) -> None:
        """The sample has shown by the drop what those that left had held."""
        for track in self._departed:
            task_class = track.task_class
            if track.learn:
                found = track.outcome()
                if track.predicted:
                    track.teach_shape(found)
                task_class.learn(found, alone=track.alone, reserved=track.reserved)
                self._dirty.setdefault(task_class, self.sampled_at)
            self._terms.remove(track.term)
        self._departed.clear()

    def _refit(self, now: float) -> None:
        """Make the price of a class anew where it is due; of one only, for that takes as long as a sample."""
        for task_class, since in self._dirty.items():
            if now - since < _REFIT_SECONDS and not task_class.evidence.is_urgent():
                continue
            del self._dirty[task_class]
            running = peaks_so_far(task_class, self._tracks.values(), now)
            if task_class.refit(running):
                self.version += 1
            return

    def _evict(self) -> None:
        """Forget the class that was not asked for longest; those with tasks in flight are in use."""
        classes = self._classes
        for _ in range(_EVICTION_TRIES):
            name, found = next(iter(classes.items()))
            if not found.in_flight:
                del classes[name]
                self._dirty.pop(found, None)
                self._strained.discard(found)
                return
            classes.move_to_end(name)
