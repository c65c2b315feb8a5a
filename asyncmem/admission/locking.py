"""A plain lock for sections of microseconds, with a way in that never waits.

Whatever allocates can start the garbage collector, and the collector can close a coroutine that holds a permit or waits
for one. Its clean-up then runs on top of whatever this thread was doing, inside the locked section too: waiting for the
lock there would be waiting for oneself. So what gives back is handed to `DeferringLock.run`: it runs at once where the
lock is free, and else as soon as its holder lets go, on the holder's thread.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DeferringLock"]

_log = structlog.get_logger("asyncmem")


class DeferringLock:
    """A lock for ``with``; not reentrant, but `run` may be called from anywhere."""

    __slots__ = ("_lock", "_pending")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: deque[Callable[[], Callable[[], None]]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_raised: object) -> None:
        self._lock.release()
        if self._pending:
            try:
                self._run_pending()
            except Exception as error:  # noqa: BLE001 - somebody else's section; ours is done and did not fail
                text = "".join(traceback.format_exception(error))  # not exc_info, which may be rendered at length
                _log.error("deferred_section_failed", exception=text)

    def run(self, section: Callable[[], Callable[[], None]]) -> None:
        """Run `section` under the lock, and what it returns after the lock; now, or when the holder lets go."""
        self._pending.append(section)
        self._run_pending()

    def _run_pending(self) -> None:
        # Whoever holds the lock looks here again after letting go, so a failed try leaves nothing behind.
        while self._pending and self._lock.acquire(blocking=False):
            try:
                try:
                    section = self._pending.popleft()
                except IndexError:
                    continue
                afterwards = section()
            finally:
                self._lock.release()
            afterwards()
