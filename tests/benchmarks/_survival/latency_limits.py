"""Concurrency limits that learn from latency, after Netflix's concurrency-limits (``Gradient2Limit``, ``VegasLimit``).

Written from the published algorithm, with its default settings; what is above the limit is refused at once, as its
``SimpleLimiter`` does. Times are in seconds.
"""

from __future__ import annotations

import math
import random
from typing import Final, Protocol


class Limit(Protocol):
    """A number that follows what is measured."""

    value: float

    def update(self, now: float, seconds: float, in_flight: int) -> None:
        """Take note of a request that ended now, took so long, and was one of so many when it began."""


class Gradient:
    """The limit follows the ratio of the long-term mean latency to that of the last window (of a second at least)."""

    INITIAL: Final = 20.0
    LEAST: Final = 20.0
    MOST: Final = 200.0
    QUEUE: Final = 4
    SMOOTHING: Final = 0.2
    LONG_WINDOW: Final = 600
    WARM_UP: Final = 10
    WINDOW_SECONDS: Final = 1.0
    WINDOW_SAMPLES: Final = 10

    def __init__(self) -> None:
        self.value = self.INITIAL
        self._long = 0.0
        self._windows = 0
        self._samples: list[float] = []
        self._most_in_flight = 0
        self._window_ends = 0.0

    def update(self, now: float, seconds: float, in_flight: int) -> None:
        """Collect a window; at its end, follow its mean."""
        self._samples.append(seconds)
        self._most_in_flight = max(self._most_in_flight, in_flight)
        if now < self._window_ends or len(self._samples) < self.WINDOW_SAMPLES:
            return
        short = sum(self._samples) / len(self._samples)
        most = self._most_in_flight
        self._samples, self._most_in_flight, self._window_ends = [], 0, now + self.WINDOW_SECONDS
        self._follow(short, most)

    def _follow(self, short: float, in_flight: int) -> None:
        self._windows += 1
        weight = 1 / self._windows if self._windows <= self.WARM_UP else 2 / (self.LONG_WINDOW + 1)
        self._long += (short - self._long) * weight
        if self._long / short > 2:
            self._long *= 0.9
        if in_flight < self.value / 2:
            return
        gradient = max(0.5, min(1.0, self._long / short))
        wanted = self.value * gradient + self.QUEUE
        smooth = self.value * (1 - self.SMOOTHING) + wanted * self.SMOOTHING
        self.value = max(self.LEAST, min(self.MOST, smooth))


class Vegas:
    """The limit follows the queue that the shortest latency suggests; that is probed anew from time to time."""

    INITIAL: Final = 20.0
    MOST: Final = 1000.0
    PROBE: Final = 30

    def __init__(self) -> None:
        self.value = self.INITIAL
        self._shortest = 0.0
        self._since_probe = 0
        self._random = random.Random(0)  # noqa: S311 - a jitter, the same in every run
        self._jitter = self._random.uniform(0.5, 1)

    def update(self, now: float, seconds: float, in_flight: int) -> None:  # noqa: ARG002 - see `Limit`
        """Follow one request."""
        self._since_probe += 1
        if self._jitter * self.PROBE * self.value <= self._since_probe:
            self._jitter, self._since_probe, self._shortest = self._random.uniform(0.5, 1), 0, seconds
        elif self._shortest == 0 or seconds < self._shortest:
            self._shortest = seconds
        elif in_flight * 2 >= self.value:
            self.value = max(1.0, min(self.MOST, self._wanted(seconds)))

    def _wanted(self, seconds: float) -> float:
        queue = math.ceil(self.value * (1 - self._shortest / seconds))
        step = max(1, int(math.log10(int(self.value))))
        if queue <= step:
            return self.value + 6 * step
        if queue < 3 * step:
            return self.value + step
        if queue > 6 * step:
            return self.value - step
        return self.value
