"""Telling apart what is only seen in sum: a recursive regression, and the line and the quantile it is read by.

`SumFilter` keeps an estimate, and the covariance of its errors, of numbers of which only a weighted sum is measured,
again and again while terms join and leave. It is the Kalman filter (R. E. Kalman, 1960) with one measurement at a
time; with terms that stay for ever and a little noise added at each step it is recursive least squares with
forgetting. Terms that join with the mean and the variance of their kind make it the recursive form of a mixed-effects
model (Laird and Ware, 1982). A term that has left the sum may stay a while with the coefficient 0: the next
measurements then still correct what it was, through its covariance with the others, which is smoothing with a fixed
lag.

`fit_line` is least squares of two coefficients that are not negative, `weighted_quantiles` what they say. Everything
is plain arithmetic over a few dozen numbers, where this beats the overhead of an array library. Who chooses the
terms: `admission.learning`.
"""

from __future__ import annotations

from math import inf, isfinite
from operator import mul
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SumFilter", "SumTerm", "fit_line", "weighted_quantiles"]

_LARGEST: Final = 1e15


class SumTerm:
    """One number behind the sum. Made by `SumFilter.add`."""

    __slots__ = ("coefficient", "index", "row", "value")

    def __init__(self, value: float, coefficient: float, index: int, row: list[float]) -> None:
        self.value = value
        """Its estimate; may be set, for what is known otherwise (that it is not negative)."""
        self.coefficient = coefficient
        """How often it is in the sum now."""
        self.index = index
        self.row = row
        """Covariances with the other terms by their index; its own variance at its own."""

    @property
    def variance(self) -> float:
        """Variance of the error of the estimate."""
        return self.row[self.index]

    def loosen(self, variance: float) -> None:
        """It may have changed since the last measurement, by as much."""
        self.row[self.index] += variance


class SumFilter:
    """Estimates terms from measurements of their weighted sum: `expect` a measurement, then `correct` by it."""

    __slots__ = ("_error", "_gains", "_variance", "terms")

    def __init__(self) -> None:
        self.terms: list[SumTerm] = []
        self._gains: list[float] = []
        self._error = 0.0
        self._variance = 1.0

    def add(self, value: float, variance: float, *, coefficient: float = 1.0) -> SumTerm:
        """A term joins.

        Args:
            value: What it is thought to be.
            variance: How far it may be from that, squared.
            coefficient: How often it is in the sum.
        """
        index = len(self.terms)
        for other in self.terms:
            other.row.append(0.0)
        term = SumTerm(value, coefficient, index, [*([0.0] * index), variance])
        self.terms.append(term)
        return term

    def remove(self, term: SumTerm) -> None:
        """A term is of no interest any more; the estimates of the others stay as they are."""
        index = term.index
        last = self.terms.pop()
        if last is term:
            for other in self.terms:
                other.row.pop()
            return
        # The last one takes the place that has become free.
        for other in self.terms:
            other.row[index] = other.row.pop()
        last.row[index] = last.row.pop()
        last.index = index
        self.terms[index] = last

    def expect(self, measured: float, noise: float) -> tuple[float, float]:
        """Compare a measurement with what the estimates say.

        Args:
            measured: The sum as measured.
            noise: Variance of the measurement itself.

        Returns:
            The error of the prediction, and the variance that it should have.
        """
        spread = self._compare()
        if not 0.0 <= spread < inf:
            self._untie()
            spread = self._compare()
        self._error = measured - sum([term.value * term.coefficient for term in self.terms])
        self._variance = spread + noise
        return self._error, self._variance

    def _compare(self) -> float:
        """Variance of the sum, as far as the terms make it."""
        coefficients = [term.coefficient for term in self.terms]
        self._gains = [sum(map(mul, term.row, coefficients)) for term in self.terms]
        return float(sum(map(mul, self._gains, coefficients)))

    def _untie(self) -> None:
        """Rounding has destroyed the covariances, after numbers of very different size: go on without them."""
        for term in self.terms:
            variance = term.variance
            term.row = [0.0] * len(self.terms)
            term.row[term.index] = variance if 0.0 <= variance < _LARGEST else _LARGEST
            if not isfinite(term.value):
                term.value = 0.0

    def doubt(self, direction: Sequence[float], variance: float) -> None:
        """Allow an error of the estimates along a direction, after `expect` was surprised and before `correct`.

        Args:
            direction: By how much each term may be off, in the order of `terms`; together, and with these signs.
            variance: Of the factor of the direction.
        """
        terms = self.terms
        along = sum([term.coefficient * step for term, step in zip(terms, direction, strict=True)])
        for term, step in zip(terms, direction, strict=True):
            if step:
                scaled = step * variance
                term.row = [entry + scaled * other for entry, other in zip(term.row, direction, strict=True)]
        self._gains = [gain + variance * along * step for gain, step in zip(self._gains, direction, strict=True)]
        self._variance += variance * along * along

    def loosen(self, variances: Sequence[float]) -> None:
        """Allow errors of the terms one by one, after `expect` was surprised and before `correct`.

        Args:
            variances: What to add to the variance of each term, in the order of `terms`.
        """
        gains = self._gains
        for i, (term, variance) in enumerate(zip(self.terms, variances, strict=True)):
            if variance:
                term.row[i] += variance
                change = variance * term.coefficient
                gains[i] += change
                self._variance += change * term.coefficient

    def correct(self) -> None:
        """Take the measurement in."""
        gains = self._gains
        variance = self._variance
        if not variance > 0.0:
            return
        step = self._error / variance
        for i, (term, gain) in enumerate(zip(self.terms, gains, strict=True)):
            if gain:
                term.value += gain * step
                share = gain / variance
                term.row = row = [entry - share * other for entry, other in zip(term.row, gains, strict=False)]
                row[i] = max(row[i], 0.0)


def fit_line(points: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Least squares of a line whose intercept and slope are not negative.

    Args:
        points: x, y and weight of each; weights are not negative, and one at least is more.

    Returns:
        Intercept and slope. Where all x are equal the slope is 0.
    """
    total = sum_x = sum_y = 0.0
    for x, y, w in points:
        total += w
        sum_x += w * x
        sum_y += w * y
    mean_x, mean_y = sum_x / total, sum_y / total
    xx = xy = 0.0
    for x, y, w in points:
        off = w * (x - mean_x)
        xx += off * (x - mean_x)
        xy += off * (y - mean_y)
    if xy <= 0.0 or xx <= 1e-12 * total * mean_x * mean_x:
        return max(0.0, mean_y), 0.0
    slope = xy / xx
    intercept = mean_y - slope * mean_x
    if intercept >= 0.0:
        return intercept, slope
    # The optimum lies on the edge: a line through the origin. xy > 0 and a negative intercept make its slope positive.
    return 0.0, max(0.0, sum([w * x * y for x, y, w in points]) / sum([w * x * x for x, _, w in points]))


def weighted_quantiles(ordered: Sequence[tuple[float, float]], shares: Sequence[float]) -> list[float]:
    """The values that these shares of the weight do not exceed, interpolated between neighbours.

    Args:
        ordered: Value and weight of each, by value; at least one.
        shares: Between 0 and 1, from the least on.
    """
    total = sum([weight for _, weight in ordered])
    found: list[float] = []
    reached, before, below = 0.0, None, ordered[0][0]
    for value, weight in ordered:
        # A value holds at the middle of its weight.
        middle = reached + weight / 2
        while len(found) < len(shares) and shares[len(found)] * total <= middle:
            wanted = shares[len(found)] * total
            if before is None or middle <= before:
                found.append(value)
            else:
                found.append(below + (value - below) * (wanted - before) / (middle - before))
        reached += weight
        before, below = middle, value
    return [*found, *([ordered[-1][0]] * (len(shares) - len(found)))]
