"""The filter agrees with the plain definition, and the line is the best of those that are allowed."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncmem.stats import SumFilter, fit_line, weighted_quantiles

small = st.floats(0.0, 100.0)


def solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss's elimination with pivots."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    n = len(rows)
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(n):
            if r != i:
                factor = rows[r][i] / rows[i][i]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    return [row[n] / row[i] for i, row in enumerate(rows)]


@given(
    counts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.just(1)), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
)
def test_the_filter_is_least_squares_with_a_prior(counts: list[tuple[int, int, int]], seed: int) -> None:
    """With terms that stay, it gives what the normal equations give at once."""
    rng = random.Random(seed)  # noqa: S311 - reproducible
    prior, variance, noise = [3.0, 10.0, 50.0], [4.0, 25.0, 100.0], 0.5
    terms = SumFilter()
    made = [terms.add(value, doubt) for value, doubt in zip(prior, variance, strict=True)]
    gram = [[1.0 / variance[i] if i == k else 0.0 for k in range(3)] for i in range(3)]
    right = [value / doubt for value, doubt in zip(prior, variance, strict=True)]
    for count in counts:
        measured = rng.uniform(0.0, 300.0)
        for term, coefficient in zip(made, count, strict=True):
            term.coefficient = float(coefficient)
        terms.expect(measured, noise)
        terms.correct()
        for i in range(3):
            right[i] += count[i] * measured / noise
            for k in range(3):
                gram[i][k] += count[i] * count[k] / noise
    assert [term.value for term in made] == pytest.approx(solve(gram, right), rel=1e-6, abs=1e-6)


def test_a_term_that_has_left_is_known_by_the_drop() -> None:
    """Two that came together cannot be told apart until one goes; then both are known."""
    terms = SumFilter()
    one, other = terms.add(20.0, 400.0), terms.add(20.0, 400.0)
    for _ in range(20):
        terms.expect(60.0, 0.1)
        terms.correct()
    assert one.value == pytest.approx(30.0, abs=0.5)
    assert one.variance > 100.0
    one.coefficient = 0.0
    terms.expect(50.0, 0.1)
    terms.correct()
    assert one.value == pytest.approx(10.0, abs=0.5)
    assert other.value == pytest.approx(50.0, abs=0.5)
    assert one.variance < 1.0


@given(order=st.permutations(range(5)), gone=st.integers(1, 4))
def test_removing_terms_leaves_the_others_as_they_are(order: list[int], gone: int) -> None:
    """Whichever go, the rest keep their values and their covariances, and the filter goes on."""
    terms = SumFilter()
    made = [terms.add(float(i), 1.0 + i) for i in range(5)]
    terms.expect(30.0, 1.0)
    terms.correct()
    before = {(a, b): made[a].row[made[b].index] for a in range(5) for b in range(5)}
    values = [term.value for term in made]
    for i in order[:gone]:
        terms.remove(made[i])
    left = order[gone:]
    assert [made[i].value for i in left] == [values[i] for i in left]
    for a in left:
        for b in left:
            assert made[a].row[made[b].index] == before[a, b]
    assert terms.terms == sorted((made[i] for i in left), key=lambda term: term.index)
    terms.expect(40.0, 1.0)
    terms.correct()


def test_doubt_is_as_if_it_had_been_there_before() -> None:
    """Variance that is added between expecting and correcting counts like that of the prior."""
    late, early = SumFilter(), SumFilter()
    for terms in (late, early):
        terms.add(10.0, 1.0)
        terms.add(20.0, 1.0)
    for row in zip(early.terms, ((3.0 + 1.0, -3.0), (-3.0, 3.0 + 1.0 + 5.0)), strict=True):
        row[0].row = list(row[1])
    for terms in (late, early):
        for term in terms.terms:
            term.coefficient = 1.0 + term.index
    late.expect(80.0, 1.0)
    late.doubt([1.0, -1.0], 3.0)
    late.loosen([0.0, 5.0])
    late.correct()
    early.expect(80.0, 1.0)
    early.correct()
    for one, other in zip(late.terms, early.terms, strict=True):
        assert one.value == pytest.approx(other.value)
        assert one.row == pytest.approx(other.row)


def test_what_is_sure_is_not_corrected() -> None:
    """Without any doubt there is nothing to divide an error by."""
    terms = SumFilter()
    term = terms.add(5.0, 0.0)
    terms.expect(9.0, 0.0)
    terms.correct()
    assert term.value == 5.0


def test_numbers_beyond_all_measure_do_not_last() -> None:
    """What rounding or an overflow has destroyed is given up, and the filter goes on."""
    terms = SumFilter()
    one, other = terms.add(5.0, 1.0), terms.add(5.0, 1.0)
    one.row, other.row = [1.0, -9.0], [-9.0, float("nan")]
    one.value = float("inf")
    for _ in range(10):
        terms.expect(30.0, 1.0)
        terms.correct()
    assert one.value + other.value == pytest.approx(30.0, rel=0.1)


@given(points=st.lists(st.tuples(small, small, st.floats(0.01, 10.0)), min_size=1, max_size=20))
def test_no_line_that_is_allowed_is_better(points: list[tuple[float, float, float]]) -> None:
    """A small step in any direction that keeps both coefficients non-negative does not lower the loss."""

    def loss(intercept: float, slope: float) -> float:
        return sum(w * (y - intercept - slope * x) ** 2 for x, y, w in points)

    intercept, slope = fit_line(points)
    assert intercept >= 0.0
    assert slope >= 0.0
    least = loss(intercept, slope)
    for a in (-0.01, 0.0, 0.01):
        for b in (-0.0001, 0.0, 0.0001):
            if intercept + a >= 0.0 and slope + b >= 0.0:
                assert loss(intercept + a, slope + b) >= least - 1e-6 * max(1.0, least)


def test_a_line_is_found_again() -> None:
    """Points on a line give its coefficients; equal x give the mean, and no slope."""
    assert fit_line([(x, 2.0 + 30.0 * x, 1.0 + x) for x in (0.1, 0.5, 2.0, 4.0)]) == pytest.approx((2.0, 30.0))
    assert fit_line([(3.0, 4.0, 1.0), (3.0, 8.0, 3.0)]) == (7.0, 0.0)


@given(values=st.lists(small, min_size=1, max_size=40), shares=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4))
def test_quantiles_lie_between_the_values_and_rise(values: list[float], shares: list[float]) -> None:
    """They are between the least and the largest, do not fall, and do not depend on what else is asked."""
    ordered = sorted((value, 1.0) for value in values)
    shares = sorted(shares)
    found = weighted_quantiles(ordered, shares)
    assert found == sorted(found)
    assert min(values) <= found[0]
    assert found[-1] <= max(values)
    assert found == [weighted_quantiles(ordered, [share])[0] for share in shares]


def test_quantiles_are_the_usual_ones() -> None:
    """Equal weights give the median of the standard library, and a heavy value counts like several."""
    values = [1.0, 2.0, 5.0, 7.0, 11.0]
    assert weighted_quantiles([(v, 1.0) for v in values], [0.5]) == [statistics.median(values)]
    assert weighted_quantiles([(1.0, 1.0), (2.0, 8.0), (3.0, 1.0)], [0.5]) == [2.0]
    assert weighted_quantiles([(1.0, 1.0), (3.0, 1.0)], [0.5]) == [2.0]
