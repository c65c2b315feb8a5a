"""The decision in front of each piece of work: admit, queue, or reject.

`AdmissionController` joins the parts of this package: `learning` says what the work needs, `headroom` what there is,
`gate` promises and queues, `emergency` what to do when memory runs short all the same. It knows no framework;
`middleware` and `guards` bring it to users.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from asyncmem._wakeup import LoopWakeup, ThreadWakeup
from asyncmem.admission.arguments import check_deadline, checked_size
from asyncmem.admission.books import Books
from asyncmem.admission.defence import Defence
from asyncmem.admission.forecast import Forecast
from asyncmem.admission.gate import Gate, refuse_to_block
from asyncmem.admission.headroom import Headroom
from asyncmem.admission.learning import LearnedCostModel
from asyncmem.admission.outlook import Outlook
from asyncmem.admission.permit import Permit, current_permit
from asyncmem.admission.pricing import Pricing
from asyncmem.admission.queue import FairQueue
from asyncmem.admission.refusals import Refusals
from asyncmem.admission.statistics import AdmissionStatistics
from asyncmem.admission.steps import Stepped
from asyncmem.admission.waiter import Priority, checked_priority
from asyncmem.admission.waiting import Applicant, Waiting
from asyncmem.admission.watching import Watching
from asyncmem.units import MIB, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from asyncmem._clock import Clock
    from asyncmem._protocols import GrowthMeter
    from asyncmem.admission.defence import Reclaiming
    from asyncmem.admission.headroom import Tightest
    from asyncmem.admission.learning import CostModel, TaskCosts
    from asyncmem.admission.queue import WaitQueue
    from asyncmem.errors import AdmissionRejected
    from asyncmem.events import AdmissionOutlook
    from asyncmem.limits import Bound

__all__ = ["STEPPED_FROM", "AdmissionController"]

T = TypeVar("T")
_EVERYBODY: Final = 1 << 30
"""Above all priorities."""
STEPPED_FROM: Final = MIB
"""Work that reserves so many bytes, learned or guessed, is measured step by step: it will not notice."""


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
        reclaim: Gives memory back that nobody uses; called when memory is short, before work is refused or cancelled
            for it. Told to be quiet it is on the sampling thread, and must run no code of the user's.
    """

    __slots__ = (
        "_admits",
        "_books",
        "_costs",
        "_defence",
        "_forecast",
        "_gate",
        "_headroom",
        "_is_choosy",
        "_is_draining",
        "_monotonic",
        "_most_quickly",
        "_outlook",
        "_pricing",
        "_refusals",
        "_waiting",
        "_watching",
        "on_begun",
        "on_first",
        "read_now",
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
        reclaim: Reclaiming | None = None,
    ) -> None:
        self._costs: CostModel = LearnedCostModel() if cost_model is None else cost_model
        self._headroom = Headroom(bounds, guard=guard, clock=clock, tasks=self._costs)
        self._monotonic = clock.monotonic
        self._gate = Gate(self._headroom, FairQueue() if queue is None else queue, clock=self._monotonic)
        self._forecast = Forecast(clock)
        self._refusals = Refusals(self._gate, self._forecast, queue_timeout, clock=self._monotonic)
        self._defence = Defence(self._gate, self._headroom, self._costs, reclaim)
        self._outlook = Outlook(self._gate, self._headroom, self._costs, self._refusals, self._defence)
        self._watching = Watching(
            self._gate,
            self._headroom,
            self._costs,
            self._defence,
            own=own,
            abandoned=self._refusals.abandoned,
            clock=self._monotonic,
        )
        self._pricing = Pricing(
            self._headroom, self._gate, self._refusals, clock=self._monotonic, operation_limit=operation_limit
        )
        self._books = self._gate.holder = Books(
            self._gate,
            self._headroom,
            self._pricing,
            self._forecast,
            self._refusals,
            self._watching,
            clock=self._monotonic,
        )
        self._most_quickly = math.inf if operation_limit is None else operation_limit
        self._waiting = Waiting(
            self._gate,
            self._headroom,
            self._costs,
            self._pricing,
            self._forecast,
            self._refusals,
            reclaim=reclaim,
            clock=self._monotonic,
            max_queue=max_queue,
            queue_timeout=queue_timeout,
        )
        self._is_choosy = self._is_draining = False
        self._admits = 0
        self.on_first: Callable[[], object] | None = None
        """Called when work is admitted while whoever samples may be asleep: they should do so more often."""
        self.on_begun: Callable[[], object] | None = None
        """Called when work has begun to take memory while others wait: what it has reserved and will not need may be
        seen now."""
        self.read_now: Callable[[], int | None] | None = None
        """Bytes that the process holds now; where it is given, work that is not small is measured step by step."""

    # -- asking -------------------------------------------------------------------------------------------------------

    def try_acquire(
        self,
        task_class: str,
        *,
        cost: int | str | None = None,
        priority: Priority = Priority.NORMAL,
        size: float = 0.0,
    ) -> Permit | None:
        """Reserve now, or return None where it would have to wait; arguments and refusals as of `acquire`.

        The quick way in: no await, no exception where the answer is «wait». Where the last reading is some
        milliseconds old and found room in plenty, memory is not read again.
        """
        now = self._monotonic()
        if (
            cost is not None
            or size
            or priority.__class__ is not Priority
            or (self._is_choosy and priority < self._admits)
        ):
            return self._try_with(task_class, cost, size, priority, now)
        # The way of nearly every request. All of it stands here, because calls are what it would cost.
        gate, room = self._gate, self._headroom
        lock = gate.lock
        try:
            with lock.plain:
                known = self._costs.find(task_class)
                nbytes = known.steady_price
                permit: Permit | None
                if (
                    0 < nbytes <= room.spare
                    and nbytes <= self._most_quickly
                    and now < room.spare_until
                    and gate.is_quiet
                ):
                    permit = Permit(self._books, task_class, known, nbytes, 0.0, priority, now)
                    known.enter(permit)
                    room.spare -= nbytes
                    gate.reserved += nbytes
                    gate.in_flight += 1
                    gate.admitted += 1
                else:
                    permit = self._try_known(task_class, known, None, 0.0, priority, now)
        finally:
            if lock.pending:
                lock.catch_up()
        if gate.is_asleep and permit is not None and self.on_first is not None:
            self._wake(permit, self.on_first)
        return permit

    def _try_with(
        self, task_class: str, cost: int | str | None, size: float, priority: Priority, now: float
    ) -> Permit | None:
        """The same, where something is declared."""
        priority = checked_priority(priority)
        size = checked_size(size)
        declared = None if cost is None else parse_bytes(cost)
        if self._is_choosy and priority < self._admits:
            self._refuse(task_class)
        with self._gate.lock, self._gate.lock.plain:
            permit = self._try_known(task_class, self._costs.find(task_class), declared, size, priority, now)
        if self._gate.is_asleep and permit is not None and self.on_first is not None:
            self._wake(permit, self.on_first)
        return permit

    def _try_known(  # noqa: PLR0917 - on the request path
        self, task_class: str, known: TaskCosts, declared: int | None, size: float, priority: Priority, now: float
    ) -> Permit | None:
        """The same, with all that there is to consider. Under the lock."""
        gate = self._gate
        if declared is not None:
            nbytes = self._pricing.declared(task_class, declared)
        elif known.may_start(now):
            nbytes = self._pricing.learned(task_class, known, size)
        else:
            gate.check_open()
            return None
        if not gate.charge(nbytes, declared=declared is not None):
            return None
        try:
            return self._books.open(task_class, known, nbytes, size, priority, now, declared=declared is not None)
        except BaseException:
            gate.reserved -= nbytes
            gate.in_flight -= 1
            raise

    def acquire_nowait(
        self,
        task_class: str,
        *,
        cost: int | str | None = None,
        priority: Priority = Priority.NORMAL,
        size: float = 0.0,
    ) -> Permit:
        """Reserve now; arguments and errors as of `acquire`.

        Raises:
            anyio.WouldBlock: It would have to wait.
        """
        permit = self.try_acquire(task_class, cost=cost, priority=priority, size=size)
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
        size: float = 0.0,
        held_bytes: int = 0,
        abandoned: Callable[[], bool] | None = None,
    ) -> Permit:
        """Reserve what the work needs, and wait for it in the event loop.

        Uncontended it does not yield to the loop. Cancelled while waiting, nothing is reserved.

        Args:
            task_class: The name under which costs are learned.
            cost: Bytes that the work needs at its peak, or text such as ``"80MiB"``; None to use what was learned.
            priority: The higher is served first.
            deadline: Seconds from now within which the work must start.
            size: Size of the input, in bytes or items, where it is known: costs are learned per size.
            held_bytes: Bytes that it takes by waiting, such as the buffers of a connection.
            abandoned: Says whether whoever asked has gone; polled while it waits, from another thread.

        Returns:
            The permit; end it with `Permit.record` or `Permit.drop`.

        Raises:
            AdmissionRejected: The queue is full, the wait too long, the cost beyond what there can be, the priority
                low while pressure is high, or the controller closed or drained.
            ConfigError: A cost, priority, size or deadline that cannot be.
        """
        if deadline is not None:
            check_deadline(deadline)
        permit = self.try_acquire(task_class, cost=cost, priority=priority, size=size)
        if permit is not None:
            return permit
        waiter, timeout, reason = self._waiting.join(
            task_class, cost, priority, deadline, size, LoopWakeup, held_bytes=held_bytes, abandoned=abandoned
        )
        look = self._watching.look if self._watching.is_unwatched else None
        if self._gate.take(waiter) or await self._gate.wait(waiter, timeout, look):
            return self._taken(waiter)
        raise self._refusals.too_late(task_class, waiter.nbytes, reason)

    def acquire_sync(
        self,
        task_class: str,
        *,
        cost: int | str | None = None,
        priority: Priority = Priority.NORMAL,
        deadline: float | None = None,
        size: float = 0.0,
    ) -> Permit:
        """Reserve what the work needs, and block this thread for it; as `acquire`.

        Raises:
            RuntimeError: It would have to wait on the thread of an event loop.
        """
        if deadline is not None:
            check_deadline(deadline)
        permit = self.try_acquire(task_class, cost=cost, priority=priority, size=size)
        if permit is not None:
            return permit
        refuse_to_block()
        waiter, timeout, reason = self._waiting.join(task_class, cost, priority, deadline, size, ThreadWakeup)
        look = self._watching.look if self._watching.is_unwatched else None
        if self._gate.take(waiter) or self._gate.wait_sync(waiter, timeout, look):
            return self._taken(waiter)
        raise self._refusals.too_late(task_class, waiter.nbytes, reason)

    # -- running ------------------------------------------------------------------------------------------------------

    def adopt_bounds(self) -> None:
        """Take over bounds that have changed, and admit those that now fit."""
        with self._gate.lock, self._gate.lock.plain:
            self._headroom.adopt()
        self._gate.admit_waiting()

    def sample(self) -> float | None:
        """Read memory, learn from it, defend it, and admit those that now fit; called by the watcher, from its thread.

        Returns:
            Seconds until the next sample; None where nothing is in flight and nothing waits.
        """
        return self._watching.sample()

    def go_unwatched(self) -> None:
        """Nobody calls `sample`: then those that wait and those that end do."""
        self._watching.is_unwatched = True

    @property
    def shed(self) -> tuple[int, int]:
        """Work refused for want of memory, and work told to end to free it, so far."""
        return self._refusals.short_of_memory(), self._defence.evicted

    @property
    def in_flight(self) -> int:
        """Permits handed out and not ended."""
        return self._gate.in_flight

    @property
    def has_admitted(self) -> bool:
        """Whether a permit was ever handed out."""
        return self._gate.admitted > 0

    @property
    def holds_much(self) -> bool:
        """Whether at the last sample work in flight held or might add much, or nobody knew, or somebody waited."""
        return self._watching.holds_much

    def tightest(self) -> Tightest:
        """The bound of which the least was left at the last sample, for telling the pressure."""
        return self._headroom.tightest()

    def outlook(self) -> AdmissionOutlook:
        """What admission does about memory and who holds most, for alerts; cheaper than `statistics`."""
        with self._gate.lock, self._gate.lock.plain:
            return self._outlook.take(self._monotonic())

    def thresholds(self) -> dict[str, tuple[int, int]]:
        """Usages at which to look at once, by the place where each bound was found: the guard band's begin and half."""
        return {
            gauge.bound.source: (gauge.capacity, gauge.bound.limit - gauge.guard // 2)
            for gauge in self._headroom.gauges
        }

    def step(self, permit: Permit, work: Awaitable[T]) -> Awaitable[T]:
        """What to await instead of `work`: itself, or something that measures it where it is not known to be small."""
        if permit.reserved < STEPPED_FROM or self.read_now is None:
            return work
        return Stepped(work, permit, self.read_now, self._has_begun)

    def evicted(self, permit: Permit) -> AdmissionRejected:
        """What to say to work that was told to end (`Permit.evicted`)."""
        return self._refusals.evicted(permit.task_class, permit.reserved)

    def close(self) -> None:
        """Refuse all further work and all that waits; permits in flight are ended by their holders."""
        self._gate.close(self._refusals.closed)

    def drain(self) -> None:
        """Refuse all new work and all that waits; work in flight, and what it asks for, goes on until `close`."""
        self._is_draining = self._is_choosy = True
        self._admits = _EVERYBODY
        self._gate.expel(lambda _: True, self._refusals.closed)

    @property
    def is_draining(self) -> bool:
        """Whether new work is refused, by `drain` or by `close`."""
        return self._is_draining or self._gate.is_closed

    @property
    def is_shedding(self) -> bool:
        """Work of low priority is refused at once while anything is in flight: set it while pressure is high.

        What waits already goes on waiting.
        """
        return self._is_choosy

    @is_shedding.setter
    def is_shedding(self, sheds: bool) -> None:
        if not self._is_draining:
            self._is_choosy, self._admits = sheds, Priority.NORMAL

    def save_costs(self) -> bytes:
        """What was learned, for `load_costs` of a later process."""
        with self._gate.lock, self._gate.lock.plain:
            written = self._costs.dump()
        return written()

    def load_costs(self, data: bytes) -> None:
        """Begin with what an earlier process has learned.

        Raises:
            ValueError: It is not what `save_costs` returns; nothing has changed then.
        """
        with self._gate.lock, self._gate.lock.plain:
            self._costs.load(data)

    def statistics(self) -> AdmissionStatistics:
        """What is held and was done, now."""
        gate = self._gate
        with gate.lock, gate.lock.plain:
            return AdmissionStatistics(
                capacity=self._headroom.capacity(),
                headroom=self._headroom.free(gate.reserved, 0),
                reserved=gate.reserved,
                in_flight=gate.in_flight,
                queued=len(gate.queue),
                queued_bytes=gate.queue.held_bytes,
                admitted=gate.admitted,
                probes=gate.probes,
                rejected=self._refusals.counts(),
                rejected_idle=self._refusals.idle,
                evicted=self._defence.evicted,
                expected_held=int(self._costs.held),
                expected_to_come=int(self._costs.to_come),
                unneeded=int(self._costs.unneeded),
                task_classes=dict(self._costs.statistics()),
                learning_errors=self._watching.learning_errors,
                unreadable=self._headroom.unreadable,
            )

    # -- inside -------------------------------------------------------------------------------------------------------

    def _refuse(self, task_class: str) -> None:
        """Refuse new work, of low priority only while nothing is drained, unless it is part of work that was let in."""
        around = current_permit.get()
        if around is not None and around.is_open:
            return
        if self._is_draining:
            raise self._refusals.closed()
        with self._gate.lock, self._gate.lock.plain:
            if self._gate.in_flight:
                raise self._refusals.shed(task_class)

    def _taken(self, waiter: Applicant) -> Permit:
        permit = waiter.permit
        assert permit is not None
        if self._gate.is_asleep and self.on_first is not None:
            self._wake(permit, self.on_first)
        return permit

    def _wake(self, permit: Permit, on_first: Callable[[], object]) -> None:
        """Have those called who sample; they say themselves when they need that again."""
        self._gate.is_asleep = False
        try:
            on_first()
        except BaseException:
            self._gate.is_asleep = True
            permit.drop()
            raise

    def _has_begun(self) -> None:
        if self.on_begun is not None and not self._gate.is_quiet:
            self.on_begun()
