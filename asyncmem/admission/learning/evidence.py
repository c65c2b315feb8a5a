"""What the last tasks of a class needed, and the price that follows from it.

`Evidence` keeps the peaks of the last tasks with the sizes of their input, each with the variance that telling apart
from others has left in it. `Fit` is what is read off these: a line (bytes of memory per byte of input, and an
intercept), which serves all sizes, also those never seen, and an upper quantile of the peaks relative to it, by which
is reserved; a size bucket (a power of two) with enough tasks has a quantile of its own. Everything here is in MiB:
numbers of that order keep the arithmetic well conditioned, and nobody outside sees them.

Costs drift. The window forgets a slow drift; after a jump the old tasks are thrown away at once: four in a row beyond
the 97 % quantile are no accident, nor are thirty-two in a row in the lowest quarter.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from math import frexp, sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

from asyncmem.stats import fit_line, weighted_quantiles

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Evidence", "Fit", "Peak", "summary"]

WINDOW: Final = 128
"""Tasks that are remembered per class."""
TAIL: Final = 96
"""Tasks whose upper quantile holds, whatever jumps there were: large tasks may be rare."""
QUANTILE: Final = 0.97
"""Share of the tasks whose peak is to lie within what they have reserved; two points above the target, for what is
forecast is the next task, not the last ones."""
NORMAL: Final = 1.65
"""Standard deviations that stand for the quantile while there are too few tasks to count it."""
COUNTED: Final = 20
"""From so many tasks on the quantile is counted."""
THIN: Final = 0.6
"""Doubt, relative to the mean, that a single task leaves; it falls with the number of those that are known well: twice
the first peak is reserved, half as much again after two, and 6 % more after ten."""
BUCKET_LEAST: Final = 12
"""Tasks from which on a size bucket has a quantile of its own."""
BEYOND: Final = 1.1
"""Margin over the line at more than twice the largest size seen."""
LEAST: Final = 1 / 16
"""64 KiB in MiB: the least a task is taken to need, for its frames, a request, an answer."""
_RISES: Final = 4
_FALLS: Final = 32
"""A cost that rises is believed after four tasks, one that falls after many: a class of which one task in ten is large
has runs of small ones, and to forget the large ones then is how a process is killed."""
_SURE: Final = 0.25
"""A peak known no better than this share of it counts half."""
_SURE_ITSELF: Final = 0.15
"""The same relative to itself, for a peak far above the others."""
_SURELY: Final = 0.5
"""Weight from which on a single peak decides."""
_NONE: Final = 1e-9
"""Weight of what says nothing: where nothing else is known, that counts."""
_VISIBLE: Final = 2.0
"""MiB: in the noise of readings nothing smaller is known better than this times `_SURE`."""
_BLIND: Final = 0.15
"""Relative spread that is assumed where peaks could not be told apart well enough to see any."""
_LOW: Final = 0.25
_NEAR: Final = 0.3
_FAR: Final = 4.5
"""Distances below the median within which peaks make the mean: relative to it, and to that of the upper quartile, of
which this is three standard deviations."""
_SIZED_LEAST: Final = 2
_SIZES_DIFFER: Final = 0.05
_SLOPE_MATTERS: Final = 0.02
"""A slope that makes less of the mean than that is none."""
_WIDE: Final = 0.5
"""Spread from which on tasks are not of one kind, so that it is no measure of their tail."""
_OVER_LARGEST: Final = 1.001
"""Margin over the largest peak that counts: none but for rounding."""
_UNSEEN: Final = 2.0
"""Sizes of more than this times the largest are such as were never seen."""
_UNTESTED: Final = 1.5
"""Margin at most over a line that is not known to be one."""
_SIGNIFICANT: Final = 25.0
"""The F of a slope that is five standard errors from none: it is asked several times a second, and peaks of which one
in ten is forty times as large as the others are nothing like normal."""
_STILL_SIGNIFICANT: Final = 9.0
"""The same for one that was believed before."""
_MARGIN: Final = 1.5
"""Standard errors of the intercept that are added: in the noise of large neighbours it is known last."""
_RELATIVE: Final = 0.2
_VAGUE: Final = 0.3
"""A peak known no better than this share of what was expected neither makes a run nor ends one."""


class Peak(NamedTuple):
    """What one task has needed."""

    size: float
    """MiB of its input; 0 where unknown."""
    peak: float
    """MiB."""
    variance: float
    """How well that is known, in MiB squared."""


class Fit:
    """What peaks of a class say of the next task. Never changed once made.

    Args:
        peaks: The peaks, oldest first; at least one.
        tail: The last peaks, those too that a jump has made forget: what they say of rare large tasks still holds.
        proven: That size matters was shown before.
    """

    __slots__ = (
        "_beyond",
        "_factors",
        "_largest",
        "_pad",
        "cost",
        "intercept",
        "low",
        "mean",
        "proven",
        "sized",
        "slope",
        "spread",
        "upper",
    )

    def __init__(self, peaks: Sequence[Peak], tail: Sequence[Peak] = (), *, proven: bool = False) -> None:
        self.mean = max(LEAST, sum([p.peak for p in peaks]) / len(peaks))
        """MiB of a task on average."""
        self.intercept, self.slope, self._beyond = _line(peaks, self.mean, proven=proven)
        self.sized = self.slope > 0.0
        """Whether the size of the input matters."""
        self.proven = self.sized and (proven or len(peaks) >= COUNTED)
        """Whether that was shown, and not only assumed for want of evidence."""
        self._largest = max([p.size for p in peaks])
        points: list[tuple[float, float]] = []
        total = doubt = 0.0
        for size, peak, variance in peaks:
            predicted = self.predict(size)
            weight = _weight_above(predicted, peak, variance)
            points.append((peak / predicted, weight))
            total += weight
            doubt += weight * variance / (predicted * predicted)
        ordered = sorted(points)
        self.low, counted = weighted_quantiles(ordered, (_LOW, QUANTILE))
        self.spread = max(_spread_above(points, counted), min(sqrt(doubt / total), _BLIND))
        """Standard deviation of the peaks, relative to the line."""
        self.upper = max(_upper(points, counted, self.spread), self._rare(tail))
        """Peak relative to the line that is reserved."""
        self._pad = _doubt_at_origin(peaks, self.intercept, self.slope) if self.sized else 0.0
        self._factors = _by_bucket(peaks, points) if self.sized else {}
        self.cost = max(LEAST, _upper_of_any(peaks) if self.sized else self.intercept * self.upper)
        """MiB to reserve where the size is unknown."""

    def _rare(self, tail: Sequence[Peak]) -> float:
        """The quantile of the tail, relative to the line; 0 where it is too short to say."""
        if len(tail) < COUNTED:
            return 0.0
        ratios = []
        for size, peak, variance in tail:
            predicted = self.predict(size)
            ratios.append((peak / predicted, _weight_above(predicted, peak, variance)))
        return weighted_quantiles(sorted(ratios), (QUANTILE,))[0]

    def predict(self, size: float) -> float:
        """MiB that a task needs on average at its peak, with so many MiB of input."""
        if self.sized:
            return max(LEAST, self.intercept + self.slope * size) if size > 0.0 else self.mean
        return max(LEAST, self.intercept)

    def depends_on(self, size: float) -> bool:
        """Whether the price of a task with so many MiB of input depends on that."""
        return self.sized or (self._beyond is not None and size > _UNSEEN * self._largest)

    def price(self, size: float) -> float:
        """MiB to reserve."""
        if size <= 0.0 or not self.depends_on(size):
            return self.cost
        if self._beyond is not None:
            intercept, slope = self._beyond
            return max(self.cost, (intercept + slope * size) * min(self.upper, _UNTESTED))
        factor = self._factors.get(frexp(size)[1], self.upper)
        if size > _UNSEEN * self._largest:
            factor *= BEYOND
        return max(LEAST, (self.intercept + self.slope * size) * factor + _MARGIN * self._pad)


def _weight(level: float, variance: float) -> float:
    """How much a peak counts: one that was told apart badly, hardly."""
    level = max(level, _VISIBLE)
    doubt = variance / (_SURE * _SURE * level * level)
    return 1.0 / (1.0 + doubt * doubt) + _NONE


def _weight_above(level: float, peak: float, variance: float) -> float:
    """The same for what is reserved: a large peak that is known well for what it is counts, whatever the others are."""
    weight = _weight(level, variance)
    if peak > level:
        doubt = variance / (_SURE_ITSELF * _SURE_ITSELF * peak * peak)
        weight = max(weight, 1.0 / (1.0 + doubt * doubt))
    return weight


def _line(peaks: Sequence[Peak], mean: float, *, proven: bool) -> tuple[float, float, tuple[float, float] | None]:
    """Intercept and slope of peaks over sizes; no slope where sizes are not given, hardly differ or explain nothing.

    The third is a line that explains nothing among these, and may yet be true of far larger sizes; None elsewhere.
    """
    sized = [p for p in peaks if p.size > 0.0]
    middle = sum([p.size for p in sized]) / len(sized) if sized else 0.0
    if len(sized) < _SIZED_LEAST or max([abs(p.size - middle) for p in sized]) < _SIZES_DIFFER * middle:
        return *_level(peaks, mean), None
    # Spread grows with cost, so errors count relative to the line; where that is, a first line says.
    line = fit_line([(size, peak, 1.0 / (variance + peak + LEAST)) for size, peak, variance in sized])
    points: list[tuple[float, float, float]] = []
    for _ in range(2):
        intercept, slope = line[0] + LEAST, line[1]
        points = [
            (size, peak, 1.0 / (variance + (_RELATIVE * (intercept + slope * size)) ** 2))
            for size, peak, variance in sized
        ]
        line = fit_line(points)
    if line[1] * middle <= _SLOPE_MATTERS * mean:
        return *_level(peaks, mean), None
    # With few tasks no test can tell, and to take size for nothing is how an upload of a hundred times the size kills.
    if len(points) < COUNTED or _explains(points, *line, least=_STILL_SIGNIFICANT if proven else _SIGNIFICANT):
        return *line, None
    return *_level(peaks, mean), line


def _explains(points: Sequence[tuple[float, float, float]], intercept: float, slope: float, *, least: float) -> bool:
    """Whether the size explains the peaks better than chance would: an F-test of the line against the mean.

    Else a few tasks that happen to be large would pass for what their sizes made of them.
    """
    freedom = len(points) - 2
    level = sum([weight * peak for _, peak, weight in points]) / sum([weight for _, _, weight in points])
    about_level = sum([weight * (peak - level) ** 2 for _, peak, weight in points])
    about_line = sum([weight * (peak - intercept - slope * size) ** 2 for size, peak, weight in points])
    return freedom * (about_level - about_line) >= least * about_line


def _doubt_at_origin(peaks: Sequence[Peak], intercept: float, slope: float) -> float:
    """Standard error of the intercept, in MiB."""
    total = sum_x = sum_xx = 0.0
    for size, _, variance in peaks:
        if size > 0.0:
            weight = 1.0 / (variance + (_RELATIVE * (intercept + slope * size + LEAST)) ** 2)
            total += weight
            sum_x += weight * size
            sum_xx += weight * size * size
    scatter = sum_xx * total - sum_x * sum_x
    return sqrt(sum_xx / scatter) if scatter > 0.0 else intercept


def _level(peaks: Sequence[Peak], mean: float) -> tuple[float, float]:
    """The mean as intercept, where size does not matter."""
    points = sorted([(p.peak, _weight(mean, p.variance)) for p in peaks])
    # Far below the others are mostly tasks whose memory was taken for others'; what is far above is rare, but real.
    median, high = weighted_quantiles(points, (0.5, 0.75))
    least = median - max(_NEAR * median, _FAR * (high - median))
    points = [point for point in points if point[0] >= least]
    return sum([peak * weight for peak, weight in points]) / sum([weight for _, weight in points]), 0.0


def _spread_above(points: list[tuple[float, float]], counted: float) -> float:
    """Standard deviation by those above the line; what is beyond the quantile counts as that.

    Those below are often tasks whose memory was taken for that of others.
    """
    above = squares = 0.0
    for ratio, weight in points:
        if ratio > 1.0:
            above += weight
            squares += weight * (min(ratio, counted) - 1.0) ** 2
    return sqrt(squares / above) if above > 0.0 else 0.0


def _upper(points: list[tuple[float, float]], counted: float, spread: float) -> float:
    """What to reserve, relative to the line, by the ratios seen and their quantile."""
    count = len(points)
    sure = max(1.0, sum([weight for _, weight in points]))
    normal = 1.0 + NORMAL * sqrt(spread * spread + (THIN / sure) ** 2)
    if count < COUNTED:
        return max([normal, *[ratio for ratio, weight in points if weight > _SURELY]])
    # The last two above it may be a jump: the smaller of them is believed at once.
    one, other = points[-1], points[-2]
    jump = min(one[0], other[0]) if min(one[1], other[1]) > _SURELY else 0.0
    smooth = (normal + counted) / 2
    if spread > _WIDE:
        # One in ten may be forty times as large as the others: the spread says more than was ever seen.
        smooth = min(
            smooth, _OVER_LARGEST * max([ratio for ratio, weight in points if weight > _SURELY], default=counted)
        )
    return max(counted, smooth, jump)


def _upper_of_any(peaks: Sequence[Peak]) -> float:
    ordered = sorted([(p.peak, 1.0) for p in peaks])
    return weighted_quantiles(ordered, (QUANTILE,))[0] * (1.0 + THIN / len(peaks))


def _by_bucket(peaks: Sequence[Peak], points: list[tuple[float, float]]) -> dict[int, float]:
    """The same for sizes of one power of two, where there are enough."""
    buckets: dict[int, list[tuple[float, float]]] = {}
    for p, point in zip(peaks, points, strict=True):
        if p.size > 0.0:
            buckets.setdefault(frexp(p.size)[1], []).append(point)
    factors = {}
    for bucket, own in buckets.items():
        if len(own) >= BUCKET_LEAST:
            counted = weighted_quantiles(sorted(own), (QUANTILE,))[0]
            factors[bucket] = _upper(own, counted, _spread_above(own, counted))
    return factors


class Evidence:
    """The last peaks of a class."""

    __slots__ = ("_before", "_falls", "_is_sized", "_rises", "_tail", "count", "peaks")

    def __init__(self) -> None:
        self.peaks: deque[Peak] = deque(maxlen=WINDOW)
        self._tail: deque[Peak] = deque(maxlen=TAIL)
        self.count = 0
        """Tasks that taught it so far."""
        self._before: Fit | None = None
        self._is_sized = False
        self._rises = 0
        self._falls = 0

    def add(self, peak: Peak, fit: Fit | None) -> None:
        """A task has ended.

        Args:
            peak: What it needed.
            fit: What was expected.
        """
        self.peaks.append(peak)
        self._tail.append(peak)
        self.count += 1
        # A run is judged by what was expected when it began: what is expected since has it in already.
        if self._before is None:
            self._before = fit
        before = self._before
        if before is None:
            return
        expected = before.predict(peak.size)
        if peak.variance > (_VAGUE * max(expected, peak.peak)) ** 2:
            return
        ratio = peak.peak / expected
        self._rises = self._rises + 1 if peak.peak > before.price(peak.size) else 0
        self._falls = self._falls + 1 if ratio < before.low else 0
        if self._rises >= _RISES:
            self._keep(_RISES)
        elif self._falls >= _FALLS:
            self._keep(_FALLS)
        elif not self._rises and not self._falls:
            self._before = None

    def is_urgent(self) -> bool:
        """Whether the last peak should change the price at once: there are few, or it was beyond what is reserved."""
        return self._rises > 0 or len(self.peaks) < COUNTED

    def fit(self, running: Sequence[Peak] = ()) -> Fit | None:
        """What the peaks say now, with those that tasks in flight have reached; None while there are none."""
        peaks = [*self.peaks, *running]
        if not peaks:
            return None
        fit = Fit(peaks, self._tail if len(self.peaks) < len(self._tail) else (), proven=self._is_sized)
        self._is_sized = fit.proven
        return fit

    def _keep(self, last: int) -> None:
        recent = list(islice(reversed(self.peaks), last))
        self.peaks.clear()
        self.peaks.extend(reversed(recent))
        self._before = None
        self._rises = self._falls = 0


def summary(peaks: Sequence[Peak], fit: Fit, count: int) -> list[Peak]:
    """So many peaks that say about the same: evenly spread from the least to the largest relative to the line."""
    ordered = sorted(peaks, key=lambda p: p.peak / fit.predict(p.size))
    if len(ordered) <= count:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (count - 1))] for i in range(count)]
