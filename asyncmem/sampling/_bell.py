"""What the watcher's thread waits at: a time, a ring from another thread, or a word from the kernel.

On Linux one ``poll`` waits for all three, the ring being an ``eventfd``: so kernel events need no thread of their own.
Elsewhere, and where no descriptor is to be had, a `threading.Event` waits for the first two. Does not cover what a ring
means (`watcher`) or what the kernel says (`kernel`).
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

__all__ = ["Bell", "EventBell", "Listener", "PollBell", "hang_bell"]

_MILLISECOND: Final = 1000.0
_NOBODY: Final[Mapping[int, int]] = {}


class Listener(Protocol):
    """Owner of descriptors whose readiness ends a wait."""

    def descriptors(self) -> Mapping[int, int]:
        """The poll mask of each descriptor; the same object for as long as nothing changes.

        The descriptors stay open for as long as the mapping is referred to.
        """
        ...

    def handle(self, ready: Sequence[tuple[int, int]]) -> bool:
        """Take in what is ready, as ``poll`` gives it; returns whether there is something new in it."""
        ...


class Bell(Protocol):
    """Something to wait at. One thread waits, any thread rings."""

    def ring(self) -> None:
        """End the wait, or the next one; never blocks."""
        ...

    def wait(self, seconds: float, listener: Listener | None) -> bool:
        """Wait for a ring, for the listener, or for so many seconds; a ring is used up by it.

        Returns:
            Whether the listener took in something new.
        """
        ...

    def close(self) -> None:
        """Let the descriptors go, those that a fork has handed down."""
        ...


class PollBell:
    """A bell of Linux.

    Raises:
        OSError: No descriptor is left.
    """

    __slots__ = ("_close", "_descriptor", "_masks", "_poll")

    def __init__(self) -> None:
        self._close = os.close  # kept here: module globals may be gone when the interpreter ends
        self._descriptor: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._masks = _NOBODY
        self._poll = self._made(self._masks)

    def ring(self) -> None:
        """End the wait, or the next one."""
        descriptor = self._descriptor
        if descriptor is not None:
            # BlockingIOError: it was rung 2**64 - 2 times and not heard, so it rings.
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(descriptor, 1)

    def wait(self, seconds: float, listener: Listener | None) -> bool:
        """Wait; see `Bell`. The kernel rounds up to whole milliseconds."""
        masks = _NOBODY if listener is None else listener.descriptors()
        if masks is not self._masks:
            self._masks, self._poll = masks, self._made(masks)
        ready = self._poll.poll(seconds * _MILLISECOND)
        if any(number == self._descriptor for number, _ in ready):
            ready = [entry for entry in ready if entry[0] != self._descriptor]
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._descriptor)  # type: ignore[arg-type]
        return bool(ready) and listener is not None and listener.handle(ready)

    def close(self) -> None:
        """Let the descriptor go."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        # Closed here and not when the thread ends: somebody may be about to ring, and would ring at a stranger's.
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            self._close(descriptor)

    def _made(self, masks: Mapping[int, int]) -> select.poll:
        poll = select.poll()
        assert self._descriptor is not None
        poll.register(self._descriptor, select.POLLIN)
        for number, mask in masks.items():
            poll.register(number, mask)
        return poll


class EventBell:
    """A bell that hears rings only."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        """End the wait, or the next one."""
        self._event.set()

    def wait(self, seconds: float, listener: Listener | None) -> bool:  # noqa: ARG002 - nobody can be heard here
        """Wait for a ring or for so many seconds; returns False."""
        if self._event.wait(seconds):
            self._event.clear()
        return False

    def close(self) -> None:
        """Nothing to let go."""


def hang_bell() -> Bell:
    """The best bell to be had here."""
    if hasattr(os, "eventfd") and hasattr(select, "poll"):
        with contextlib.suppress(OSError):
            return PollBell()
    return EventBell()
