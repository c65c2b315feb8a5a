"""A bounded buffer of alerts between any thread that raises them and the one receiver that takes them.

Neither `queue.Queue` nor anyio's memory streams fit: the sender may be the sampling thread and must never wait, the
receiver is a task of asyncio or trio, and when the buffer is full the *oldest* alert goes, because the newest says how
things are now.

All mailboxes of a manager share its one lock, so that an alert enters all of them in one step and in one order.
Handlers (`delivery`) and streams (`streams`) are the two kinds of receivers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from anyio.lowlevel import checkpoint

from asyncmem._wakeup import LoopWakeup
from asyncmem.alerts.tally import Tally
from asyncmem.errors import ConfigError
from asyncmem.events import MemoryAlert

__all__ = ["Mailbox"]


class Mailbox:
    """Alerts on their way to one receiver.

    Args:
        capacity: How many may wait; from 1.
        lock: The manager's.
        tally: Where drops are counted too, so that they stay known when the receiver is gone.

    Raises:
        ConfigError: The capacity is no whole number from 1.
    """

    __slots__ = ("_closed", "_items", "_lock", "_tally", "_waiters", "capacity", "dropped", "taken")

    def __init__(self, capacity: int, *, lock: threading.Lock, tally: Tally) -> None:
        if type(capacity) is not int or capacity < 1:
            raise ConfigError(f"an alert buffer of {capacity!r} is no buffer; expected a whole number from 1")
        self._items: deque[MemoryAlert] = deque()
        self._lock = lock
        self._tally = tally
        self._waiters: list[LoopWakeup] = []
        self._closed = False
        self.capacity = capacity
        self.dropped = 0
        self.taken = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._items)

    @property
    def closed(self) -> bool:
        """Whether it takes no more alerts."""
        return self._closed

    def put(self, alert: MemoryAlert) -> list[Callable[[], object]]:
        """Add an alert, pushing out the oldest where it is full. The caller holds the lock.

        Returns:
            What to call once the lock is given back: it wakes who waits.
        """
        if self._closed:
            return []
        if len(self._items) == self.capacity:
            self._items.popleft()
            self.dropped += 1
            self._tally.dropped += 1
        self._items.append(alert)
        return [waiter.notify for waiter in self._waiters]

    async def receive(self) -> MemoryAlert | None:
        """Take the oldest alert, waiting for one where there is none.

        Cancelling loses nothing: an alert leaves the buffer only in the step that returns it.

        Returns:
            The alert; None when the mailbox is closed and empty.
        """
        # Even a full mailbox lets the loop run between two alerts, and is a point to be cancelled at.
        await checkpoint()
        while True:
            with self._lock:
                if self._items:
                    self.taken += 1
                    return self._items.popleft()
                if self._closed:
                    return None
                wakeup = LoopWakeup()
                self._waiters.append(wakeup)
            try:
                await wakeup.wait()
            finally:
                with self._lock:
                    self._waiters.remove(wakeup)

    def close(self, *, discard: bool) -> None:
        """Take no more alerts, and end waiting; again without effect.

        Args:
            discard: Also drop (and count) what waits; else the receiver can still take it.
        """
        with self._lock:
            self._closed = True
            if discard:
                self.dropped += len(self._items)
                self._tally.dropped += len(self._items)
                self._items.clear()
            waiters = list(self._waiters)
        for waiter in waiters:
            waiter.notify()
