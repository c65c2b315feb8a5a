"""The one place where bytes are promised: check and charge under one lock, and a queue for those that must wait.

`MemorySemaphore` and `AdmissionController` are two faces of this gate; they differ in where the room comes from: a
fixed number there, the memory that is really free here. The lock is a plain one, held for microseconds and never over
an await, because threads and synchronous callers come here too.

Not here: what a task costs (`costs`), how much room there is (`headroom`), who is next (`queue`).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import anyio

from asyncmem._wakeup import LoopWakeup, ThreadWakeup, loop_runs_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from asyncmem.admission.queue import WaitQueue
    from asyncmem.admission.waiter import Waiter

__all__ = ["Gate", "Room", "notify", "refuse_to_block"]


class Room(Protocol):
    """Where the bytes to promise come from. All calls are made under the gate's lock."""

    def free(self, reserved: int, wanted: int) -> int:
        """Bytes that may be promised on top of `reserved`; may be negative.

        Args:
            reserved: Bytes that are promised already.
            wanted: Bytes asked for: a costlier reading is worth it only where it decides.
        """
        ...

    def most(self) -> int:
        """Bytes that could be promised if nothing were in flight."""
        ...

    def may_run_alone(self, nbytes: int, *, sure: bool) -> bool:
        """Whether work that does not fit may run all the same while nothing is in flight.

        Args:
            nbytes: Bytes it would be charged.
            sure: The bytes were declared, so that the work really needs them.
        """
        ...


class Gate:
    """Promises bytes to those that fit and queues the rest.

    Args:
        room: Where the bytes come from.
        queue: The order of those that wait.
    """

    __slots__ = ("_closing", "admitted", "in_flight", "lock", "probes", "queue", "reserved", "room")

    def __init__(self, room: Room, queue: WaitQueue) -> None:
        self.lock = threading.Lock()
        self.room = room
        self.queue = queue
        self._closing: Callable[[], BaseException] | None = None
        self.reserved = 0
        """Bytes promised and not yet given back."""
        self.in_flight = 0
        """Promises not yet given back."""
        self.admitted = 0
        """Promises made so far."""
        self.probes = 0
        """How often work that did not fit ran alone."""

    def enter(self, nbytes: int, *, sure: bool) -> bool:
        """Promise `nbytes` now, or say that it cannot be; never overtakes one that waits.

        Raises:
            BaseException: What `close` was given.
        """
        with self.lock:
            if self._closing is not None:
                raise self._closing()
            if self.queue:
                return False
            return self._charge(nbytes, sure=sure)

    def enter_or_queue(self, waiter: Waiter, wakeup: type[LoopWakeup | ThreadWakeup], max_waiters: int | None) -> bool:
        """Promise the waiter its bytes, or queue it.

        Returns:
            Whether it was admitted or queued; False where the queue is full.

        Raises:
            BaseException: What `close` was given.
        """
        with self.lock:
            if self._closing is not None:
                raise self._closing()
            if not self.queue and self._charge(waiter.nbytes, sure=waiter.sure):
                waiter.admitted = True
                return True
            if max_waiters is not None and len(self.queue) >= max_waiters:
                return False
            waiter.wakeup = wakeup()
            self.queue.add(waiter)
            admitted = self._admit() if len(self.queue) > 1 else ()
        notify(admitted)
        return True

    def leave(self, nbytes: int) -> None:
        """Give back what `enter` promised, and admit those that now fit."""
        with self.lock:
            admitted = self.give_back(nbytes)
        notify(admitted)

    def give_back(self, nbytes: int) -> list[Waiter]:
        """`leave` for one that holds the lock already; what it returns is to be notified after the lock."""
        self.reserved -= nbytes
        self.in_flight -= 1
        return self._admit() if self.queue else []

    def admit_waiting(self) -> None:
        """Admit those that fit; to be called when the room has grown by itself."""
        if self.queue:
            with self.lock:
                admitted = self._admit()
            notify(admitted)

    def close(self, error: Callable[[], BaseException]) -> None:
        """Admit nobody from now on: all that wait, and all that come, raise an `error` of their own."""
        with self.lock:
            self._closing = error
            waiters = list(self.queue)
            for waiter in waiters:
                self.queue.remove(waiter)
                waiter.error = error()
        notify(waiters)

    @property
    def is_closed(self) -> bool:
        """Whether nobody is admitted any more."""
        return self._closing is not None

    async def wait(self, waiter: Waiter, seconds: float | None) -> bool:
        """Wait in the event loop until a queued waiter is admitted; returns whether it was, within `seconds`.

        Raises:
            BaseException: What `close` was given. Cancelled or refused, the waiter holds nothing.
        """
        assert isinstance(waiter.wakeup, LoopWakeup)
        try:
            if seconds is None:
                await waiter.wakeup.wait()
            else:
                with anyio.move_on_after(seconds):
                    await waiter.wakeup.wait()
        except BaseException:
            if not self._abandon(waiter):
                self.leave(waiter.nbytes)
            raise
        return self._outcome(waiter)

    def wait_sync(self, waiter: Waiter, seconds: float | None) -> bool:
        """Block this thread until a queued waiter is admitted; as `wait`."""
        assert isinstance(waiter.wakeup, ThreadWakeup)
        try:
            waiter.wakeup.wait(seconds)
        except BaseException:  # KeyboardInterrupt
            if not self._abandon(waiter):
                self.leave(waiter.nbytes)
            raise
        return self._outcome(waiter)

    def _outcome(self, waiter: Waiter) -> bool:
        if not waiter.admitted and waiter.error is None:
            self._abandon(waiter)
        if waiter.error is not None:
            raise waiter.error
        return waiter.admitted

    def _abandon(self, waiter: Waiter) -> bool:
        """Take a waiter out of the queue; returns False where it had been admitted meanwhile."""
        with self.lock:
            if waiter.admitted:
                return False
            if waiter.error is not None:
                return True
            first = self.queue.first()
            # One that can never be served blocks nobody: then it may have been any other that did.
            blocked_others = first is waiter or (first is not None and first.nbytes > self.room.most())
            self.queue.remove(waiter)
            admitted = self._admit() if blocked_others else ()
        notify(admitted)
        return True

    def _charge(self, nbytes: int, *, sure: bool) -> bool:
        if nbytes > self.room.free(self.reserved, nbytes):
            if self.in_flight or not self.room.may_run_alone(nbytes, sure=sure):
                return False
            self.probes += 1
        self.reserved += nbytes
        self.in_flight += 1
        self.admitted += 1
        return True

    def _admit(self) -> list[Waiter]:
        """Admit from the queue while the next one fits; the memory is read once for all of them."""
        admitted: list[Waiter] = []
        first = self.queue.first()
        if first is None:
            return admitted
        free, most = self.room.free(self.reserved, first.size()), self.room.most()
        while (waiter := self.queue.next(free, most)) is not None:
            free -= waiter.nbytes
            self.reserved += waiter.nbytes
            self._pass(waiter, admitted)
        if not self.in_flight:
            # Nothing runs, so nothing will ever be given back: the first that may run alone goes through.
            for waiter in self.queue:
                if self.room.may_run_alone(waiter.nbytes, sure=waiter.sure):
                    self.probes += 1
                    self.reserved += waiter.nbytes
                    self._pass(waiter, admitted)
                    break
        return admitted

    def _pass(self, waiter: Waiter, admitted: list[Waiter]) -> None:
        self.queue.remove(waiter)
        self.in_flight += 1
        self.admitted += 1
        waiter.admitted = True
        admitted.append(waiter)


def notify(waiters: Iterable[Waiter]) -> None:
    """Wake those that were admitted; outside the lock, for a wakeup may cross into another loop."""
    for waiter in waiters:
        if waiter.wakeup is not None:
            waiter.wakeup.notify()


def refuse_to_block() -> None:
    """Raise where waiting would stop the event loop that must give the memory back.

    Raises:
        RuntimeError: An event loop runs in this thread.
    """
    if loop_runs_here():
        raise RuntimeError(
            "a synchronous wait for memory on the event loop's own thread would stop the loop for ever; "
            "use the asynchronous form ('async with', 'await') or call the work in a thread"
        )
