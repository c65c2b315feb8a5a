"""The trend of numbers over time.

`theil_sen` is the slope of H. Theil (1950) and P. K. Sen (1968): the median of the slopes between all pairs of points.
Up to 29 % of the points may be anything at all without moving it far.
"""

from __future__ import annotations

from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["theil_sen"]


def theil_sen(seconds: Sequence[float], values: Sequence[float]) -> float:
    """The slope of `values` over `seconds`; about 0.5 ms for 60 points.

    Args:
        seconds: Of n points, at least two of them different.
        values: Of the same points.

    Returns:
        Change of the value per second.

    Raises:
        ValueError: There are no two points at different times, or not as many values as times.
    """
    points = list(zip(seconds, values, strict=True))
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if b[0] != a[0]]
    if not slopes:
        raise ValueError(f"theil_sen: got {len(points)} points at one time; expected two at different times")
    return median(slopes)
