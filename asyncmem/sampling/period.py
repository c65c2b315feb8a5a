"""How soon to look again: the sooner, the sooner memory could be gone.

The time until the guard band is reached, at the growth of now, has to hold several looks: a quarter of it is the
period. Growth can begin between two looks, so never less is assumed than what one thread that fills fresh memory does.

Pure arithmetic, without a clock. Does not cover who looks (`watcher`) nor what is measured (`meters`).
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["GrowthRate", "next_period"]

_LOOKS: Final = 4
"""Looks that fit into the time that is left."""
_SUDDEN: Final = 1024**3
"""Bytes per second at which one thread fills fresh memory: first touches of pages cost about 0.25 µs per KiB."""
_LEAST_SECONDS: Final = 0.002
"""Time between two readings below which their difference says more about the kernel's batches than about growth."""
_MEMORY_SECONDS: Final = 0.5
"""Time constant with which a growth that has ended is forgotten."""


def next_period(
    room: float, growth: float, in_flight: int, *, shortest: float = 0.002, longest: float = 0.050
) -> float | None:
    """Seconds until memory should be looked at again.

    Args:
        room: Bytes left until the guard band begins; negative inside of it.
        growth: Bytes per second that memory grows by; negative where it shrinks. See `GrowthRate`.
        in_flight: Pieces of work that run.
        shortest: The least answer in seconds. Python threads cannot keep much less: see `Watcher`.
        longest: The greatest answer in seconds while work runs.

    Returns:
        A quarter of the time in which the room could be filled, within the two bounds; None where nothing runs.
    """
    if in_flight <= 0:
        return None
    return min(max(shortest, room / (_LOOKS * max(growth, _SUDDEN))), longest)


class GrowthRate:
    """Bytes per second by which a figure grows: up at once, down slowly.

    A growth that pauses between two blocks is not over, so the greater counts of what was just seen and what was seen
    before, forgotten with a time constant of half a second. One thread at a time may call it.
    """

    __slots__ = ("_at", "_rate", "_used")

    def __init__(self) -> None:
        self._at: float | None = None
        self._used = 0
        self._rate = 0.0

    @property
    def value(self) -> float:
        """Bytes per second, never negative."""
        return self._rate

    def update(self, used: int, now: float) -> float:
        """Take in a reading.

        Args:
            used: Bytes in use.
            now: When they were read, in seconds; a reading less than 2 ms after the last is left to the next one.

        Returns:
            Bytes per second, never negative.
        """
        if self._at is None:
            self._at, self._used = now, used
            return self._rate
        seconds = now - self._at
        if seconds >= _LEAST_SECONDS:
            self._rate = max((used - self._used) / seconds, self._rate * math.exp(-seconds / _MEMORY_SECONDS), 0.0)
            self._at, self._used = now, used
        return self._rate
