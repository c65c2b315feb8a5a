"""Waiters that were stepped over: no release of memory serves them now, and they must block nobody.

Two reasons there are. One is that a waiter asks for more than there is even with nothing in flight (`Oversized`); the
other that work of its kind may not start yet (`Unready`). They leave the lines in which waiters stand, so that finding
the next does not walk over them each time, and come back when the reason has gone. What a look costs does not grow with
how many they are: the oversized lie in a heap by size, the unready in groups of one kind of which only the first is
asked, and both are asked at most so many at a time, in turn.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from asyncmem.admission.waiter import Waiter

__all__ = ["Oversized", "Ranked", "Unready", "place_of"]

_HEAP_SLACK: Final = 64
"""So many entries of waiters that have left may lie in the heap, and as many again as there are waiters."""

place_of = attrgetter("place")


class Ranked:
    """Waiters in the order of their places, whatever the order in which they come."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[Waiter] = []

    def put(self, waiter: Waiter) -> None:
        """Put a waiter in; quick at the end."""
        waiters = self._waiters
        if not waiters or waiters[-1].place < waiter.place:
            waiters.append(waiter)
        else:
            insort(waiters, waiter, key=place_of)

    def take(self, waiter: Waiter) -> None:
        """Take a waiter out."""
        del self._waiters[bisect_left(self._waiters, waiter.place, key=place_of)]

    def first(self) -> Waiter:
        """The one with the least place."""
        return self._waiters[0]

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters)


class Unready:
    """Those whose kind of work may not start yet.

    Args:
        at_most: Kinds that are asked at a time.
    """

    __slots__ = ("_at_most", "_groups")

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._groups: OrderedDict[tuple[Hashable, int], Ranked] = OrderedDict()

    def put(self, waiter: Waiter) -> None:
        """Set a waiter aside."""
        key = _group_of(waiter)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Ranked()
        group.put(waiter)
        waiter.home = self

    def take(self, waiter: Waiter) -> None:
        """Take a waiter out."""
        key = _group_of(waiter)
        group = self._groups[key]
        group.take(waiter)
        if not group:
            del self._groups[key]

    def recall(self, most: int, version: int, oversized: Oversized) -> list[Waiter]:
        """Take out the first of each kind that may start now; those before it that are too large become `oversized`."""
        back: list[Waiter] = []
        groups = self._groups
        for _ in range(min(self._at_most, len(groups))):
            key, group = next(iter(groups.items()))
            groups.move_to_end(key)
            if not group.first().may_start():
                continue
            while group:
                waiter = group.first()
                self.take(waiter)
                waiter.counted = waiter.size(version)
                if waiter.counted <= most:
                    back.append(waiter)
                    break
                oversized.put(waiter)
        return back

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def __bool__(self) -> bool:
        return bool(self._groups)

    def __iter__(self) -> Iterator[Waiter]:
        for group in self._groups.values():
            yield from group


class Oversized:
    """Those that ask for more than there is with nothing in flight.

    Args:
        at_most: Waiters that are priced anew at a time.
    """

    __slots__ = ("_at_most", "_heap", "_to_price", "_version", "_waiters")

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()
        # By size; entries of waiters that have left, or have another size now, stay until they come up.
        self._heap: list[tuple[int, tuple[float, float, int], Waiter]] = []
        self._version = -1
        self._to_price = 0

    def put(self, waiter: Waiter) -> None:
        """Set a waiter aside."""
        self._waiters[waiter] = None
        waiter.home = self
        self._push(waiter)

    def take(self, waiter: Waiter) -> None:
        """Take a waiter out."""
        del self._waiters[waiter]

    def recall(self, most: int, version: int) -> list[Waiter]:
        """Take out all that are known to ask for at most `most` bytes."""
        if version != self._version or version == -1:
            self._version, self._to_price = version, len(self._waiters)
        if self._to_price:
            self._reprice(version)
        back: list[Waiter] = []
        heap = self._heap
        while heap and heap[0][0] <= most:
            nbytes, _, waiter = heappop(heap)
            if waiter.home is self and waiter.counted == nbytes:
                self.take(waiter)
                waiter.home = None  # so that another entry of the same size does not count
                back.append(waiter)
        return back

    def _reprice(self, version: int) -> None:
        turn = min(self._at_most, self._to_price, len(self._waiters))
        for _ in range(turn):
            waiter = next(iter(self._waiters))
            self._waiters.move_to_end(waiter)
            nbytes = waiter.size(version)
            if nbytes != waiter.counted:
                waiter.counted = nbytes
                self._push(waiter)
        self._to_price = self._to_price - turn if turn else 0

    def _push(self, waiter: Waiter) -> None:
        if len(self._heap) > 2 * len(self._waiters) + _HEAP_SLACK:
            self._heap = [(other.counted, other.place, other) for other in self._waiters]
            heapify(self._heap)
        heappush(self._heap, (waiter.counted, waiter.place, waiter))

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters)


def _group_of(waiter: Waiter) -> tuple[Hashable, int]:
    # By priority too, or the first of a group would not be the one with the greatest right.
    return waiter if waiter.kind is None else waiter.kind, waiter.priority
