"""Who is next: the order in which waiters are admitted.

`WaitQueue` is the place to put another policy. `FairQueue` serves the higher priority first, and within one priority in
order of arrival; who has waited for some seconds counts as one priority higher, so that nothing starves. As everybody
ages alike, the order of two waiters never changes, and the first of each line is all that has to be compared.

The first that can be served at all is the head, and gets its turn as soon as it fits. Until then smaller ones may go
by, for memory that lies idle serves nobody; but small ones could keep coming for ever, and a large head would starve
(the reasoning of golang.org/x/sync/semaphore, which lets nobody pass). So passing is bounded twice: in number, and by a
shadow reservation that grows from nothing to the whole of what the head needs within some seconds, after which nobody
passes and all that comes back is the head's. (Batch schedulers call it backfilling; they know when jobs will end, and
here nobody does.) The head keeps its count and its shadow if another one comes to stand before it for a while.

A waiter that asks for more than there is even when nothing is in use is stepped over, for no release can serve it; so
is one whose kind of work may not start yet (`aside`).
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, Protocol

from asyncmem.admission.aside import Oversized, Ranked, Unready, place_of
from asyncmem.admission.waiter import Priority
from asyncmem.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from asyncmem.admission.waiter import Waiter

__all__ = ["FairQueue", "WaitQueue"]

_ASKED_AT_ONCE: Final = 32
"""Of those set aside, how many are asked at one time whether they can be served again."""


class WaitQueue(Protocol):
    """An ordering of waiters. All calls are made under the gate's lock."""

    def add(self, waiter: Waiter) -> None:
        """Put a waiter in, as of its `since`."""
        ...

    def remove(self, waiter: Waiter) -> None:
        """Take a waiter out, wherever it stands; constant time, for thousands may be cancelled at once."""
        ...

    def next(self, headroom: int, most: int, now: float, version: int) -> Waiter | None:
        """The waiter to admit now, still in the queue, or None. Whoever is returned counts as admitted.

        Args:
            headroom: Bytes that may be promised now, while those that wait hold their `held_bytes`.
            most: Bytes that could be promised if nothing were in flight.
            now: Monotonic seconds.
            version: Which prices are in force; waiters are priced anew when it is another one.
        """
        ...

    def first(self) -> Waiter | None:
        """The waiter that stands first, whether or not it fits; None only where nobody waits."""
        ...

    @property
    def held_bytes(self) -> int:
        """Bytes that those in the queue take by waiting."""
        ...

    @property
    def wanted(self) -> int:
        """Bytes that those ask for who wait for bytes and for nothing else, as they were last priced."""
        ...

    def ahead_of(self, priority: Priority) -> int:
        """Of these, the bytes that one who joins now with such a priority would stand behind."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Waiter]:
        """All that wait, in the order in which they would be served if each fitted."""
        ...


class FairQueue:
    """First come, first served within a priority; the higher priority first; bounded passing.

    Args:
        ageing: Seconds of waiting that count as much as one priority.
        passing_seconds: Seconds after which nobody passes a head that does not fit; 0 for strict order.
        max_passes: How many may pass one head.
        look_ahead: How many behind a head are looked at for one that may pass it.

    Raises:
        ConfigError: A number that cannot be.
    """

    __slots__ = (
        "_ageing",
        "_arrivals",
        "_back",
        "_held_bytes",
        "_least",
        "_least_version",
        "_lines",
        "_look_ahead",
        "_max_passes",
        "_oversized",
        "_passing_seconds",
        "_size",
        "_unready",
        "_wanted",
    )

    def __init__(
        self, ageing: float = 5.0, passing_seconds: float = 2.0, max_passes: int = 256, look_ahead: int = 32
    ) -> None:
        if not 0 < ageing < math.inf:
            raise ConfigError(f"ageing: got {ageing!r}; expected seconds, more than 0 and finite")
        for name, value in (
            ("passing_seconds", passing_seconds),
            ("max_passes", max_passes),
            ("look_ahead", look_ahead),
        ):
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name}: got {value!r}; expected a number from 0, and finite")
        self._ageing = ageing
        self._passing_seconds = passing_seconds
        self._max_passes = max_passes
        self._look_ahead = look_ahead
        self._lines = [_Line() for _ in Priority]
        self._back = Ranked()
        """Those that were set aside and came back."""
        self._oversized = Oversized(_ASKED_AT_ONCE)
        self._unready = Unready(_ASKED_AT_ONCE)
        self._arrivals = 0
        self._size = 0
        self._held_bytes = 0
        self._wanted = [0 for _ in Priority]
        # None of those looked at last, the head among them, needs less than this under that version of prices, and
        # nobody else has come to stand among them; so with less to give there is no need to look again.
        self._least: int | None = None
        self._least_version = -1

    def add(self, waiter: Waiter) -> None:
        """Put a waiter behind those of its priority."""
        self._arrivals += 1
        waiter.place = (waiter.since - waiter.priority * self._ageing, waiter.since, self._arrivals)
        waiter.passed, waiter.blocked_since = 0, None
        waiter.counted = waiter.nbytes
        self._size += 1
        self._held_bytes += waiter.held_bytes
        if not waiter.may_start():
            self._unready.put(waiter)
            return
        line = self._lines[waiter.priority]
        if self._least is not None and len(line) <= self._look_ahead:
            self._least = min(self._least, waiter.nbytes - waiter.held_bytes)
        line.put(waiter)
        self._wanted[waiter.priority] += waiter.nbytes

    def remove(self, waiter: Waiter) -> None:
        """Take a waiter out."""
        home = waiter.home
        assert home is not None, "it is not in the queue"
        home.take(waiter)
        waiter.home = None
        self._size -= 1
        self._held_bytes -= waiter.held_bytes
        if home is not self._unready and home is not self._oversized:
            self._wanted[waiter.priority] -= waiter.counted
            self._least = None

    def next(self, headroom: int, most: int, now: float, version: int) -> Waiter | None:
        """The head, if it fits; else one behind it that may pass."""
        head = self._head(most, version)
        if head is None:
            return None
        need = head.nbytes - head.held_bytes
        if need <= headroom:
            return head
        if head.blocked_since is None:
            head.blocked_since = now
        blocked = now - head.blocked_since
        if blocked >= self._passing_seconds or head.passed >= self._max_passes:
            return None
        left_over = headroom - int(need * max(0.0, blocked) / self._passing_seconds)
        if self._least is not None and left_over < self._least and version == self._least_version != -1:
            return None
        passer = self._passer(left_over, most, version, need)
        if passer is not None:
            head.passed += 1
        return passer

    def first(self) -> Waiter | None:
        """The one with the greatest right among those that are not set aside; where all are, any of them."""
        return self._front() or next(chain(self._unready, self._oversized), None)

    @property
    def held_bytes(self) -> int:
        """Bytes that those in the queue take by waiting."""
        return self._held_bytes

    @property
    def wanted(self) -> int:
        """Bytes that those ask for who are not set aside, as they were last priced."""
        return sum(self._wanted)

    def ahead_of(self, priority: Priority) -> int:
        """Of these, the bytes asked for with such a priority or a higher one; of the lower that have aged, none."""
        return sum(self._wanted[priority:])

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Waiter]:
        if not self._unready and not self._oversized:
            return iter(self._standing())
        aside = sorted(chain(self._unready, self._oversized), key=place_of)
        return heapq.merge(self._standing(), aside, key=place_of)

    def _head(self, most: int, version: int) -> Waiter | None:
        """The first that can be served at all; those before it are set aside."""
        if self._unready or self._oversized:
            self._recall(most, version)
        while (waiter := self._front()) is not None and self._sets_aside(waiter, most, version):
            pass
        return waiter

    def _passer(self, left_over: int, most: int, version: int, least: int) -> Waiter | None:
        """The first behind the head that may start and needs at most `left_over` bytes."""
        seen = list(islice(self._standing(), 1, 1 + self._look_ahead))
        self._least, self._least_version = None, version
        window_slides = False
        for waiter in seen:
            if self._sets_aside(waiter, most, version):
                window_slides = True
                continue
            need = waiter.nbytes - waiter.held_bytes
            if need <= left_over:
                return waiter
            least = min(least, need)
        if not window_slides:
            self._least = least
        return None

    def _sets_aside(self, waiter: Waiter, most: int, version: int) -> bool:
        """Whether a waiter cannot be served now, whatever is given back; it then stands no longer where it stood."""
        if not waiter.may_start():
            aside: Unready | Oversized = self._unready
        elif self._price(waiter, version) > most:
            aside = self._oversized
        else:
            return False
        assert waiter.home is not None
        waiter.home.take(waiter)
        self._wanted[waiter.priority] -= waiter.counted
        aside.put(waiter)
        self._least = None
        return True

    def _recall(self, most: int, version: int) -> None:
        back = self._oversized.recall(most, version) if self._oversized else []
        if self._unready:
            back += self._unready.recall(most, version, self._oversized)
        for waiter in back:
            self._back.put(waiter)
            waiter.home = self._back
            self._wanted[waiter.priority] += waiter.counted
            self._least = None

    def _price(self, waiter: Waiter, version: int) -> int:
        nbytes = waiter.size(version)
        if nbytes != waiter.counted:
            self._wanted[waiter.priority] += nbytes - waiter.counted
            waiter.counted = nbytes
        return nbytes

    def _front(self) -> Waiter | None:
        front: Waiter | None = None
        for line in self._lines:
            if line:
                waiter = next(iter(line))
                if front is None or waiter.place < front.place:
                    front = waiter
        if self._back:
            waiter = self._back.first()
            if front is None or waiter.place < front.place:
                front = waiter
        return front

    def _standing(self) -> Iterable[Waiter]:
        """Those that are not set aside, in order."""
        lines: list[Iterable[Waiter]] = [line for line in self._lines if line]
        if self._back:
            lines.append(self._back)
        return lines[0] if len(lines) == 1 else heapq.merge(*lines, key=place_of)


class _Line(OrderedDict["Waiter", None]):
    """Those of one priority. A plain dictionary would be slow at giving its first after many have left."""

    __slots__ = ()

    def put(self, waiter: Waiter) -> None:
        """Put a waiter at the end."""
        self[waiter] = None
        waiter.home = self

    def take(self, waiter: Waiter) -> None:
        """Take a waiter out."""
        del self[waiter]
