"""A lock for sections of microseconds that no thread can lock itself out with.

Whatever allocates can start the garbage collector, and the collector can close a coroutine that passes the breaker; a
signal handler can come in anywhere. Their work then runs on top of the section that this very thread is in, where
waiting for the lock would be waiting for oneself. So what need not be answered is posted: it runs at once where the
lock is free, and else when its holder is done. What must be answered asks first whether this thread is inside.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Section"]

R = TypeVar("R")


class Section:
    """What several threads do one after the other."""

    __slots__ = ("_late", "_lock")

    def __init__(self) -> None:
        # Reentrant only because such a lock knows its owner from the instant on in which it is taken: a signal handler
        # that comes right then finds out. Nobody enters twice.
        self._lock = threading.RLock()
        self._late: deque[Callable[[], object]] = deque()

    @property
    def is_mine(self) -> bool:
        """Whether this thread is inside, so that nothing may be called there from here."""
        is_owned: bool = self._lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001 - as `threading.Condition` does
        return is_owned

    def call(self, step: Callable[[], R]) -> R:
        """Run `step` inside, after what was posted before; waits for other threads. Not for whom `is_mine` is true."""
        try:
            with self._lock:
                self._run_late()
                return step()
        finally:
            self._catch_up()

    def post(self, step: Callable[[], object]) -> None:
        """Run `step` inside, now or when whoever is there is done. Never waits."""
        self._late.append(step)
        self._catch_up()

    def _catch_up(self) -> None:
        # Whoever is inside comes here on the way out, so a failed try leaves nothing behind.
        while self._late and not self.is_mine and self._lock.acquire(blocking=False):
            try:
                self._run_late()
            finally:
                self._lock.release()

    def _run_late(self) -> None:
        while self._late:
            self._late.popleft()()
