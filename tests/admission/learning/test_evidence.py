"""Peaks become a line, a quantile and a price."""

from __future__ import annotations

import random

import pytest

from asyncmem.admission.learning.evidence import Evidence, Fit, Peak, summary


def test_a_rare_large_task_is_covered() -> None:
    """Where one in ten needs twenty times as much, that is what is reserved."""
    fit = Fit([Peak(0.0, 80.0 if i % 10 == 0 else 4.0, 0.01) for i in range(100)])
    assert fit.price(0.0) >= 80.0


def test_a_single_outlier_is_not() -> None:
    """One in a hundred does not make all others pay."""
    fit = Fit([Peak(0.0, 80.0 if i == 50 else 4.0 + i / 100, 0.01) for i in range(100)])
    assert fit.price(0.0) < 8.0


def test_peaks_that_are_hardly_known_hardly_count() -> None:
    """Half of the peaks are anything, and say so."""
    rng = random.Random(3)  # noqa: S311 - reproducible
    peaks = [Peak(0.0, rng.gauss(40.0, 2.0), 1.0) for _ in range(50)]
    doubtful = [Peak(0.0, rng.uniform(0.0, 200.0), 3000.0) for _ in range(50)]
    fit = Fit([*peaks, *doubtful])
    assert fit.predict(0.0) == pytest.approx(40.0, rel=0.05)
    assert fit.price(0.0) < 55.0


def test_a_size_bucket_has_its_own_quantile() -> None:
    """Inputs of one order that need more than the line says are reserved more, the others are not."""
    rng = random.Random(3)  # noqa: S311 - reproducible
    peaks = []
    for _ in range(128):
        size = 2.0 ** rng.uniform(-4.0, 2.0)
        peaks.append(Peak(size, (2.0 + 30.0 * size) * (1.5 if 0.5 <= size < 1.0 else 1.0), 0.1))
    fit = Fit(peaks)
    assert fit.price(0.7) >= 1.45 * (2.0 + 30.0 * 0.7)
    assert fit.price(3.0) < 1.3 * (2.0 + 30.0 * 3.0)


def test_sizes_that_do_not_matter_give_no_slope() -> None:
    """The same peak at every size is one price for all."""
    fit = Fit([Peak(float(i), 10.0, 0.01) for i in range(1, 30)])
    assert not fit.sized
    assert fit.price(1000.0) == fit.price(0.0)


def test_a_jump_upwards_throws_the_old_away() -> None:
    """Four in a row beyond the quantile are no accident."""
    evidence = Evidence()
    for _ in range(50):
        evidence.add(Peak(0.0, 10.0, 0.01), evidence.fit())
    for _ in range(4):
        assert len(evidence.peaks) >= 50
        evidence.add(Peak(0.0, 40.0, 0.01), Fit([Peak(0.0, 10.0, 0.01)] * 50))
    assert [peak.peak for peak in evidence.peaks] == [40.0] * 4


def test_a_slow_fall_is_followed() -> None:
    """Thirty-two in a row in the lowest quarter are no accident either."""
    rng = random.Random(1)  # noqa: S311 - reproducible
    evidence = Evidence()
    for _ in range(60):
        evidence.add(Peak(0.0, rng.uniform(9.0, 11.0), 0.01), evidence.fit())
    fit = evidence.fit()
    for _ in range(32):
        evidence.add(Peak(0.0, 9.1, 0.01), fit)
    assert len(evidence.peaks) == 32


def test_a_summary_says_the_same() -> None:
    """A dozen peaks give about the price of a hundred."""
    rng = random.Random(5)  # noqa: S311 - reproducible
    evidence = Evidence()
    for _ in range(100):
        evidence.add(Peak(0.0, rng.gauss(40.0, 4.0), 0.1), None)
    whole = evidence.fit()
    assert whole is not None
    assert Fit(summary(evidence.peaks, whole, 12)).price(0.0) == pytest.approx(whole.price(0.0), rel=0.1)
    assert Evidence().fit() is None


def test_a_size_that_explains_nothing_counts_for_nothing() -> None:
    """One in ten is large, whatever its size: neither does it make large what is large in size, nor the reverse."""
    rng = random.Random(3)  # noqa: S311 - reproducible
    for _ in range(20):
        peaks = [Peak(rng.uniform(0.001, 0.01), 120.0 if rng.random() < 0.1 else 3.0, 0.1) for _ in range(100)]
        prices = [Fit(peaks).price(size) for size in (0.001, 0.005, 0.01)]
        assert all(100.0 < price <= 125.0 for price in prices), prices


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_few_tasks_of_like_size_do_not_make_a_huge_input_cheap(count: int) -> None:
    """Nothing can be tested with few, and of far larger sizes nothing at all is known: the larger is believed."""
    rng = random.Random(5)  # noqa: S311 - reproducible
    for _ in range(20):
        sizes = [1.0 + 2.0 * number / (count - 1) for number in range(count)]
        peaks = [Peak(size, 5.0 * size * rng.uniform(0.97, 1.03), 0.01) for size in sizes]
        assert Fit(peaks).price(100.0) > 400.0


def test_tasks_of_two_kinds_reserve_what_the_larger_needs() -> None:
    """And not more than was ever seen, which their spread would say."""
    fit = Fit([Peak(0.0, 120.0 if number % 10 == 0 else 3.0, 0.1) for number in range(100)])
    assert 119.9 < fit.cost < 121.0
