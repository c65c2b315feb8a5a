"""One call of a sync handler in a worker thread.

A thread cannot be stopped. So a call that is late can only be given up while it has not begun; once it has, whoever
waits for it needs to know when it ends, also after the waiting itself was cancelled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from asyncmem._wakeup import LoopWakeup
from asyncmem.events import MemoryAlert

__all__ = ["ThreadCall"]


class ThreadCall:
    """A call that a worker thread makes; made on the loop that waits for it.

    Args:
        function: What is called.
        alert: What it is called with.
    """

    __slots__ = ("_alert", "_begun", "_function", "_given_up", "_lock", "ended", "result")

    def __init__(self, function: Callable[[MemoryAlert], object], alert: MemoryAlert) -> None:
        self._function = function
        self._alert = alert
        self._lock = threading.Lock()
        self._begun = False
        self._given_up = False
        self.ended = LoopWakeup()
        """Given when a call that had begun has ended."""
        self.result: object = None
        """What it returned. Not returned to who started the thread: trio refuses to hand over a coroutine."""

    def __call__(self) -> None:
        """Make the call; this is what runs in the thread."""
        with self._lock:
            if self._given_up:
                return
            self._begun = True
        try:
            self.result = self._function(self._alert)
        finally:
            self.ended.notify()

    def give_up(self) -> bool:
        """Keep the call from beginning; returns whether that was in time."""
        with self._lock:
            self._given_up = True
            return not self._begun
