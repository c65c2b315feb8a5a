"""How long one that comes now would wait, and when another try is worth it.

The wait is what stands ahead, in bytes, over the rate at which bytes come back. Only while somebody waits is that rate
what the process can do; at other times it is what was asked of it, and says nothing. The estimate is of bytes over
seconds and not of the mean length of a permit, so that a connection held for an hour does not weigh on it. How long
work typically takes is followed as a median, for the same reason.

A forecast only ever refuses what would wait in vain by a wide margin, and nobody while it knows too little. It ends
no wait that has begun.
"""

from __future__ import annotations

import random
from bisect import insort
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem._clock import Clock

__all__ = ["Forecast"]

_WINDOW_SECONDS: Final = 10.0
_WINDOW_RELEASES: Final = 32
"""What was seen is given half its weight when it is of so many seconds with somebody waiting and of so many releases:
where work takes long, of more seconds."""
_EVIDENCE: Final = 8
"""Releases with somebody waiting, from which on there is a rate."""
_FRESH_SECONDS: Final = 30.0
"""A rate that was last confirmed longer ago than this, and than work takes, counts no more."""
_STALL_FACTOR: Final = 4.0
_STALL_LEAST: Final = 1.0
"""An interval longer than both of these between two releases, in typical lengths of work and in seconds, is not
counted: more likely nobody waited for most of it."""
_MEDIAN_OF: Final = 15
"""So many are sorted to begin with; from there each observation moves the median a step up or down."""
_MEDIAN_UP: Final = 1.05
_MEDIAN_DOWN: Final = 1 / _MEDIAN_UP
_MEDIAN_LEAST: Final = 1e-6
_SAFETY: Final = 1.5
"""The forecast must exceed a deadline by this factor before it refuses."""
_SERVICE_SHARE: Final = 0.5
_RETRY_LEAST: Final = 1.0
_RETRY_MOST: Final = 60.0
_JITTER: Final = 0.25


class Forecast:
    """Predicts waits from how bytes came back so far. Calls are made under the gate's lock, or stand an old figure.

    Args:
        clock: Where time comes from.
        uniform: Random numbers from 0 to 1, for the jitter.
    """

    __slots__ = ("_clock", "_first", "_median", "_released", "_releases", "_seconds", "_since", "_uniform")

    def __init__(self, clock: Clock, *, uniform: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._uniform = uniform
        self._median = 0.0
        self._first: list[float] | None = []
        self._released = 0.0
        self._releases = 0.0
        self._seconds = 0.0
        self._since: float | None = None
        """The last release, if somebody waited then."""

    @property
    def typical_seconds(self) -> float:
        """The median of how long work takes; 0 before any has ended."""
        return self._median

    def observe_release(self, nbytes: int, held_seconds: float, now: float, waiting: bool = False) -> None:  # noqa: FBT001, FBT002 - on the request path, where keywords cost
        """Work has ended and gives its bytes back.

        Args:
            nbytes: Bytes that come back.
            held_seconds: For how long they were held.
            now: Monotonic seconds.
            waiting: Whether somebody waited for them.
        """
        median = self._median
        if self._first is not None:
            self._begin(self._first, held_seconds)
        elif held_seconds > median:
            self._median = median * _MEDIAN_UP + _MEDIAN_LEAST
        elif held_seconds < median:
            self._median = median * _MEDIAN_DOWN
        if not waiting:
            self._since = None
            return
        if self._since is not None:
            elapsed = now - self._since
            if elapsed <= _STALL_LEAST or elapsed <= _STALL_FACTOR * median:
                self._released += nbytes
                self._releases += 1.0
                self._seconds += elapsed
                if self._seconds > _WINDOW_SECONDS and self._releases > _WINDOW_RELEASES:
                    self._released *= 0.5
                    self._releases *= 0.5
                    self._seconds *= 0.5
        self._since = now

    def predict_wait(self, nbytes_ahead: int, nbytes: int, free: int, in_flight: int) -> float | None:
        """Seconds until one that comes now is served.

        Args:
            nbytes_ahead: Bytes that those before it ask for.
            nbytes: Bytes that it asks for itself.
            free: Bytes that may be promised now; may be negative.
            in_flight: Permits that can give something back.

        Returns:
            Seconds; None where too little is known, or nothing is in flight whose end could be waited for.
        """
        missing = nbytes_ahead + nbytes - free
        if missing <= 0:
            return 0.0
        rate = self._rate()
        return None if rate is None or not in_flight else missing / rate

    def exceeds(self, deadline: float, nbytes_ahead: int, nbytes: int, free: int, in_flight: int) -> bool:
        """Whether one that comes now would surely be too late, so that it is better told so at once.

        How long the work itself takes counts for half of the deadline at most: it is known of all work together and
        not of this, so that the wait alone must exceed the deadline.

        Args:
            deadline: Seconds from now.
            nbytes_ahead: As of `predict_wait`.
            nbytes: As of `predict_wait`.
            free: As of `predict_wait`.
            in_flight: As of `predict_wait`.
        """
        wait = self.predict_wait(nbytes_ahead, nbytes, free, in_flight)
        if not wait:
            return False
        return wait + min(self._median, deadline * _SERVICE_SHARE) > deadline * _SAFETY

    def retry_after(self, nbytes_ahead: int, nbytes: int, free: int, in_flight: int) -> float:
        """Seconds after which another try is worth it, from 1 to 60; spread, so that not all come back at once.

        Args:
            nbytes_ahead: As of `predict_wait`.
            nbytes: As of `predict_wait`.
            free: As of `predict_wait`.
            in_flight: As of `predict_wait`.
        """
        wait = self.predict_wait(nbytes_ahead, nbytes, free, in_flight)
        seconds = self._median if wait is None else wait
        # The spread is kept at the upper end too.
        seconds = min(max(seconds, _RETRY_LEAST), _RETRY_MOST / (1.0 + _JITTER))
        return seconds * (1.0 + _JITTER * self._uniform())

    def _rate(self) -> float | None:
        """Bytes that come back in a second while somebody waits."""
        if self._releases < _EVIDENCE or self._seconds <= 0.0 or self._released <= 0.0:
            return None
        if self._since is None:
            return None
        age = self._clock.monotonic() - self._since
        return self._released / self._seconds if age <= max(_FRESH_SECONDS, _STALL_FACTOR * self._median) else None

    def _begin(self, first: list[float], held_seconds: float) -> None:
        insort(first, held_seconds)
        self._median = first[len(first) // 2]
        if len(first) >= _MEDIAN_OF:
            self._first = None
