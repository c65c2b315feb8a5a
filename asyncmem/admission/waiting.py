"""The way into the queue: who may wait at all, for how long, and who is told at once that it would be in vain."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

from asyncmem.admission.waiter import Waiter, checked_priority
from asyncmem.errors import RejectionReason
from asyncmem.units import MIB, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem._wakeup import LoopWakeup, ThreadWakeup
    from asyncmem.admission.defence import Reclaiming
    from asyncmem.admission.forecast import Forecast
    from asyncmem.admission.gate import Gate
    from asyncmem.admission.headroom import Headroom
    from asyncmem.admission.learning import CostModel, TaskCosts
    from asyncmem.admission.permit import Permit
    from asyncmem.admission.pricing import Pricing
    from asyncmem.admission.refusals import Refusals
    from asyncmem.admission.waiter import Priority
    from asyncmem.errors import AdmissionRejected

__all__ = ["Applicant", "Waiting"]

_QUEUE_SHARE: Final = 8
_QUEUE_LEAST: Final = 16 * MIB
"""Those that wait may take this fraction of the capacity by waiting, and `_QUEUE_LEAST` wherever it is small."""
_SWEEP_SHARE: Final = 20
"""One part in so many of the time goes into searching a full queue for those that have gone: done for each refusal, it
would make refusals slow."""


class Applicant(Waiter):
    """A waiter of the controller: what it wants a permit for, and the permit when it is granted."""

    __slots__ = ("known", "permit", "task_class", "work_size")

    task_class: str
    known: TaskCosts
    work_size: float
    permit: Permit | None


class Waiting:
    """Lets work join the queue.

    Args:
        gate: Where they wait.
        headroom: What there is.
        costs: Knows the task classes.
        pricing: What they are charged.
        forecast: How long they would wait.
        refusals: What those are told that may not.
        reclaim: Gives memory back, before anybody is refused for want of it; None for nothing.
        clock: Monotonic seconds.
        max_queue: Waiters that may queue.
        queue_timeout: Longest wait in seconds.
    """

    __slots__ = (
        "_clock",
        "_costs",
        "_forecast",
        "_gate",
        "_headroom",
        "_max_queue",
        "_pricing",
        "_queue_timeout",
        "_reclaim",
        "_refusals",
        "_sweep_at",
    )

    def __init__(  # noqa: PLR0917 - its parts, which only the controller puts together
        self,
        gate: Gate,
        headroom: Headroom,
        costs: CostModel,
        pricing: Pricing,
        forecast: Forecast,
        refusals: Refusals,
        *,
        reclaim: Reclaiming | None,
        clock: Callable[[], float],
        max_queue: int,
        queue_timeout: float,
    ) -> None:
        self._gate = gate
        self._headroom = headroom
        self._costs = costs
        self._pricing = pricing
        self._forecast = forecast
        self._refusals = refusals
        self._reclaim = reclaim
        self._clock = clock
        self._max_queue = max_queue
        self._queue_timeout = queue_timeout
        self._sweep_at = -math.inf

    def join(  # noqa: PLR0917 - as the controller's own
        self,
        task_class: str,
        cost: int | str | None,
        priority: Priority,
        deadline: float | None,
        size: float,
        wakeup: type[LoopWakeup | ThreadWakeup],
        *,
        held_bytes: int = 0,
        abandoned: Callable[[], bool] | None = None,
    ) -> tuple[Applicant, float, RejectionReason]:
        """Join the queue; returns the waiter, how long it may wait, and why it was refused if it waits longer."""
        timeout, reason = self._queue_timeout, RejectionReason.MEMORY
        if deadline is not None and deadline <= timeout:
            timeout, reason = deadline, RejectionReason.DEADLINE
        gate = self._gate
        with gate.lock, gate.lock.plain:
            known = self._costs.find(task_class)
        waiter = Applicant(
            self._headroom.most(),
            checked_priority(priority),
            declared=cost is not None,
            price=(
                partial(self._pricing.learned_waiting, known, size)
                if cost is None
                else partial(self._pricing.declared_waiting, parse_bytes(cost))
            ),
            may_start=None if cost is not None else lambda: known.may_start(self._clock()),
            abandoned=abandoned,
            held_bytes=held_bytes,
            kind=task_class,
        )
        waiter.task_class, waiter.known, waiter.work_size, waiter.permit = task_class, known, size, None
        self._refuse_the_hopeless(waiter, timeout, reason)
        while not gate.enter_or_queue(waiter, wakeup, self._max_queue):
            if not self._sweep():
                raise self._refusals.queue_full(task_class, waiter.nbytes, len(gate.queue))
        return waiter, timeout, reason

    def _sweep(self) -> bool:
        """Have those make room that have gone; returns whether there were any."""
        begin = self._clock()
        if begin < self._sweep_at:
            return False
        expelled = self._gate.expel(Waiter.is_abandoned, self._refusals.abandoned)
        end = self._clock()
        self._sweep_at = end + _SWEEP_SHARE * (end - begin)
        return expelled > 0

    def _refuse_the_hopeless(self, waiter: Applicant, timeout: float, reason: RejectionReason) -> None:
        """Say no at once to those that would wait in vain, and where waiting itself takes too much memory."""
        refusal = self._hopeless(waiter, timeout, reason)
        if refusal is None:
            return
        if self._reclaim is not None:
            self._reclaim(quiet=False)
            refusal = self._hopeless(waiter, timeout, reason)
        if refusal is not None:
            raise refusal()

    def _hopeless(
        self, waiter: Applicant, timeout: float, reason: RejectionReason
    ) -> Callable[[], AdmissionRejected] | None:
        gate = self._gate
        with gate.lock, gate.lock.plain:
            if not gate.in_flight and not gate.queue:
                return None
            nbytes = waiter.size(self._headroom.price_version())
            held = gate.queue.held_bytes + waiter.held_bytes
            if waiter.held_bytes and held > max(self._headroom.capacity() // _QUEUE_SHARE, _QUEUE_LEAST):
                return partial(self._refusals.queue_too_heavy, waiter.task_class, nbytes, held)
            if not waiter.declared and not waiter.known.is_known():
                return None  # it and those of its kind are charged a guess, which says nothing about their wait
            ahead = gate.queue.ahead_of(waiter.priority)
            free = self._headroom.free(gate.reserved, 0)
            predicted = self._forecast.predict_wait(ahead, nbytes, free, gate.in_flight)
            if predicted is not None and self._forecast.exceeds(timeout, ahead, nbytes, free, gate.in_flight):
                return partial(self._refusals.hopeless, waiter.task_class, nbytes, reason, predicted)
        return None
