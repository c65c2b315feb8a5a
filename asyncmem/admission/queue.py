"""Who is next: the order in which waiters are admitted.

`WaitQueue` is the place to put another policy; `FairQueue` serves the higher priority first, and within one priority in
order of arrival. A large waiter at the head is never overtaken by a smaller one behind it: small ones could keep coming
for ever, and the large one would starve (the reasoning of golang.org/x/sync/semaphore). A waiter that asks for more
than there is even when nothing is in use is passed over: no release can ever serve it, and it must not block the rest.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

from asyncmem.admission.waiter import Priority

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncmem.admission.waiter import Waiter

__all__ = ["FairQueue", "WaitQueue"]


class WaitQueue(Protocol):
    """An ordering of waiters. All calls are made under the gate's lock."""

    def add(self, waiter: Waiter) -> None:
        """Put a waiter in."""
        ...

    def remove(self, waiter: Waiter) -> None:
        """Take a waiter out, wherever it stands; constant time, for thousands may be cancelled at once."""
        ...

    def next(self, headroom: int, most: int) -> Waiter | None:
        """The waiter to admit now, still in the queue, or None.

        Args:
            headroom: Bytes that may be promised now.
            most: Bytes that could be promised if nothing were in flight.
        """
        ...

    def first(self) -> Waiter | None:
        """The waiter that stands first, whether or not it fits."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Waiter]: ...


class FairQueue:
    """First come, first served within a priority; the higher priority first."""

    __slots__ = ("_lines", "_size")

    def __init__(self) -> None:
        self._lines: list[OrderedDict[Waiter, None]] = [OrderedDict() for _ in Priority]
        self._size = 0

    def add(self, waiter: Waiter) -> None:
        """Put a waiter behind those of its priority."""
        self._lines[waiter.priority][waiter] = None
        self._size += 1

    def remove(self, waiter: Waiter) -> None:
        """Take a waiter out."""
        del self._lines[waiter.priority][waiter]
        self._size -= 1

    def next(self, headroom: int, most: int) -> Waiter | None:
        """The first that can ever fit, if it fits now."""
        for waiter in self:
            nbytes = waiter.size()
            if nbytes <= most:
                return waiter if nbytes <= headroom else None
        return None

    def first(self) -> Waiter | None:
        """The oldest of the highest priority."""
        return next(iter(self), None)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Waiter]:
        for line in reversed(self._lines):
            yield from line
