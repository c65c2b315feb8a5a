"""The one place where bytes are promised: check and charge under one lock, and a queue for those that must wait.

`MemorySemaphore` and `AdmissionController` are two faces of this gate; they differ in where the room comes from: a
fixed number there, the memory that is really free here. The lock is a plain one, held for microseconds and never over
an await, because threads and synchronous callers come here too. Giving back never waits for it (`locking` says why).

Not here: what a task costs (`learning`), how much room there is (`headroom`), who is next (`queue`).
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from asyncmem._wakeup import LoopWakeup, ThreadWakeup, loop_runs_here
from asyncmem.admission.locking import DeferringLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from asyncmem.admission.locking import Afterwards
    from asyncmem.admission.queue import WaitQueue
    from asyncmem.admission.waiter import Waiter

__all__ = ["Gate", "Holder", "Room", "refuse_to_block"]


_LOOK_SECONDS: Final = 0.1
"""Where nobody samples, those that wait do, as often as this."""


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

    def price_version(self) -> int:
        """Another number whenever what a waiter is charged may have changed."""
        ...


class Holder(Protocol):
    """Keeps the books of what waiters were promised. Called under the gate's lock."""

    def granted(self, waiter: Waiter) -> None:
        """A queued waiter has been promised its bytes."""
        ...

    def revoked(self, waiter: Waiter) -> int:
        """A waiter that was promised its bytes will never use them; returns how many it has of them now."""
        ...

    def abandoned(self) -> BaseException:
        """What a waiter is told whose asker has gone."""
        ...


class Gate:
    """Promises bytes to those that fit and queues the rest.

    Args:
        room: Where the bytes come from.
        queue: The order of those that wait.
        clock: Monotonic seconds.
    """

    __slots__ = (
        "_clock",
        "_closing",
        "admitted",
        "holder",
        "in_flight",
        "is_asleep",
        "is_quiet",
        "lock",
        "probes",
        "queue",
        "reserved",
        "room",
    )

    def __init__(self, room: Room, queue: WaitQueue, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = DeferringLock()
        self.room = room
        self.queue = queue
        self.holder: Holder | None = None
        """Is told what becomes of waiters; set once, by whoever makes the gate, where somebody keeps books."""
        self._clock = clock
        self._closing: Callable[[], BaseException] | None = None
        self.is_quiet = True
        """Whether one that comes now need not stand behind others: nobody waits, and it is open."""
        self.is_asleep = True
        """Whoever samples may not come again by themselves soon: what is admitted next calls them."""
        self.reserved = 0
        """Bytes promised and not yet given back, and what those that wait cost by waiting."""
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

    def check_open(self) -> None:
        """Raise what `close` was given, if it was called."""
        if self._closing is not None:
            raise self._closing()

    def promise(self, nbytes: int) -> None:
        """Promise `nbytes` to one for whom there is room. Under the lock."""
        self.reserved += nbytes
        self.in_flight += 1
        self.admitted += 1

    def charge(self, nbytes: int, *, declared: bool) -> bool:
        """Promise `nbytes` now, or say that it cannot be; never overtakes one that waits. Under the lock.

        Raises:
            BaseException: What `close` was given.
        """
        self.check_open()
        if self.queue:
            return False
        if nbytes > self.room.free(self.reserved, nbytes):
            if self.in_flight or not self.room.may_run_alone(nbytes, declared=declared):
                return False
            self.probes += 1
        self.promise(nbytes)
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
            with self.lock, self.lock.plain:
                self.check_open()
                if max_waiters is not None and len(self.queue) >= max_waiters:
                    return False
                waiter.wakeup = wakeup()
                waiter.since = self._clock()
                waiter.size(self.room.price_version())
                self.queue.add(waiter)
                waiter.queued = True
                self.is_quiet = False
                self.reserved += waiter.held_bytes
                self.admit(admitted)
        except BaseException:
            self._withdraw(waiter)
            raise
        finally:
            self.notify(admitted)
        return True

    def take(self, waiter: Waiter) -> bool:
        """Hand over what a waiter was promised; returns whether that was so already."""
        if not waiter.admitted:
            return False
        with self.lock, self.lock.plain:
            admitted, waiter.admitted = waiter.admitted, False
        return admitted

    def leave(self, nbytes: int) -> None:
        """Give back what was promised, and admit those that now fit. Never waits."""
        self.lock.run(self._leave, nbytes)

    def admit_waiting(self) -> None:
        """Admit those that fit; to be called when the room has grown by itself."""
        if not self.queue:
            return
        admitted: list[Waiter] = []
        try:
            with self.lock, self.lock.plain:
                self.admit(admitted)
        finally:
            self.notify(admitted)

    def expel(self, gone: Callable[[Waiter], bool], error: Callable[[], BaseException]) -> int:
        """Take those out of the queue of whom `gone` is true; each raises an `error` of its own.

        Returns:
            How many they were.
        """
        if not self.queue:
            return 0
        admitted: list[Waiter] = []
        try:
            with self.lock, self.lock.plain:
                expelled = [waiter for waiter in self.queue if gone(waiter)]
                for waiter in expelled:
                    waiter.error = error()
                    self._take_out(waiter)
                if expelled:
                    self.admit(admitted)
        finally:
            self.notify(admitted)
        for waiter in expelled:
            if waiter.wakeup is not None:
                waiter.wakeup.notify()
        return len(expelled)

    def close(self, error: Callable[[], BaseException]) -> None:
        """Admit nobody from now on: all that wait, and all that come, raise an `error` of their own."""
        with self.lock, self.lock.plain:
            self._closing = error
            self.is_quiet = False
        self.expel(lambda _waiter: True, error)

    async def wait(self, waiter: Waiter, seconds: float | None, look: Callable[[], object] | None = None) -> bool:
        """Wait in the event loop until a queued waiter is admitted; returns whether it was, within `seconds`.

        Args:
            waiter: The waiter.
            seconds: Longest wait; None for any.
            look: Called now and then where nobody else looks whether it could be admitted.

        Raises:
            BaseException: What `close` was given. Cancelled or refused, the waiter holds nothing.
        """
        assert isinstance(waiter.wakeup, LoopWakeup)
        try:
            if seconds is None:
                await waiter.wakeup.wait()
            else:
                with anyio.move_on_after(seconds):
                    while look is not None and waiter.queued:
                        look()
                        with anyio.move_on_after(_LOOK_SECONDS):
                            await waiter.wakeup.wait()
                    await waiter.wakeup.wait()
        except BaseException:
            self._withdraw(waiter)
            raise
        return self._outcome(waiter)

    def wait_sync(self, waiter: Waiter, seconds: float | None, look: Callable[[], object] | None = None) -> bool:
        """Block this thread until a queued waiter is admitted; as `wait`."""
        assert isinstance(waiter.wakeup, ThreadWakeup)
        until = math.inf if seconds is None else time.monotonic() + seconds
        try:
            while look is not None and not waiter.wakeup.wait(min(_LOOK_SECONDS, max(0.0, until - time.monotonic()))):
                if time.monotonic() >= until:
                    break
                look()
            waiter.wakeup.wait(None if seconds is None else max(0.0, until - time.monotonic()))
        except BaseException:  # KeyboardInterrupt
            self._withdraw(waiter)
            raise
        return self._outcome(waiter)

    def admit(self, admitted: list[Waiter]) -> None:
        """Admit from the queue while the next one fits, into `admitted`, which is to be notified. Under the lock.

        The memory is read once for all of them.
        """
        queue, room = self.queue, self.room
        first = queue.first()
        if first is None or self._closing is not None:
            return
        now, version = self._clock(), room.price_version()
        free, most = room.free(self.reserved, first.size(version)), room.most()
        while (waiter := queue.next(free, most, now, version)) is not None:
            if self.holder is not None and waiter.is_abandoned():
                self._take_out(waiter)
                waiter.error = self.holder.abandoned()
                admitted.append(waiter)  # only to be woken
                continue
            free -= waiter.nbytes - waiter.held_bytes
            self._grant(waiter, admitted)
        if self.in_flight:
            return
        # Nothing runs, so nothing will ever be given back: the first that may run alone goes through.
        for waiter in queue:
            if room.may_run_alone(waiter.size(version), declared=waiter.declared):
                self.probes += 1
                self._grant(waiter, admitted)
                return

    def notify(self, waiters: Iterable[Waiter]) -> None:
        """Wake those that were admitted; outside the lock, for a wakeup may cross into another loop.

        One whose loop is gone will never run: what it was promised comes back.
        """
        for waiter in waiters:
            if waiter.wakeup is not None and not waiter.wakeup.notify():
                self._withdraw(waiter)

    def _grant(self, waiter: Waiter, admitted: list[Waiter]) -> None:
        self._take_out(waiter)
        admitted.append(waiter)
        if self.holder is not None:
            try:
                self.holder.granted(waiter)
            except BaseException as error:  # noqa: BLE001 - it is the waiter's, whoever's thread this is
                waiter.error = error
                return
        self.promise(waiter.nbytes)
        waiter.admitted = True

    def _take_out(self, waiter: Waiter) -> None:
        self.queue.remove(waiter)
        waiter.queued = False
        self.is_quiet = self._closing is None and not self.queue
        self.reserved -= waiter.held_bytes

    def _outcome(self, waiter: Waiter) -> bool:
        with self.lock, self.lock.plain:  # it may be admitted by another thread just now
            afterwards = self._remove(waiter)
            error, admitted = waiter.error, waiter.admitted
            waiter.admitted = False  # handed over: whoever is late with waking it takes nothing back
        if afterwards is not None:
            afterwards()
        if error is not None:
            raise error
        return admitted

    def _withdraw(self, waiter: Waiter) -> None:
        """Leave nothing of a waiter behind, whether it stands in the queue or was admitted meanwhile. Never waits."""
        self.lock.run(self._undo, waiter)

    def _leave(self, nbytes: int) -> Afterwards:
        self.reserved -= nbytes
        self.in_flight -= 1
        return self.admit_afterwards()

    def _undo(self, waiter: Waiter) -> Afterwards:
        if waiter.admitted:
            waiter.admitted = False
            return self._leave(waiter.nbytes if self.holder is None else self.holder.revoked(waiter))
        return self._remove(waiter)

    def _remove(self, waiter: Waiter) -> Afterwards:
        """Take a waiter out of the queue, if it is still there."""
        if not waiter.queued:
            return None
        # Whoever stands first may have been what the others waited for; and one whose waiting cost bytes frees them.
        mattered = waiter.held_bytes > 0 or waiter.nbytes > self.room.most() or self.queue.first() is waiter
        self._take_out(waiter)
        return self.admit_afterwards() if mattered else None

    def admit_afterwards(self) -> Afterwards:
        """Admit those that fit; returns what wakes them once the lock is free. Under the lock."""
        if not self.queue:
            return None
        admitted: list[Waiter] = []
        self.admit(admitted)
        return partial(self.notify, admitted) if admitted else None


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
