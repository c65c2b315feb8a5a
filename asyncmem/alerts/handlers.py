"""The handlers of one manager: who is registered, and the task group that serves them.

One task per queued handler (`asyncmem.alerts.delivery`) runs inside `serve`; a handler that comes later gets its task
at once, one that is removed loses it after the call under way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from asyncmem._wakeup import LoopWakeup
from asyncmem.alerts.delivery import AlertHandler, Handler
from asyncmem.events import AlertLevel, MemoryAlert

__all__ = ["Handlers", "Subscription"]


class Subscription:
    """One registration of a handler; leaving its ``with`` block ends it, as `remove` does."""

    __slots__ = ("_remove",)

    def __init__(self, remove: Callable[[], bool]) -> None:
        self._remove = remove

    def remove(self) -> bool:
        """End this registration; returns whether there was one still. May be called by the handler itself."""
        return self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


class Handlers:
    """The registered handlers, and their tasks while `serve` runs."""

    __slots__ = ("_changed", "_drainers", "_handlers", "_lock", "_served", "_serving")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._handlers: list[Handler] = []
        self._served: set[Handler] = set()
        self._serving = False
        self._changed: LoopWakeup | None = None
        self._drainers: list[LoopWakeup] = []

    def add(self, handler: Handler) -> Subscription:
        """Register a handler."""
        with self._lock:
            self._handlers.append(handler)
            changed = self._changed
        if changed is not None:
            changed.notify()
        return Subscription(lambda: self._remove(lambda each: each is handler))

    def remove(self, function: AlertHandler) -> bool:
        """End all registrations of a function; returns whether there was one."""
        # Equal and not the same: each access of a method makes a new object of it.
        return self._remove(lambda each: each.function == function)

    def put(self, alert: MemoryAlert, levels: frozenset[AlertLevel]) -> list[Callable[[], object]]:
        """Give an alert to those who want one of `levels`, and whom it is not about.

        The caller holds the lock, and calls what is returned after giving it back.
        """
        wanting = [each for each in self._handlers if each.levels & levels and each.condition != alert.rule]
        # Those with a mailbox first: they are only woken, and shall not wait for what an immediate one writes.
        wanting.sort(key=lambda each: each.mailbox is None)
        return [step for handler in wanting for step in handler.put(alert)]

    def count(self) -> int:
        """How many are registered; the caller holds the lock."""
        return len(self._handlers)

    def queued(self) -> int:
        """How many alerts wait for their handlers; the caller holds the lock."""
        return sum(len(handler.mailbox) for handler in self._handlers if handler.mailbox is not None)

    async def serve(self, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Run the handlers' tasks until cancelled.

        Raises:
            RuntimeError: They are being served already.
        """
        with self._lock:
            if self._serving:
                raise RuntimeError("these alert handlers are served already; run() may run once at a time")
            self._serving = True
        try:
            async with anyio.create_task_group() as tasks:
                task_status.started()
                while True:
                    changed = LoopWakeup()
                    for handler in self._take_unserved(changed):
                        tasks.start_soon(handler.serve, self._wake_drainers)
                    await changed.wait()
        finally:
            with self._lock:
                self._serving = False
                self._changed = None
                self._served.clear()
            self._wake_drainers()

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 - the manager documents it
        """Wait until nothing is left to call, at most `timeout` seconds; returns whether that was reached."""
        with anyio.move_on_after(timeout):
            await checkpoint()
            while True:
                wakeup = LoopWakeup()
                with self._lock:
                    if self._idle() or not self._serving:
                        break
                    self._drainers.append(wakeup)
                try:
                    await wakeup.wait()
                finally:
                    with self._lock:
                        self._drainers.remove(wakeup)
        with self._lock:
            return self._idle()

    def _remove(self, wanted: Callable[[Handler], bool]) -> bool:
        with self._lock:
            gone = [handler for handler in self._handlers if wanted(handler)]
            self._handlers = [handler for handler in self._handlers if handler not in gone]
            self._served.difference_update(gone)
        for handler in gone:
            handler.close()
        self._wake_drainers()
        return bool(gone)

    def _take_unserved(self, changed: LoopWakeup) -> list[Handler]:
        with self._lock:
            # In one step with the reading: who is added after it finds the signal.
            self._changed = changed
            unserved = [each for each in self._handlers if each.mailbox is not None and each not in self._served]
            self._served.update(unserved)
        return unserved

    def _idle(self) -> bool:
        return all(handler.idle for handler in self._handlers)

    def _wake_drainers(self) -> None:
        with self._lock:
            drainers = list(self._drainers) if self._drainers and (self._idle() or not self._serving) else []
        for drainer in drainers:
            drainer.notify()
