"""The decision in front of each piece of work: admit, queue, or reject.

`AdmissionController` joins the parts of this package: `costs` says what the work needs, `headroom` what there is,
`gate` promises and queues, `attribution` finds out what it really used. It knows no framework; `middleware` and
`guards` bring it to users.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from asyncmem._wakeup import LoopWakeup, ThreadWakeup
from asyncmem.admission.attribution import PeakAttribution
from asyncmem.admission.costs import TaskClassCost, WindowedCostModel
from asyncmem.admission.gate import Gate, refuse_to_block
from asyncmem.admission.headroom import Headroom
from asyncmem.admission.permit import Permit
from asyncmem.admission.queue import FairQueue
from asyncmem.admission.refusals import Refusals
from asyncmem.admission.waiter import Priority, Waiter, checked_priority
from asyncmem.errors import ConfigError, RejectionReason
from asyncmem.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncmem._clock import Clock
    from asyncmem._protocols import GrowthMeter
    from asyncmem.admission.costs import CostModel
    from asyncmem.admission.queue import WaitQueue
    from asyncmem.limits import Bound

__all__ = ["AdmissionController", "AdmissionStatistics", "check_deadline"]

_SAMPLE_SECONDS: Final = 0.001
"""A task that ends reads memory only if nobody did for so long."""
_IDLE_SECONDS: Final = 0.010
"""The moment between two tasks is looked at as often as this."""
_FOREVER: Final = 86_400.0


class AdmissionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What an `AdmissionController` holds and has done, at one moment."""

    capacity: int
    """Bytes below the guard band of the tightest bound."""
    headroom: int
    """Bytes that may be promised now; negative where more is in use than there is."""
    reserved: int
    """Bytes promised."""
    in_flight: int
    """Permits handed out and not ended."""
    queued: int
    """Waiters for memory."""
    admitted: int
    """Permits handed out so far."""
    probes: int
    """Of these, work that did not fit and ran alone."""
    rejected: dict[str, int]
    """Refusals so far by reason."""
    task_classes: dict[str, TaskClassCost]
    """What is known of each task class."""
    learning_errors: int = 0
    """How often the cost model raised."""


class AdmissionController:
    """Hands out permits while their bytes fit below the limit.

    Args:
        bounds: Says which bounds there are now (`LimitFinder.bounds`); returns the same object while nothing changes.
        own: Measures this process alone, for learning what tasks cost.
        clock: Where time comes from.
        guard: Guard band in bytes, or a share of the limit; None for the default of `guard_band`.
        operation_limit: The most that one permit may reserve, in bytes.
        max_queue: Waiters that may queue.
        queue_timeout: Longest wait in seconds.
        cost_model: How costs are learned.
        queue: The order of the waiters.
    """

    __slots__ = (
        "_attribution",
        "_clock",
        "_costs",
        "_floor",
        "_gate",
        "_headroom",
        "_idle_at",
        "_learning_errors",
        "_max_queue",
        "_operation_limit",
        "_own",
        "_queue_timeout",
        "_refusals",
        "_sampled_at",
        "on_first",
    )

    def __init__(
        self,
        bounds: Callable[[], Sequence[Bound]],
        *,
        own: GrowthMeter,
        clock: Clock,
        guard: int | str | None = None,
        operation_limit: int | None = None,
        max_queue: int = 1000,
        queue_timeout: float = 30.0,
        cost_model: CostModel | None = None,
        queue: WaitQueue | None = None,
    ) -> None:
        self._headroom = Headroom(bounds, guard=guard, clock=clock)
        self._gate = Gate(self._headroom, FairQueue() if queue is None else queue)
        self._costs: CostModel = WindowedCostModel() if cost_model is None else cost_model
        self._refusals = Refusals(self._gate, queue_timeout)
        self._attribution = PeakAttribution()
        self._own = own
        self._floor = own.sample() or 0
        self._clock = clock
        self._operation_limit = operation_limit
        self._max_queue = max_queue
        self._queue_timeout = queue_timeout
        self._sampled_at = 0.0
        self._idle_at = 0.0
        self._learning_errors = 0
        self.on_first: Callable[[], object] | None = None
        """Called when work is admitted while nothing was in flight: whoever samples should do so more often."""

    # -- asking -------------------------------------------------------------------------------------------------------

    def try_acquire(
        self, task_class: str, *, cost: int | str | None = None, priority: Priority = Priority.NORMAL
    ) -> Permit | None:
        """Reserve now, or return None where it would have to wait; arguments and errors as of `acquire`.

        The quick way in: no await, no exception where the answer is «wait».
        """
        if priority.__class__ is not Priority:
            priority = checked_priority(priority)
        declared = None if cost is None else parse_bytes(cost)
        gate = self._gate
        with gate.lock:
            nbytes = self._learned(task_class) if declared is None else self._declared(task_class, declared)
            if not gate.charge(nbytes, declared=declared is not None):
                return None
        return self._permit(task_class, nbytes, priority)

    def acquire_nowait(
        self, task_class: str, *, cost: int | str | None = None, priority: Priority = Priority.NORMAL
    ) -> Permit:
        """Reserve now; arguments and errors as of `acquire`.

        Raises:
            anyio.WouldBlock: It would have to wait.
        """
        permit = self.try_acquire(task_class, cost=cost, priority=priority)
        if permit is None:
            raise anyio.WouldBlock
        return permit

    async def acquire(
        self,
        task_class: str,
        *,
        cost: int | str | None = None,
        priority: Priority = Priority.NORMAL,
        deadline: float | None = None,
    ) -> Permit:
        """Reserve what the work needs, and wait for it in the event loop.

        Uncontended it does not yield to the loop. Cancelled while waiting, nothing is reserved.

        Args:
            task_class: The name under which costs are learned.
            cost: Bytes that the work needs at its peak, or text such as ``"80MiB"``; None to use what was learned.
            priority: The higher is served first.
            deadline: Seconds from now within which the work must start.

        Returns:
            The permit; end it with `Permit.record` or `Permit.drop`.

        Raises:
            AdmissionRejected: The queue is full, the wait too long, the cost beyond what there can be, or the
                controller closed.
            ConfigError: A cost, priority or deadline that cannot be.
        """
        if deadline is not None:
            check_deadline(deadline)
        permit = self.try_acquire(task_class, cost=cost, priority=priority)
        if permit is not None:
            return permit
        waiter, timeout, reason = self._queue_up(task_class, cost, priority, deadline, LoopWakeup)
        if waiter.admitted or await self._gate.wait(waiter, timeout):
            return self._permit(task_class, waiter.nbytes, priority)
        raise self._refusals.too_late(task_class, waiter.nbytes, reason)

    def acquire_sync(
        self,
        task_class: str,
        *,
        cost: int | str | None = None,
        priority: Priority = Priority.NORMAL,
        deadline: float | None = None,
    ) -> Permit:
        """Reserve what the work needs, and block this thread for it; as `acquire`.

        Raises:
            RuntimeError: It would have to wait on the thread of an event loop.
        """
        if deadline is not None:
            check_deadline(deadline)
        permit = self.try_acquire(task_class, cost=cost, priority=priority)
        if permit is not None:
            return permit
        refuse_to_block()
        waiter, timeout, reason = self._queue_up(task_class, cost, priority, deadline, ThreadWakeup)
        if waiter.admitted or self._gate.wait_sync(waiter, timeout):
            return self._permit(task_class, waiter.nbytes, priority)
        raise self._refusals.too_late(task_class, waiter.nbytes, reason)

    # -- running ------------------------------------------------------------------------------------------------------

    def adopt_bounds(self) -> None:
        """Take over bounds that have changed, and admit those that now fit."""
        with self._gate.lock:
            self._headroom.adopt()
        self._gate.admit_waiting()

    def sample(self) -> bool:
        """Read memory, learn from it, and admit those that now fit; called by the watcher, from its thread.

        Returns:
            Whether anything is in flight or waits, so that the next sample should come soon.
        """
        gate = self._gate
        with gate.lock:
            self._headroom.refresh()
            self._headroom.observe(gate.reserved)
            self._read_own()
        gate.admit_waiting()
        return gate.in_flight > 0 or len(gate.queue) > 0

    def close(self) -> None:
        """Refuse all further work and all that waits; permits in flight are ended by their holders."""
        self._gate.close(self._refusals.closed)

    @property
    def is_closed(self) -> bool:
        """Whether all work is refused."""
        return self._gate.is_closed

    def statistics(self) -> AdmissionStatistics:
        """What is held and was done, now."""
        gate = self._gate
        with gate.lock:
            return AdmissionStatistics(
                capacity=self._headroom.capacity(),
                headroom=self._headroom.free(gate.reserved, 0),
                reserved=gate.reserved,
                in_flight=gate.in_flight,
                queued=len(gate.queue),
                admitted=gate.admitted,
                probes=gate.probes,
                rejected=self._refusals.counts(),
                task_classes=dict(self._costs.statistics()),
                learning_errors=self._learning_errors,
            )

    # -- inside -------------------------------------------------------------------------------------------------------

    def _declared(self, task_class: str, nbytes: int) -> int:
        """Bytes to charge for a declared cost; refuses what can never be admitted. Under the gate's lock."""
        if self._operation_limit is not None and nbytes > self._operation_limit:
            raise self._refusals.too_large(task_class, nbytes, min(self._headroom.most(), self._operation_limit))
        charged = self._at_most_all(nbytes)
        if charged < nbytes and self._headroom.can_never_fit(nbytes):
            raise self._refusals.too_large(task_class, nbytes, self._headroom.most())
        return charged

    def _declared_waiting(self, nbytes: int) -> int:
        """The same for one that waits: where it can no longer fit, it is not made to."""
        charged = self._at_most_all(nbytes)
        return nbytes if charged < nbytes and self._headroom.can_never_fit(nbytes) else charged

    def _learned(self, task_class: str) -> int:
        """Bytes to charge where nothing was declared. Under the gate's lock."""
        nbytes = self._costs.estimate(task_class, self._headroom.most())
        if self._operation_limit is not None and nbytes > self._operation_limit:
            nbytes = self._operation_limit
        return self._at_most_all(nbytes)

    def _at_most_all(self, nbytes: int) -> int:
        """What is larger than all there is runs alone, by taking all there is; nothing is free of charge."""
        most = self._headroom.most()
        if nbytes > most and not self._gate.in_flight:
            self._headroom.observe(0)
            most = self._headroom.most()
        return max(1, min(nbytes, most))

    def _queue_up(
        self,
        task_class: str,
        cost: int | str | None,
        priority: Priority,
        deadline: float | None,
        wakeup: type[LoopWakeup | ThreadWakeup],
    ) -> tuple[Waiter, float, RejectionReason]:
        """Join the queue; returns the waiter, how long it may wait, and why it was refused if it waits longer."""
        timeout, reason = self._queue_timeout, RejectionReason.MEMORY
        if deadline is not None and deadline <= timeout:
            timeout, reason = deadline, RejectionReason.DEADLINE
        price = (
            partial(self._learned, task_class) if cost is None else partial(self._declared_waiting, parse_bytes(cost))
        )
        waiter = Waiter(self._headroom.most(), checked_priority(priority), declared=cost is not None, price=price)
        if not self._gate.enter_or_queue(waiter, wakeup, self._max_queue):
            raise self._refusals.queue_full(task_class, waiter.nbytes)
        return waiter, timeout, reason

    def _permit(self, task_class: str, nbytes: int, priority: Priority) -> Permit:
        if self._gate.in_flight == 1 and self.on_first is not None:
            try:
                self.on_first()
            except BaseException:
                self._gate.leave(nbytes)
                raise
        return Permit(self, task_class, nbytes, priority, self._clock.monotonic(), self._attribution.begin())

    def end(self, permit: Permit, *, learn: bool) -> None:
        """Take back what a permit holds; `Permit.record` and `Permit.drop` call it. Never waits."""
        self._gate.lock.run(partial(self._take_back, permit, learn=learn))

    def _take_back(self, permit: Permit, *, learn: bool) -> Callable[[], None]:
        gate = self._gate
        admitted: list[Waiter] = []
        if permit.is_open:
            permit.is_open = False
            if learn:
                self._observe(permit)
            gate.reserved -= permit.reserved
            gate.in_flight -= 1
            if not gate.in_flight:
                self._attribution.idle()
                now = self._clock.monotonic()
                if now - self._idle_at > _IDLE_SECONDS:
                    # The moment between two tasks, if there is one, shows what is used without any.
                    self._idle_at = now
                    self._read_own()
            gate.admit(admitted)
        return partial(gate.notify, admitted)

    def _observe(self, permit: Permit) -> None:
        """Learn what the work has used; before those that wait are priced anew."""
        now = self._clock.monotonic()
        if now - self._sampled_at > _SAMPLE_SECONDS:
            self._read_own()
        try:
            self._costs.observe(permit.task_class, self._attribution.peak(permit.begun, permit.reserved))
        except Exception:  # noqa: BLE001 - a cost model of the user's; what it does wrong is counted and keeps no bytes
            self._learning_errors += 1
        self._refusals.observe(now - permit.admitted_at)

    def _read_own(self) -> None:
        """Sample this process; under the gate's lock."""
        gate = self._gate
        used = self._own.sample()
        if used is None:
            return
        if gate.in_flight == 0 or used < self._floor:
            self._floor = used
        self._attribution.sample(used - self._floor, gate.reserved)
        self._sampled_at = self._clock.monotonic()


def check_deadline(deadline: object) -> None:
    """Refuse a deadline that is none.

    Raises:
        ConfigError: Not a number of seconds from now.
    """
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not 0 < deadline <= _FOREVER:
        raise ConfigError(
            f"deadline: got {deadline!r}; expected seconds from now, more than 0 and at most {_FOREVER:.0f}"
        )
