"""The one place where bytes are promised: check and charge under one lock, and a queue for those that must wait.

`MemorySemaphore` and `AdmissionController` are two faces of this gate; they differ in where the room comes from: a
fixed number there, the memory that is really free here. The lock is a plain one, held for microseconds and never over
an await, because threads and synchronous callers come here too. Giving back never waits for it (`locking` says why).

Not here: what a task costs (`costs`), how much room there is (`headroom`), who is next (`queue`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio

from asyncmem._wakeup import LoopWakeup, ThreadWakeup, loop_runs_here
from asyncmem.admission.locking import DeferringLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from asyncmem.admission.queue import WaitQueue
    from asyncmem.admission.waiter import Waiter

__all__ = ["Gate", "Room", "refuse_to_block"]


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

    def may_run_alone(self, nbytes: int, *, declared: bool) -> bool:
        """Whether work that does not fit may run all the same while nothing is in flight.

        Args:
            nbytes: Bytes it would be charged.
            declared: The bytes were declared and not guessed, so that the work really needs them.
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
        self.lock = DeferringLock()
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

    @property
    def is_closed(self) -> bool:
        """Whether nobody is admitted any more."""
        return self._closing is not None

    def charge(self, nbytes: int, *, declared: bool) -> bool:
        """Promise `nbytes` now, or say that it cannot be; never overtakes one that waits. Under the lock.

        Raises:
            BaseException: What `close` was given.
        """
        if self._closing is not None:
            raise self._closing()
        if self.queue:
            return False
        if nbytes > self.room.free(self.reserved, nbytes):
            if self.in_flight or not self.room.may_run_alone(nbytes, declared=declared):
                return False
            self.probes += 1
        self.reserved += nbytes
        self.in_flight += 1
        self.admitted += 1
        return True

    def enter_or_queue(self, waiter: Waiter, wakeup: type[LoopWakeup | ThreadWakeup], max_waiters: int | None) -> bool:
        """Promise the waiter its bytes, or queue it.

        Returns:
            Whether it was admitted or queued; False where the queue is full.

        Raises:
            BaseException: What `close` was given, or what a part of the room raised; then nothing is held.
        """
        admitted: list[Waiter] = []
        try:
            with self.lock:
                if self.charge(waiter.size(), declared=waiter.declared):
                    waiter.admitted = True
                    return True
                if max_waiters is not None and len(self.queue) >= max_waiters:
                    return False
                waiter.wakeup = wakeup()
                self.queue.add(waiter)
                waiter.queued = True
                if len(self.queue) > 1:
                    self.admit(admitted)
        except BaseException:
            self._withdraw(waiter)
            raise
        finally:
            self.notify(admitted)
        return True

    def leave(self, nbytes: int) -> None:
        """Give back what was promised, and admit those that now fit. Never waits."""
        self.lock.run(partial(self._leave, nbytes))

    def admit_waiting(self) -> None:
        """Admit those that fit; to be called when the room has grown by itself."""
        if not self.queue:
            return
        admitted: list[Waiter] = []
        try:
            with self.lock:
                self.admit(admitted)
        finally:
            self.notify(admitted)

    def close(self, error: Callable[[], BaseException]) -> None:
        """Admit nobody from now on: all that wait, and all that come, raise an `error` of their own."""
        with self.lock:
            self._closing = error
            waiters = list(self.queue)
            for waiter in waiters:
                self.queue.remove(waiter)
                waiter.queued = False
                waiter.error = error()
        for waiter in waiters:
            if waiter.wakeup is not None:
                waiter.wakeup.notify()

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
            self._withdraw(waiter)
            raise
        return self._outcome(waiter)

    def wait_sync(self, waiter: Waiter, seconds: float | None) -> bool:
        """Block this thread until a queued waiter is admitted; as `wait`."""
        assert isinstance(waiter.wakeup, ThreadWakeup)
        try:
            waiter.wakeup.wait(seconds)
        except BaseException:  # KeyboardInterrupt
            self._withdraw(waiter)
            raise
        return self._outcome(waiter)

    def admit(self, admitted: list[Waiter]) -> None:
        """Admit from the queue while the next one fits, into `admitted`, which is to be notified. Under the lock.

        The memory is read once for all of them.
        """
        first = self.queue.first()
        if first is None:
            return
        free, most = self.room.free(self.reserved, first.size()), self.room.most()
        while (waiter := self.queue.next(free, most)) is not None:
            free -= waiter.nbytes
            self._grant(waiter, admitted)
        if self.in_flight:
            return
        # Nothing runs, so nothing will ever be given back: the first that may run alone goes through.
        for waiter in self.queue:
            if self.room.may_run_alone(waiter.size(), declared=waiter.declared):
                self.probes += 1
                self._grant(waiter, admitted)
                return

    def notify(self, waiters: Iterable[Waiter]) -> None:
        """Wake those that were admitted; outside the lock, for a wakeup may cross into another loop.

        One whose loop is gone will never run: what it was promised comes back.
        """
        for waiter in waiters:
            if waiter.wakeup is not None and not waiter.wakeup.notify():
                self.leave(waiter.nbytes)

    def _grant(self, waiter: Waiter, admitted: list[Waiter]) -> None:
        self.queue.remove(waiter)
        waiter.queued = False
        self.reserved += waiter.nbytes
        self.in_flight += 1
        self.admitted += 1
        waiter.admitted = True
        admitted.append(waiter)

    def _outcome(self, waiter: Waiter) -> bool:
        if waiter.queued:
            with self.lock:
                afterwards = self._remove(waiter)
            afterwards()
        if waiter.error is not None:
            raise waiter.error
        return waiter.admitted

    def _withdraw(self, waiter: Waiter) -> None:
        """Leave nothing of a waiter behind, whether it stands in the queue or was admitted meanwhile. Never waits."""
        self.lock.run(partial(self._undo, waiter))

    def _leave(self, nbytes: int) -> Callable[[], None]:
        self.reserved -= nbytes
        self.in_flight -= 1
        return self._admit_afterwards()

    def _undo(self, waiter: Waiter) -> Callable[[], None]:
        if waiter.admitted:
            waiter.admitted = False
            return self._leave(waiter.nbytes)
        return self._remove(waiter)

    def _remove(self, waiter: Waiter) -> Callable[[], None]:
        """Take a waiter out of the queue, if it is still there."""
        if not waiter.queued:
            return _nothing
        first = self.queue.first()
        # One that can never be served blocks nobody: then it may have been any other that did.
        blocked_others = first is waiter or (first is not None and first.nbytes > self.room.most())
        self.queue.remove(waiter)
        waiter.queued = False
        return self._admit_afterwards() if blocked_others else _nothing

    def _admit_afterwards(self) -> Callable[[], None]:
        """Admit those that fit; returns what wakes them once the lock is free."""
        admitted: list[Waiter] = []
        if self.queue:
            self.admit(admitted)
        return partial(self.notify, admitted)


def _nothing() -> None:
    """What is left to do after a section that changed nothing for others."""


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
