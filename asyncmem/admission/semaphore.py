"""A semaphore that counts bytes: weighted, first come first served, resizable while others wait.

For a fixed share of memory that one kind of work may use. `AdmissionController` is the one whose size follows the
memory that is really free. anyio's `CapacityLimiter` counts borrowers and cannot weigh them.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import msgspec

from asyncmem._wakeup import LoopWakeup, ThreadWakeup
from asyncmem.admission.gate import Gate, refuse_to_block
from asyncmem.admission.queue import FairQueue
from asyncmem.admission.waiter import Priority, Waiter
from asyncmem.errors import ConfigError, MemoryLimitExceeded
from asyncmem.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["MemorySemaphore", "SemaphoreStatistics"]


class SemaphoreStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a `MemorySemaphore` holds at one moment."""

    capacity: int
    """Bytes there are."""
    reserved: int
    """Bytes taken; more than `capacity` for a while after it was made smaller."""
    waiting: int
    """Waiters in the queue."""


class MemorySemaphore:
    """Hands out bytes up to a capacity, in order of arrival, across tasks, threads and event loops.

    A waiter that fits, or will, is never overtaken by a smaller one behind it, and whoever has waited for some seconds
    counts as of the next higher priority: nobody starves. When the capacity is lowered nothing is taken
    away: nobody is admitted until enough has been released. A waiter larger than a lowered capacity keeps its place,
    and those behind it go on. An uncontended acquire does not yield to the event loop.

    Args:
        capacity: Bytes, or text such as ``"500MiB"``.

    Raises:
        ConfigError: `capacity` is no number of bytes.
    """

    __slots__ = ("_gate", "_room")

    def __init__(self, capacity: int | str) -> None:
        self._room = _FixedRoom(parse_bytes(capacity))
        self._gate = Gate(self._room, FairQueue(passing_seconds=0))

    @property
    def capacity(self) -> int:
        """Bytes there are; writable at any time, and waiters that fit then go on."""
        return self._room.capacity

    @capacity.setter
    def capacity(self, value: int | str) -> None:
        self._room.capacity = parse_bytes(value)
        self._gate.admit_waiting()

    def acquire_nowait(self, nbytes: int | str) -> None:
        """Take bytes now.

        Args:
            nbytes: Bytes, or text such as ``"20MiB"``.

        Raises:
            anyio.WouldBlock: They are not free, or others wait for theirs.
            MemoryLimitExceeded: They are more than the capacity.
            ConfigError: `nbytes` is no number of bytes.
        """
        if not self._try(self._checked(nbytes)):
            raise anyio.WouldBlock

    async def acquire(self, nbytes: int | str, *, priority: Priority = Priority.NORMAL) -> None:
        """Take bytes, and wait for them in the event loop; cancelled while waiting, nothing is taken.

        Args:
            nbytes: Bytes, or text such as ``"20MiB"``.
            priority: The higher is served first.

        Raises:
            MemoryLimitExceeded: They are more than the capacity.
            ConfigError: `nbytes` is no number of bytes.
        """
        waiter = Waiter(self._checked(nbytes), priority)
        self._gate.enter_or_queue(waiter, LoopWakeup, None)
        if not self._gate.take(waiter):
            await self._gate.wait(waiter, None)

    def acquire_sync(self, nbytes: int | str, *, priority: Priority = Priority.NORMAL) -> None:
        """Take bytes, and block this thread until they are free; as `acquire`.

        Raises:
            RuntimeError: It would have to wait on the thread of an event loop.
        """
        amount = self._checked(nbytes)
        if self._try(amount):
            return
        refuse_to_block()
        waiter = Waiter(amount, priority)
        self._gate.enter_or_queue(waiter, ThreadWakeup, None)
        if not self._gate.take(waiter):
            self._gate.wait_sync(waiter, None)

    def release(self, nbytes: int | str) -> None:
        """Give back bytes that one acquire took.

        Args:
            nbytes: What was acquired.

        Raises:
            RuntimeError: More would be given back than is taken.
        """
        amount = parse_bytes(nbytes)
        if not 0 < amount <= self._gate.reserved:
            raise RuntimeError(
                f"released {format_bytes(amount)} of a semaphore of which {format_bytes(self._gate.reserved)} are "
                "acquired; release each acquire once, with its own number of bytes"
            )
        self._gate.leave(amount)

    @asynccontextmanager
    async def hold(self, nbytes: int | str, *, priority: Priority = Priority.NORMAL) -> AsyncIterator[None]:
        """Hold bytes for the length of an ``async with`` block; arguments and errors as of `acquire`."""
        await self.acquire(nbytes, priority=priority)
        try:
            yield
        finally:
            self.release(nbytes)

    def statistics(self) -> SemaphoreStatistics:
        """What is held and awaited now."""
        gate = self._gate
        with gate.lock, gate.lock.plain:
            return SemaphoreStatistics(
                capacity=self._room.capacity,
                reserved=gate.reserved,
                waiting=len(gate.queue),
            )

    def _try(self, amount: int) -> bool:
        with self._gate.lock, self._gate.lock.plain:
            return self._gate.charge(amount, declared=True)

    def _checked(self, nbytes: int | str) -> int:
        amount = parse_bytes(nbytes)
        capacity = self._room.capacity
        if amount > capacity:
            raise MemoryLimitExceeded(
                f"{format_bytes(amount)} were asked of a semaphore of {format_bytes(capacity)}; "
                "split the work, or raise the capacity first",
                requested=amount,
                available=capacity,
            )
        if amount == 0:
            raise ConfigError("0 bytes were asked of a semaphore; expected at least 1")
        return amount


class _FixedRoom:
    """Room of a fixed size."""

    __slots__ = ("capacity",)

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity

    def free(self, reserved: int, wanted: int) -> int:  # noqa: ARG002 - there is nothing to read for it
        return self.capacity - reserved

    def most(self) -> int:
        return self.capacity

    def may_run_alone(self, nbytes: int, *, declared: bool) -> bool:  # noqa: ARG002 - never more than the capacity
        return False

    def price_version(self) -> int:
        return 0
