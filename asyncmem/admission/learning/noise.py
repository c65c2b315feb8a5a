"""How much a reading wavers by itself, while nothing comes, goes or grows.

Learned from three readings in a row between which nobody came or went: their second difference is free of what grows
steadily. Of its square the median is followed and not the mean, so that jumps, which are no noise, hardly count.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Noise"]

_BEGIN: Final = 1.0
_LEAST: Final = 0.01
_MOST: Final = 64.0
_STEP: Final = 1.03
"""Factor of one step towards the median (as in stochastic approximation: Robbins and Monro, 1951)."""
_MEDIAN: Final = 0.455
"""Median of the square of a normal variable, relative to its mean."""
_SECOND_DIFFERENCE: Final = 6.0
"""Its variance over that of a reading: 1 + 4 + 1."""


class Noise:
    """Follows the variance of a reading, in MiB squared."""

    __slots__ = ("_one", "_two", "variance")

    def __init__(self) -> None:
        self.variance = _BEGIN
        self._one: float | None = None
        self._two: float | None = None

    def hear(self, reading: float, *, quiet: bool) -> None:
        """Take in a reading in MiB; `quiet` where nobody has come or gone since the last one."""
        one, two = (self._one, self._two) if quiet else (None, None)
        self._one, self._two = two, reading
        if one is None or two is None:
            return
        bend = (reading - 2.0 * two + one) ** 2 / _SECOND_DIFFERENCE
        variance = self.variance * _STEP if bend > _MEDIAN * self.variance else self.variance / _STEP
        self.variance = max(_LEAST, min(_MOST, variance))
