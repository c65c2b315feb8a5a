"""Extremes of a sliding window, each new value in amortised constant time.

Both keep a monotonic queue: a value that a later one beats can never be the answer again, so it is thrown away at
once. The technique is the well-known one for sliding-window minima (D. Lemire, "Streaming maximum-minimum filter using
no more than three comparisons per element", 2006).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

__all__ = ["CountWindowMaximum", "SuffixMaximum"]


class CountWindowMaximum:
    """The largest of the last `size` values.

    Args:
        size: Values that the window holds.
    """

    __slots__ = ("_added", "_queue", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._queue: deque[tuple[int, float]] = deque()
        self._added = 0

    def add(self, value: float) -> float:
        """Take in a value; returns the largest of the window."""
        queue = self._queue
        while queue and queue[-1][1] <= value:
            queue.pop()
        queue.append((self._added, value))
        self._added += 1
        if queue[0][0] <= self._added - 1 - self._size:
            queue.popleft()
        return queue[0][1]

    def __len__(self) -> int:
        return min(self._added, self._size)


class SuffixMaximum:
    """The largest value since any earlier moment: `add` values, remember `position`, ask `since` it later.

    One instance answers for any number of intervals that overlap and all reach to the present, in logarithmic time
    each, where a maximum per interval would cost every interval a comparison at every value.

    Args:
        max_size: Values that are kept at most; beyond it older moments are told apart less finely, and what is said
            of them is then too large, never too small.
    """

    __slots__ = ("_max_size", "_positions", "_values", "position")

    def __init__(self, max_size: int = 1024) -> None:
        self._max_size = max_size
        self._positions: list[int] = []
        self._values: list[float] = []
        self.position = 0
        """The moment now; hand it to `since` later."""

    def add(self, value: float) -> None:
        """Take in a value."""
        positions, values = self._positions, self._values
        while values and values[-1] <= value:
            values.pop()
            positions.pop()
        positions.append(self.position)
        values.append(value)
        self.position += 1
        if len(values) > self._max_size:
            even = len(values) & ~1
            positions[:even] = positions[1:even:2]
            values[:even] = values[0:even:2]

    def since(self, position: int) -> float:
        """The largest value added at `position` or later; 0 where there is none."""
        index = bisect_left(self._positions, position)
        return self._values[index] if index < len(self._values) else 0.0

    def forget(self) -> None:
        """Drop all values: nobody will ask about an earlier moment any more."""
        self._positions.clear()
        self._values.clear()
