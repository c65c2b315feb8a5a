"""How short memory is, in four levels, with hysteresis: up at once, down when it is sure.

A level is entered on one sample, for memory can be gone before a second one; several levels may be jumped. It is left
when `CALM_SAMPLES` samples in a row, over `CALM_SECONDS` at least, lie below its lower threshold. Samples alone will
not do, as they come faster the shorter memory is; time alone will not do, as a thread that was held up may have seen
one good moment only. Then the level falls to where the *worst* of these samples belongs, several levels at once where
that is so: time spent at a level that no reading supports any more would keep measures going that are not needed.

Covers the arithmetic. Does not cover what is done at a level (`reclaim`, admission, alerts), nor who measures. Needs no
clock and no thread of its own: the caller says what is used and when.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple

import msgspec

from asyncmem.events import PressureLevel
from asyncmem.units import MIB, parse_bytes

__all__ = ["CALM_SAMPLES", "CALM_SECONDS", "PressureLevels", "PressureStatistics"]

CALM_SAMPLES: Final = 5
"""Samples in a row that must lie below a level's lower threshold before it is left."""
CALM_SECONDS: Final = 0.5
"""Seconds that these samples must span at least."""
_GAP: Final = 20
"""`MEDIUM` and `HIGH` are left five points of a hundred (a 20th of the limit) below where they are entered."""
_GUARD_GAP: Final = 4
"""`CRITICAL` is left a quarter of the guard band below where it begins."""
_LEVELS: Final = tuple(PressureLevel)


class PressureStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a `PressureLevels` has seen."""

    level: PressureLevel
    """The level now."""
    since: float | None
    """When it was entered, in the caller's seconds; None before the first sample."""
    transitions: int
    """How often the level has changed."""
    seconds: dict[str, float]
    """Seconds spent at each level up to the last sample."""


class _Thresholds(NamedTuple):
    """Bytes from which on `MEDIUM`, `HIGH` and `CRITICAL` are entered, and kept; both in rising order."""

    enter: tuple[int, int, int]
    keep: tuple[int, int, int]


class _Calm(NamedTuple):
    """Samples in a row that lie below the level's lower threshold."""

    since: float
    samples: int
    rank: int
    """Where the worst of them belongs."""


class PressureLevels:
    """Tells the pressure level from what is used. One thread at a time may call `update`, any may read.

    Args:
        medium: Where `MEDIUM` begins: bytes, or text such as ``"70%"`` (of the limit) or ``"1.5GiB"``.
        high: Where `HIGH` begins, likewise.
        critical: Where `CRITICAL` begins, likewise; None for the guard band, as the promise has it.

    Where they do not rise in this order, as with a wide guard band, the more serious level keeps its place and the
    other begins five points of the limit below it.

    Raises:
        ConfigError: A threshold is neither a number of bytes nor a share.
    """

    def __init__(
        self, *, medium: int | str = "70%", high: int | str = "85%", critical: int | str | None = None
    ) -> None:
        self._medium: Final = medium
        self._high: Final = high
        self._critical: Final = critical
        self._thresholds: _Thresholds | None = None
        self._key: tuple[int, int] | None = None
        self._rank = self._latest = self._used = 0
        self._calm: _Calm | None = None
        self._since: float | None = None
        self._last: float | None = None
        self._transitions = 0
        self._seconds = [0.0] * len(_LEVELS)
        self._laid_out(MIB, 0)  # thresholds that cannot be read are refused here

    @property
    def level(self) -> PressureLevel:
        """The level at the last sample; `LOW` before the first."""
        return _LEVELS[self._rank]

    @property
    def latest(self) -> PressureLevel:
        """The level to which the last sample alone would have led: below `level` while that is about to be left."""
        return _LEVELS[self._latest]

    @property
    def excess(self) -> int:
        """Bytes of the last sample that must come back before the level is left; 0 where none, or at `LOW`."""
        if self._thresholds is None or not self._rank:
            return 0
        return max(0, self._used - self._thresholds.keep[self._rank - 1] + 1)

    def update(self, used: int, limit: int, guard: int, now: float) -> PressureLevel:
        """Take in a sample; about 1 µs.

        Args:
            used: Bytes in use that count towards the limit.
            limit: Bytes of the bound that is measured.
            guard: Bytes of the guard band below it.
            now: Seconds that only go forward.

        Returns:
            The level after it.
        """
        thresholds = self._thresholds
        if thresholds is None or self._key != (limit, guard):
            thresholds = self._thresholds = self._laid_out(limit, guard)
            self._key = (limit, guard)
        if self._last is None:
            self._since = now
        else:
            self._seconds[self._rank] += now - self._last
        self._last = now
        self._used = used
        entered = self._latest = bisect_right(thresholds.enter, used)
        if entered > self._rank:
            self._go(entered, now)
        elif self._rank:
            self._maybe_leave(bisect_right(thresholds.keep, used), now)
        return _LEVELS[self._rank]

    def statistics(self) -> PressureStatistics:
        """What has been seen until the last sample."""
        return PressureStatistics(
            level=self.level,
            since=self._since,
            transitions=self._transitions,
            seconds={level.value: self._seconds[level.rank] for level in _LEVELS},
        )

    def _maybe_leave(self, kept: int, now: float) -> None:
        if kept >= self._rank:
            self._calm = None
            return
        calm = self._calm
        self._calm = calm = (
            _Calm(now, 1, kept) if calm is None else _Calm(calm.since, calm.samples + 1, max(calm.rank, kept))
        )
        if calm.samples >= CALM_SAMPLES and now - calm.since >= CALM_SECONDS:
            self._go(calm.rank, now)

    def _go(self, rank: int, now: float) -> None:
        self._rank = rank
        self._calm = None
        self._since = now
        self._transitions += 1

    def _laid_out(self, limit: int, guard: int) -> _Thresholds:
        gap = max(1, limit // _GAP)
        if self._critical is None:
            # Capacity itself may be used to the last byte; the band begins above it.
            critical = limit - guard + 1
            keep_critical = critical - max(1, guard // _GUARD_GAP)
        else:
            critical = parse_bytes(self._critical, of=limit)
            keep_critical = critical - gap
        high = parse_bytes(self._high, of=limit)
        if high >= critical:
            high = critical - gap
        medium = parse_bytes(self._medium, of=limit)
        if medium >= high:
            medium = high - gap
        keep_high = min(high - gap, keep_critical)
        keep_medium = min(medium - gap, keep_high)
        # A level that would begin at nothing or below takes one byte to be in it.
        return _Thresholds(
            enter=(max(1, medium), max(1, high), max(1, critical)),
            keep=(max(1, keep_medium), max(1, keep_high), max(1, keep_critical)),
        )
