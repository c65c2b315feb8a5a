"""Alerts as async iterators: each consumer has a bounded buffer of its own.

A stream is registered when it is made, so nothing is missed between making it and the first step of the loop. The
registry holds it by weak reference only: a stream that nobody iterates any more goes away by itself, at once where
nothing else refers to it, and its buffer is bounded until then. Handlers, which are called instead, are in
`asyncmem.alerts.delivery`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Self

from asyncmem.alerts.mailbox import Mailbox
from asyncmem.alerts.tally import StreamStatistics, Tally
from asyncmem.events import MemoryAlert

__all__ = ["AlertStream", "Streams"]


class AlertStream:
    """The alerts since it was made, oldest first; `AlertManager.stream` makes it.

    Iterate it directly, or use it as a context manager (``with`` or ``async with``) to close it at a known point. When
    alerts come faster than they are taken, the oldest are dropped and counted. Several tasks may iterate one stream;
    each alert then goes to one of them. Alerts that come from another thread wake the iterating task at once.
    """

    __slots__ = ("__weakref__", "_lock", "_mailbox", "_tally")

    def __init__(self, mailbox: Mailbox, *, lock: threading.Lock, tally: Tally) -> None:
        self._mailbox = mailbox
        self._lock = lock
        self._tally = tally

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MemoryAlert:
        alert = await self._mailbox.receive()
        if alert is None:
            raise StopAsyncIteration
        with self._lock:
            self._tally.delivered += 1
        return alert

    def close(self) -> None:
        """Take no more alerts; iteration ends after those that are buffered. May be called from any thread."""
        self._mailbox.close(discard=False)

    def statistics(self) -> StreamStatistics:
        """What became of this stream's alerts."""
        with self._lock:
            box = self._mailbox
            return StreamStatistics(
                buffered=len(box), max_buffer=box.capacity, delivered=box.taken, dropped=box.dropped
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Streams:
    """The open streams of one manager."""

    __slots__ = ("_lock", "_refs", "_tally")

    def __init__(self, lock: threading.Lock, tally: Tally) -> None:
        self._lock = lock
        self._tally = tally
        # Plain references without callbacks: those run wherever the collector does, also while the lock is held.
        self._refs: list[weakref.ref[AlertStream]] = []

    def open(self, max_buffer: int) -> AlertStream:
        """Make a stream and register it.

        Raises:
            ConfigError: `max_buffer` is no whole number from 1.
        """
        stream = AlertStream(
            Mailbox(max_buffer, lock=self._lock, tally=self._tally), lock=self._lock, tally=self._tally
        )
        with self._lock:
            self._refs.append(weakref.ref(stream))
        return stream

    def put(self, alert: MemoryAlert) -> list[Callable[[], object]]:
        """Give an alert to all; the caller holds the lock and calls what is returned after giving it back."""
        return [notify for stream in self._live() for notify in stream._mailbox.put(alert)]  # noqa: SLF001

    def count(self) -> int:
        """How many are open; the caller holds the lock."""
        return len(self._live())

    def close(self) -> None:
        """Close all that are open."""
        with self._lock:
            streams = self._live()
        for stream in streams:
            stream.close()

    def _live(self) -> list[AlertStream]:
        live = [stream for ref in self._refs if (stream := ref()) is not None and not stream._mailbox.closed]  # noqa: SLF001
        if len(live) != len(self._refs):
            self._refs = [weakref.ref(stream) for stream in live]
        return live
