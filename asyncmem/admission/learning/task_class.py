"""One task class: what its next task is to reserve, and which of its tasks are in flight.

The price is made when evidence comes and only looked up when a task is admitted: `price`, `enter` and `leave` are on
every request's way. A class nobody knows reserves a quarter of what there is, and starts with little company of its own
kind: one task, more with every completion and with the time that it has been running, so that it never waits for a
solitude that busy traffic does not give. Tasks too short for any sample make their class known too: what dozens of them
have done without being seen once is small.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from asyncmem.admission.learning.evidence import Evidence, Fit, Peak, summary
from asyncmem.admission.learning.growth import Growth
from asyncmem.admission.learning.protocols import TaskClassCost
from asyncmem.admission.learning.running import MIB, MOST, size_of
from asyncmem.admission.learning.saved import SavedClass
from asyncmem.admission.learning.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.admission.learning.crowds import Crowd
    from asyncmem.admission.learning.model import LearnedCostModel
    from asyncmem.admission.learning.protocols import Running

__all__ = ["TaskClass"]

_FLOOR: Final = 64 * 1024
_MOST: Final = 1 << 62
_UNKNOWN_SHARE: Final = 4
_COMPANY: Final = 2
"""Tasks of an unknown class that may start for each that has ended."""
_STEP_DOUBT: Final = 0.25
"""Doubt about what steps alone have measured, which no sample has confirmed, as a share of it."""
_SETTLED: Final = 8
"""Tasks that must have taught a class before any number may start at once: two may be as small as the next is large."""
_COMPANY_SECONDS: Final = 1.0
"""One more may start for each such time that some have been running."""
_UNSEEN: Final = 24
"""Tasks that ended between two samples, without any that was seen, from which on a class costs the least there is."""
_UNSEEN_HALVES: Final = 3
"""The guess is halved for so many of them."""
_UNSEEN_SAMPLES: Final = 2
_PATIENCE: Final = 16.0
"""Seconds from which on tasks that do not end are taken for what they have shown so far; until then they may be waiting
for what makes them large, such as a body that trickles in."""
_PATIENCE_HALVES: Final = 2.0
"""The guess is halved for so many seconds of them."""
_CHANGE: Final = 0.01
"""A price that would change by less stays: who has cached it need not look again."""
_RATE: Final = 0.1
"""Weight of the last task in what is followed with exponential forgetting."""
_SHARE_MOST: Final = 64.0
"""Shares beyond that say only that the expectation was wrong."""
_BEGIN_DOUBT: Final = 0.25
_BEGIN_DRIFT: Final = 0.002
_RESTORED: Final = 5
"""Tasks that what was saved counts for."""
_ALONE_WINDOW: Final = 256


class TaskClass:
    """What is known of one class. Made by the model.

    Args:
        model: Where the tasks are sampled.
    """

    __slots__ = (
        "_alone",
        "_begin_doubt",
        "_begun",
        "_completed",
        "_cost",
        "_fallen",
        "_is_settled",
        "_is_unlike",
        "_model",
        "_since",
        "_unseen",
        "_watched",
        "begin_mean",
        "begin_variance",
        "crowds",
        "ended",
        "evidence",
        "fall",
        "fit",
        "growth",
        "in_flight",
        "steady_price",
        "strain",
        "tracked",
    )

    def __init__(self, model: LearnedCostModel) -> None:
        self._model = model
        self._cost: int | None = None
        self._is_settled = False
        self._is_unlike = False
        self._since = 0.0
        self._completed = 0
        self._unseen = 0
        self._watched = 0
        self._alone: deque[bool] = deque(maxlen=_ALONE_WINDOW)
        self._begun = 0
        self._begin_doubt = _BEGIN_DOUBT
        self._fallen = 0
        self.in_flight = 0
        """Its tasks that run now."""
        self.tracked = 0
        """Of these, those that are followed one by one."""
        self.crowds: list[Crowd | None] = [None] * STAGES
        """The others that samples have seen, by stage."""
        self.evidence = Evidence()
        self.growth = Growth()
        self.fit: Fit | None = None
        """What is expected of the next; None while nothing is known."""
        self.ended: Fit | None = None
        """The same by those alone that have ended."""
        self.begin_mean = 0.5
        """What a task holds when it is first seen, relative to its expected peak."""
        self.begin_variance = 0.25
        self.fall = 1.0
        """What a task gives back before its end, relative to its expected peak."""
        self.strain = 1.0
        """How much more tasks in flight have been seen to hold than their class reserves."""
        self.steady_price = 0
        """What `price` says where the size is unknown and there is room; 0 while nothing is known."""

    # -- asking -------------------------------------------------------------------------------------------------------

    def price(self, size: float, most: int) -> int:
        """Bytes to reserve for the next task; beyond `most` only what it needs without a margin."""
        cost = self._cost
        if cost is None:
            return self._guess(most)
        fit = self.fit
        if fit is None:
            return cost
        if size and fit.depends_on(size / MIB):
            wanted = fit.price(size / MIB) * MIB
            cost = int(wanted) + 1 if wanted < _MOST else _MOST
        if self.strain > 1.0:
            cost = min(int(cost * self.strain), _MOST)
            if self._is_unlike:
                cost = max(cost, most // _UNKNOWN_SHARE)
        if not self._is_settled and not self.evidence.count:
            cost = max(cost, self._guess(most))  # what it has shown so far need not be all
        if cost > most:
            # What a task needs on average decides whether it can ever fit; the margin alone shall not keep it out.
            return max(min(cost, most), int(min(cost, fit.predict(size / MIB) * MIB)), _FLOOR)
        return cost

    def is_known(self) -> bool:
        """Whether prices come from evidence."""
        return self._is_settled or (self._cost is not None and self._age() >= _PATIENCE)

    def may_start(self, now: float) -> bool:
        """Whether another may start: always once the class is known."""
        if self._is_settled:
            return True
        in_flight = self.in_flight
        if not in_flight:
            return True
        waited = now - self._since
        return in_flight < 1 + _COMPANY * self._completed + (int(waited / _COMPANY_SECONDS) if waited > 0.0 else 0)

    # -- running ------------------------------------------------------------------------------------------------------

    def enter(self, running: Running) -> None:
        """A task was admitted."""
        if not self.in_flight:
            self._since = running.admitted_at
        self.in_flight += 1
        running.stage = -1
        model = self._model
        model.fresh[running] = self
        model.to_come += running.reserved

    def leave(self, running: Running, now: float, *, learn: bool) -> None:  # noqa: ARG002 - the controller's contract
        """A task has ended."""
        self.in_flight -= 1
        if learn:
            self._completed += 1
        if running.stage != -1:
            self._model.end(self, running, learn=learn)
            return
        model = self._model
        if model.fresh.pop(running, None) is not None:
            model.to_come -= running.reserved
            if learn and not self._is_settled:
                self._end_unseen(running)

    # -- learning -----------------------------------------------------------------------------------------------------

    def learn(self, peak: Peak, *, alone: bool, reserved: float) -> None:
        """A task has ended, and this is what it needed."""
        self.evidence.add(peak, self.fit)
        if alone:
            self._alone.append(peak.peak <= reserved)

    def refit(self, running: list[Peak]) -> bool:
        """Make the price anew.

        Args:
            running: What tasks in flight have reached that run for a while already: some never end.

        Returns:
            Whether it has changed.
        """
        self.ended = self.evidence.fit()
        fit = self.evidence.fit(running) if running else self.ended
        if fit is None:
            return False
        self.fit = fit
        settled = self._is_settled
        self._is_settled = settled or self.evidence.count >= _SETTLED
        cost = min(int(fit.cost * MIB) + 1, _MOST)
        changed = self._cost is None or abs(cost - self._cost) > _CHANGE * self._cost
        if changed:
            self._cost = cost
        self._keep_steady_price()
        return changed or fit.sized or not settled

    def strain_by(self, factor: float, *, is_unlike: bool) -> bool:
        """Reserve `factor` times as much as evidence says, which has yet to come; returns whether that is a change.

        Tasks in flight that hold more than their class reserves are evidence before they end: all that have been
        admitted with them may come to hold as much.

        Args:
            factor: From 1.
            is_unlike: They are so unlike all before them that nothing is known: it is charged as an unknown class is.
        """
        if abs(factor - self.strain) <= _CHANGE * self.strain and is_unlike is self._is_unlike:
            return False
        self.strain, self._is_unlike = factor, is_unlike
        self._keep_steady_price()
        return True

    def _keep_steady_price(self) -> None:
        known = self._is_settled and self._cost is not None and not self._is_unlike
        self.steady_price = min(int((self._cost or 0) * self.strain), _MOST) if known else 0

    def meet(self, scale: float, error: float, variance: float) -> None:
        """Newcomers that were expected to hold `begin_mean` of `scale` MiB made a prediction wrong.

        Each newcomer is corrected by itself as well; but where many overlap none of them by much, and a class that is
        believed to need nothing would be believed so for ever. So their mean is corrected over many samples.

        Args:
            scale: MiB of all newcomers together.
            error: MiB by which the reading was larger than predicted.
            variance: Of that error.
        """
        doubt = self._begin_doubt + _BEGIN_DRIFT
        gain = doubt * scale / (variance + doubt * scale * scale)
        self._begin_doubt = doubt * (1.0 - gain * scale)
        self.begin_mean = min(_SHARE_MOST, max(0.0, self.begin_mean + gain * error))

    def begin(self, share: float, variance: float) -> None:
        """A task was seen first when it held `share` of its expected peak, known with so much variance."""
        self._begun += 1
        off = min(share, _SHARE_MOST) - self.begin_mean
        self.begin_variance += max(_RATE, 1.0 / (1 + self._begun)) * (
            off * off + min(variance, 1.0) - self.begin_variance
        )

    def fell(self, share: float) -> None:
        """A task has given back `share` of its expected peak before its end."""
        self._fallen += 1
        self.fall += max(_RATE, 1.0 / (1 + self._fallen)) * (min(share, _SHARE_MOST) - self.fall)

    def statistics(self) -> TaskClassCost:
        """What is known, now."""
        fit = self.fit
        alone = self._alone
        return TaskClassCost(
            cost=None if self._cost is None else min(int(self._cost * self.strain), _MOST),
            peak=0 if fit is None else int(min(fit.mean * MIB, float(_MOST))),
            spread=0 if fit is None else int(min(fit.spread * fit.mean * MIB, float(_MOST))),
            per_byte=0.0 if fit is None else fit.slope,
            samples=self.evidence.count,
            in_flight=self.in_flight,
            coverage_alone=sum(alone) / len(alone) if alone else None,
        )

    # -- saving -------------------------------------------------------------------------------------------------------

    def saved(self, peaks: int) -> Callable[[], SavedClass]:
        """What is worth keeping, with so many peaks: copied at once, and summed up by what this returns."""
        known, fit = list(self.evidence.peaks), self.fit
        growth, begin, fall = self.growth.saved(), (self.begin_mean, self.begin_variance), self.fall

        def sum_up() -> SavedClass:
            kept = summary(known, fit or Fit(known), peaks)
            return SavedClass(peaks=[(p.size, p.peak, p.variance) for p in kept], growth=growth, begin=begin, fall=fall)

        return sum_up

    def restore(self, saved: SavedClass) -> None:
        """Begin with what was saved; it is soon overruled."""
        for row in saved.peaks:
            self.evidence.add(Peak(*row), None)
        self.growth.restore(saved.growth)
        self.begin_mean, self.begin_variance = saved.begin
        self.fall = saved.fall
        self._begun = self._fallen = _RESTORED
        self.refit([])
        self._is_settled = True
        self._keep_steady_price()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _guess(self, most: int) -> int:
        """What a task of a class is charged of which nothing is known."""
        return max(_FLOOR, (most // _UNKNOWN_SHARE) >> self._doubts())

    def _doubts(self) -> int:
        """How often the guess is to be halved."""
        unseen = self._unseen
        halves = min(unseen, _UNSEEN) // _UNSEEN_HALVES if unseen and self._model.samples > self._watched else 0
        return halves + int(self._age() / _PATIENCE_HALVES)

    def _age(self) -> float:
        """For how many seconds tasks have been running, as of the last sample."""
        return min(_PATIENCE, max(0.0, self._model.sampled_at - self._since)) if self.in_flight else 0.0

    def _end_unseen(self, running: Running) -> None:
        if running.measured > 0:
            measured = min(running.measured / MIB, MOST)
            self.evidence.add(Peak(size_of(running), measured, (_STEP_DOUBT * measured) ** 2 + 1.0), self.fit)
            self._model.mark(self)
        elif self._cost is None or self.evidence.count:
            self._pass_unseen()

    def _pass_unseen(self) -> None:
        """It came and went between two samples. Only until the class is settled."""
        model = self._model
        if not self._unseen:
            self._watched = model.samples
        self._unseen += 1
        # Where nobody has looked, not to be seen says nothing.
        if self._unseen >= _UNSEEN and model.samples - self._watched >= _UNSEEN_SAMPLES:
            if self._cost is None:
                self._cost = _FLOOR
            self._is_settled = True  # the few that were seen say what to reserve, however few they are
            self._keep_steady_price()
            model.version += 1
