"""One task that samples have seen, followed from its first sample to the one after its end.

Each is one term of the sum; what it holds is told apart from the others by the moments at which it came, grew and
went. A `Track` remembers how far it got and how it got there, and says how likely it is that a jump nobody foresaw
was its own. The model drives it. Tasks too many to follow: `crowds`.
"""

from __future__ import annotations

from math import exp, inf, sqrt
from typing import TYPE_CHECKING, Final

from asyncmem.admission.learning.evidence import Fit, Peak
from asyncmem.admission.learning.growth import kind_of
from asyncmem.admission.learning.running import MIB, MOST, reserved_of
from asyncmem.admission.learning.stages import STAGE_ENDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncmem.admission.learning.protocols import Running
    from asyncmem.admission.learning.task_class import TaskClass
    from asyncmem.stats import SumTerm

__all__ = ["ENDED", "TRACKED", "Track", "peaks_so_far"]

TRACKED: Final = 100
"""`Running.stage` of a task that is followed; those in a crowd have the stage itself."""
ENDED: Final = -2
_RARELY: Final = 0.02
"""How likely a jump is, relative to one that was due, of a task whose class does not jump."""
_ANYHOW: Final = 0.02
"""How likely a jump is that is not of the size that was due."""
_NEWCOMER: Final = 0.3
_JUMP_SPREAD: Final = 0.2
_HELD_SPREAD: Final = 0.25
_FAR: Final = 6.0
_GREEN: Final = 0.5
"""Doubt, relative, in what was found of a task whose class nobody knew: its neighbours were likely unknown as well."""
_SCALE: Final = 1.0
"""MiB: what is said relative to a prediction is relative to this at least."""
_SAME: Final = 0.9
_RUNNING_SECONDS: Final = 0.4
"""Tasks that run for so long may teach their class before they end."""
_BELIEVED: Final = 0.6
"""Steps are believed where they explain so much of the samples."""
_STEP_DOUBT: Final = 0.05
_STEP_LEAST: Final = 0.25
"""Doubt about what steps have measured: relative, and in MiB squared."""
_VAGUE: Final = 0.3
"""A peak known no better than this share of it says nothing about those of its kind."""
_MOST_MARGIN: Final = 1.05
"""Over what others of its kind have needed."""
_STEP_MARGIN: Final = 1.1
"""Over what steps have measured, beside `_STEP_LEAST`."""
_FAR_BEYOND: Final = 1.5
"""One that holds so many times what its class reserves is like none before it, and may come to hold twice as much."""
_GROWN: Final = 1.1
_GROWING_SECONDS: Final = 0.5
_GREW_MOST: Final = 2.0
"""It has stopped when it has not grown by a tenth for so long, and for as long as it grew, up to so many seconds."""
_FEW: Final = 3
"""They do where fewer than so many have ended."""


class Track:
    """One task. Amounts in MiB.

    Args:
        running: The task.
        task_class: Its class.
        term: Its term of the sum.
        reserved: What was reserved for it.
        size: Of its input; 0 where unknown.
    """

    __slots__ = (
        "_explained",
        "_fall",
        "_grown_at",
        "_grown_to",
        "_kinds",
        "_kinds_sized",
        "_last",
        "_levels",
        "_peak_variance",
        "_stepped",
        "_tops",
        "alone",
        "fit",
        "has_begun",
        "learn",
        "pace",
        "peak",
        "predicted",
        "reserved",
        "room",
        "running",
        "size",
        "stage",
        "stage_until",
        "task_class",
        "term",
        "unneeded",
        "upper",
    )

    def __init__(self, running: Running, task_class: TaskClass, term: SumTerm, *, reserved: float, size: float) -> None:
        self.running = running
        self.task_class = task_class
        self.term = term
        self.reserved = reserved
        self.size = size
        self.peak = 0.0
        """The most it surely held."""
        self._peak_variance = 0.0
        self._last = 0.0
        self._stepped = 0
        self._explained = 0
        self._fall = 0.0
        self._grown_to = 0.0
        self._grown_at = running.admitted_at
        self._kinds = 0
        self._kinds_sized = False
        self.alone = True
        """Nothing else was in flight whenever it was seen."""
        self.has_begun = False
        """A sample has been taken in since it joined."""
        self.learn = True
        """It ended well, so that it teaches something."""
        self.stage = 0
        self.stage_until = running.admitted_at + STAGE_ENDS[0]
        self._levels = [0.0]
        self._tops = [0.0]
        self.fit: Fit | None = None
        self.predicted = 0.0
        """Its peak, as its class lets expect; 0 where nobody knows the class."""
        self.upper = reserved
        self.pace = reserved
        """What tasks of its age may still add."""
        self.room = reserved
        """What it may still add itself; 0 where nobody knows."""
        self.unneeded = 0.0
        """What it has reserved and will not need."""
        self.expect(task_class.fit)

    @property
    def scale(self) -> float:
        """What shares are relative to."""
        return max(_SCALE, self.predicted)

    @property
    def _is_sized(self) -> bool:
        """Whether the size of its input says what it needs."""
        return self.size > 0.0 and self.fit is not None and self.fit.sized

    @property
    def _unit(self) -> float:
        """What tasks of its kind are compared by: MiB, or what its size lets expect."""
        return self.scale if self._is_sized else 1.0

    def expect(self, fit: Fit | None) -> None:
        """Take over what is known of the class."""
        self.fit = fit
        if fit is not None:
            self.predicted = fit.predict(self.size)
            self.upper = self.room = fit.price(self.size)

    def see(self, now: float, reading: float) -> float:
        """A sample was taken in; returns what it holds, which is between nothing and all of what was read."""
        term = self.term
        value = term.value
        variance = term.row[term.index]
        if value < 0.0:
            value = term.value = 0.0
        elif value > reading:
            value = term.value = reading
        self._last = value
        sure = value - sqrt(variance)
        if sure > self.peak:
            self.peak, self._peak_variance = sure, variance
        elif self.peak - value > self._fall:
            self._fall = self.peak - value
        self._tops[-1] = max(self._tops[-1], value)
        while now >= self.stage_until:
            self.stage += 1
            self.stage_until = self.running.admitted_at + STAGE_ENDS[self.stage]
            self._levels.append(value)
            self._tops.append(value)
        task_class = self.task_class
        if self.fit is not task_class.fit:
            self.expect(task_class.fit)
        predicted = self.predicted
        if not self.has_begun:
            self.has_begun = True
            if predicted:
                scale = self.scale
                task_class.begin(value / scale, variance / (scale * scale))
        if value > _GROWN * self._grown_to:
            self._grown_to, self._grown_at = value, now
        self._foresee(value, variance, now)
        return value

    def is_like_none_before(self, now: float) -> bool:
        """Whether it surely holds far more than all that have ended, and has not stopped growing for long."""
        ended = self.task_class.ended
        if ended is None or self._held() <= _FAR_BEYOND * ended.price(self.size):
            return False
        grew = min(self._grown_at - self.running.admitted_at, _GREW_MOST)
        return now - self._grown_at < grew + _GROWING_SECONDS

    def _held(self) -> float:
        """The most that it surely held."""
        measured = self.measured
        return self.peak if measured is None else measured

    def _foresee(self, value: float, variance: float, now: float) -> None:
        """What it may still add, and what it has reserved and will not need."""
        task_class, predicted = self.task_class, self.predicted
        if not predicted:
            self.room = self.unneeded = 0.0
            return
        self.pace = task_class.growth.upper(self.stage) * predicted
        unit, sized = self._unit, self._is_sized
        taken = self.running.taken
        if taken < 0:
            least, most = value, value + 2.0 * sqrt(variance)
        else:
            # What is seen in the midst of a step is no level that it was at.
            least = taken / MIB
            most = inf if self.measured is None else _STEP_MARGIN * least + _STEP_LEAST
        if sized is not self._kinds_sized:
            self._kinds, self._kinds_sized = 0, sized  # they were in another unit
        self._kinds |= 1 << kind_of(least / unit)
        if most < inf:
            most = _MOST_MARGIN * max(most, unit * task_class.growth.highest(least / unit, most / unit, sized=sized))
        self.unneeded = 0.0 if self.running.declared else max(0.0, reserved_of(self.running) - most)
        room = min(self.upper * task_class.strain - value, self.pace, most - value)
        if self.is_like_none_before(now):
            room = max(room, value)
        # Where none of a class has ended, nobody knows what its tasks may still add: only the reservation counts.
        self.room = max(0.0, room) if task_class.evidence.peaks else 0.0

    @property
    def strain(self) -> float:
        """How much more it surely held than its class reserves, as a factor; at most 1 where it did not."""
        return self._held() / self.upper if self.predicted else 1.0

    def confirm(self, *, explained: bool) -> None:
        """A sample was taken in that its own steps explain, or do not, together with those of the others."""
        self._stepped += 1
        if explained:
            self._explained += 1
            self.term.value = self.running.taken / MIB

    @property
    def measured(self) -> float | None:
        """MiB that it held at most by its own steps; None where these are not to be believed."""
        if self._stepped and self.running.measured >= 0 and self._explained >= _BELIEVED * self._stepped:
            return min(MOST, self.running.measured / MIB)
        return None

    def so_far(self) -> Peak:
        """What it has needed until now."""
        measured = self.measured
        if measured is not None:
            return Peak(self.size, measured, (_STEP_DOUBT * measured) ** 2 + _STEP_LEAST)
        return Peak(self.size, max(self.peak, self.term.value), self.term.variance)

    def outcome(self) -> Peak:
        """What it needed at its peak; to be asked once the sample after its end was taken in."""
        measured = self.measured
        if measured is not None:
            return Peak(self.size, measured, (_STEP_DOUBT * measured) ** 2 + _STEP_LEAST)
        value, variance = self.term.value, self.term.variance
        peak = self.peak
        if self._last > _SAME * peak:
            # It stayed there to its end: what the end has shown to be wrong was wrong then, too.
            peak -= max(0.0, self._last - value)
        if peak > value:
            value, variance = peak, self._peak_variance
        if not self.predicted:
            variance += 1.0 + (_GREEN * value) ** 2
        return Peak(self.size, max(0.0, min(MOST, value)), variance)

    def teach_shape(self, found: Peak) -> None:
        """Tell the class how much it has added after each stage, and given back before its end."""
        scale = self.scale
        self.task_class.fell(self._fall / scale)
        growth = self.task_class.growth
        peak = found.peak
        if found.variance <= max(1.0, (_VAGUE * peak) ** 2) and self._kinds_sized is self._is_sized:
            growth.learn_peak(self._kinds, peak / self._unit, sized=self._is_sized)
        top = max(0.0, self.term.value)
        for stage in range(len(self._levels) - 1, -1, -1):
            top = min(peak, max(top, self._tops[stage]))
            growth.learn(stage, max(0.0, top - self._levels[stage]) / scale)

    # -- jumps --------------------------------------------------------------------------------------------------------

    def may_rise(self, jump: float) -> float:
        """How likely it is that it has just added so much; to be compared with the others."""
        predicted = self.predicted
        if not predicted:
            return 1.0 / max(self.reserved, jump)
        anyhow = 1.0 / max(predicted, jump)
        if not self.has_begun:
            return _NEWCOMER * anyhow
        due = predicted - self.term.value
        hazard = max(_RARELY, min(1.0, self.task_class.growth.upper(self.stage) - 0.1))
        return hazard * (_ANYHOW * anyhow + _bell(jump - due, _JUMP_SPREAD * predicted))

    def may_fall(self, jump: float) -> float:
        """How likely it is that it has just given so much back; to be compared with the others."""
        value = max(self.term.value, 1e-3)
        hazard = max(_RARELY, min(1.0, self.task_class.fall - 0.1))
        return hazard / value if jump <= (1.0 + _JUMP_SPREAD) * value else _ANYHOW * hazard / jump

    def may_have_held(self, value: float) -> float:
        """How likely it is, between 0 and about 1, that it had held so much in truth when it left."""
        if value < -_JUMP_SPREAD * self.scale:
            return _ANYHOW
        if not self.predicted:
            return 0.5
        spread = _HELD_SPREAD * self.predicted + 0.5
        return 0.05 + spread * _bell(value - self.predicted, spread) / 0.4


def peaks_so_far(task_class: TaskClass, tracks: Iterable[Track], now: float) -> list[Peak]:
    """What tasks in flight say of their class, for some never end.

    Those that surely hold more than was reserved where none has ended, or than those that have; else, where few have or
    those that run for a while hold too much together, their mean: tasks that began together and stay cannot be told
    apart.

    Args:
        task_class: The class.
        tracks: Tasks in flight, of any class.
        now: Monotonic seconds.
    """
    own = [track for track in tracks if track.task_class is task_class]
    old = [track for track in own if now - track.running.admitted_at >= _RUNNING_SECONDS]
    # By those that have ended, and not by what is reserved now, which has those in it that run.
    ended = task_class.ended
    if ended is None:
        beyond = [track.so_far() for track in own if track.peak > track.upper]
    else:
        beyond = [track.so_far() for track in old if track.peak > ended.price(track.size)]
    if beyond or not old:
        return beyond
    count = len(old)
    size = sum([track.size for track in old]) / count
    mean = sum([track.term.value for track in old]) / count
    variance = max(0.0, sum([one.term.row[other.term.index] for one in old for other in old]) / (count * count))
    if ended is None or task_class.evidence.count < _FEW or mean - sqrt(variance) > ended.price(size):
        return [Peak(size, mean, variance)] * count
    return []


def _bell(off: float, spread: float) -> float:
    """Density of a normal distribution, about."""
    off /= spread
    return 0.4 * exp(-0.5 * off * off) / spread if -_FAR < off < _FAR else 0.0
