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
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeAlias

import structlog

__all__ = ["Afterwards", "DeferringLock"]

Afterwards: TypeAlias = Callable[[], None] | None
"""What a section leaves to be done once the lock is free."""
P = ParamSpec("P")

_log = structlog.get_logger("asyncmem")


class DeferringLock:
    """A lock with a way in that never waits: ``with lock, lock.plain:`` waits for it, `run` does not. Not reentrant.

    The plain lock stands in the ``with`` itself, because an exception out of a signal handler can then not come between
    taking it and knowing so. What was deferred meanwhile runs when it is free again.
    """

    __slots__ = ("pending", "plain")

    def __init__(self) -> None:
        self.plain = threading.Lock()
        """The lock itself; whoever takes it alone calls `catch_up` afterwards where there is something in `pending`."""
        self.pending: deque[partial[Afterwards]] = deque()
        """Sections that wait for whoever holds the lock."""

    def __enter__(self) -> None:
        """Nothing yet: the plain lock is taken next."""

    def __exit__(self, *_raised: object) -> None:
        if self.pending:
            self.catch_up()

    def run(self, section: Callable[P, Afterwards], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run `section` under the lock, and what it returns after the lock; now, or when the holder lets go."""
        if not self.plain.acquire(blocking=False):
            self.pending.append(partial(section, *args, **kwargs))
            self._run_pending()
            return
        try:
            afterwards = section(*args, **kwargs)
        finally:
            self.plain.release()
            if self.pending:
                self.catch_up()
        if afterwards is not None:
            afterwards()

    def catch_up(self) -> None:
        """Run what was deferred; what fails of it is logged, for it is somebody else's."""
        try:
            self._run_pending()
        except Exception as error:  # noqa: BLE001 - ours is done and did not fail
            text = "".join(traceback.format_exception(error))  # not exc_info, which may be rendered at length
            _log.error("deferred_section_failed", exception=text)

    def _run_pending(self) -> None:
        # Whoever holds the lock looks here again after letting go, so a failed try leaves nothing behind.
        while self.pending and self.plain.acquire(blocking=False):
            try:
                try:
                    section = self.pending.popleft()
                except IndexError:
                    continue
                afterwards = section()
            finally:
                self.plain.release()
            if afterwards is not None:
                afterwards()
