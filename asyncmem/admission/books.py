"""Whose bytes are promised: permits are made here, and taken back.

`Books` holds the gate of the controller, so it also makes the permits of those that were admitted from the queue.
Giving back never waits, whoever does it and wherever.

Not here: whether there is room (`gate`), what work is charged (`pricing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncmem.admission.permit import Permit
from asyncmem.admission.waiting import Applicant

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.admission.forecast import Forecast
    from asyncmem.admission.gate import Gate
    from asyncmem.admission.headroom import Headroom
    from asyncmem.admission.learning import TaskCosts
    from asyncmem.admission.locking import Afterwards
    from asyncmem.admission.pricing import Pricing
    from asyncmem.admission.refusals import Refusals
    from asyncmem.admission.waiter import Priority, Waiter
    from asyncmem.admission.watching import Watching
    from asyncmem.errors import AdmissionRejected

__all__ = ["Books"]


class Books:
    """The permits of one gate.

    Args:
        gate: Where the bytes are promised.
        headroom: What there is.
        pricing: Is told that work has survived that had outgrown all there is.
        forecast: Learns how bytes come back.
        refusals: What those are told that have gone.
        watching: Looks at work of which nothing is known, and where nobody samples, at its end.
        clock: Monotonic seconds.
    """

    __slots__ = ("_clock", "_forecast", "_gate", "_headroom", "_pricing", "_refusals", "_watching")

    def __init__(  # noqa: PLR0917 - the controller's parts
        self,
        gate: Gate,
        headroom: Headroom,
        pricing: Pricing,
        forecast: Forecast,
        refusals: Refusals,
        watching: Watching,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._gate = gate
        self._headroom = headroom
        self._pricing = pricing
        self._forecast = forecast
        self._refusals = refusals
        self._watching = watching
        self._clock = clock

    def open(  # noqa: PLR0917 - as of Permit
        self,
        task_class: str,
        known: TaskCosts,
        nbytes: int,
        size: float,
        priority: Priority,
        now: float,
        *,
        declared: bool,
    ) -> Permit:
        """A permit for bytes that were promised. Under the lock."""
        permit = Permit(self, task_class, known, nbytes, size, priority, now)
        permit.declared = declared
        is_known = known.is_known()
        known.enter(permit)
        if not is_known:
            permit.guessed = True
            self._watching.guessed[permit] = declared
        return permit

    def end(self, permit: Permit, *, learn: bool) -> None:
        """Take back what a permit holds; `Permit.record` and `Permit.drop` call it. Never waits."""
        lock = self._gate.lock
        if not lock.plain.acquire(False):  # noqa: FBT003 - the lock's own
            lock.run(self._take_back, permit, learn)
            return
        try:
            afterwards = self._take_back(permit, learn)
        finally:
            lock.plain.release()
            if lock.pending:
                lock.catch_up()
        if afterwards is not None:
            afterwards()

    # -- for the gate -------------------------------------------------------------------------------------------------

    def granted(self, waiter: Waiter) -> None:
        """A waiter was admitted: its permit counts from now on, though its task has yet to wake. Under the lock."""
        assert isinstance(waiter, Applicant)
        self._headroom.spare -= waiter.nbytes
        waiter.permit = self.open(
            waiter.task_class,
            waiter.known,
            waiter.nbytes,
            waiter.work_size,
            waiter.priority,
            self._clock(),
            declared=waiter.declared,
        )

    def revoked(self, waiter: Waiter) -> int:
        """It will never use it; returns what it has reserved. Under the lock."""
        assert isinstance(waiter, Applicant)
        permit, waiter.permit = waiter.permit, None
        if permit is not None:
            permit.is_open = False
            self._watching.guessed.pop(permit, None)
            permit.known.leave(permit, self._clock(), learn=False)
            return permit.reserved
        return 0

    def abandoned(self) -> AdmissionRejected:
        """What a waiter is told whose asker has gone."""
        return self._refusals.abandoned()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _take_back(self, permit: Permit, learn: bool) -> Afterwards:  # noqa: FBT001 - keywords cost the request path
        if not permit.is_open:
            return None
        permit.is_open = False
        if permit.canceller is not None:
            # The work knows its permit through its context: together they would be kept until the collector comes.
            permit.canceller = permit.handle = None
        gate, now = self._gate, self._clock()
        gate.reserved -= permit.reserved
        gate.in_flight -= 1
        if permit.guessed:
            self._watching.guessed.pop(permit, None)
        is_waited_for = not gate.is_quiet
        if is_waited_for or permit.stage != -1:  # the shortest of work says nothing about waits
            self._forecast.observe_release(permit.reserved, now - permit.admitted_at, now, gate.queue.wanted > 0)
        try:
            permit.known.leave(permit, now, learn=learn)
            if learn and self._pricing.probes:
                self._pricing.survived(permit.task_class)
        except Exception:  # noqa: BLE001 - a cost model of the user's; what it does wrong is counted and keeps no bytes
            self._watching.learning_errors += 1
        if self._watching.is_unwatched:
            self._watching.glance(now)
        return gate.admit_afterwards() if is_waited_for else None
