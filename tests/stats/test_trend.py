"""The slope of points that are partly anything."""

from __future__ import annotations

import random

import pytest

from asyncmem.stats import theil_sen


def test_a_line_has_its_slope() -> None:
    """Exactly."""
    assert theil_sen([0, 1, 5], [3, 5, 13]) == 2


def test_a_quarter_of_the_points_may_be_anything() -> None:
    """Least squares would be off by hundreds."""
    noise = random.Random(0)  # noqa: S311 - reproducible
    seconds = [float(second) for second in range(60)]
    values = [3 * second + (noise.uniform(-1e6, 1e6) if second % 4 == 0 else noise.gauss(0, 1)) for second in seconds]
    assert theil_sen(seconds, values) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize(("seconds", "values"), [([], []), ([1], [1]), ([1, 1], [1, 2]), ([1, 2], [1])])
def test_what_has_no_slope_is_refused(seconds: list[float], values: list[float]) -> None:
    """A point alone, several at one time, and times without values."""
    with pytest.raises(ValueError, match=r"two different|two points|different times|zip"):
        theil_sen(seconds, values)
