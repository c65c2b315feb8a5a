"""Whatever reclaimers take and gain, and whatever pressure does, reclaim takes no more than its share of the time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from asyncmem.events import PressureLevel
from asyncmem.reclaim import Reclaim, ReclaimHook
from asyncmem.testing import ManualClock

MIB = 1024 * 1024
LEVELS = list(PressureLevel)


class Cache:
    """A cache that takes its time."""

    name = "cache"
    essential = False

    def __init__(self, clock: ManualClock, seconds: float, gains: int) -> None:
        self._clock = clock
        self._seconds = seconds
        self._gains = gains
        self.calls: list[tuple[float, PressureLevel]] = []

    def shrink(self, level: PressureLevel) -> int:
        """Take the time."""
        self.calls.append((self._clock.monotonic(), level))
        self._clock.advance(self._seconds)
        return self._gains


@settings(max_examples=200, deadline=None)
@given(
    seconds=st.floats(0.001, 2.0),
    other=st.floats(0.0, 1.0),
    gains=st.sampled_from([1, 5 * MIB]),
    steps=st.lists(st.tuples(st.floats(0.01, 30.0), st.sampled_from(LEVELS), st.booleans()), min_size=1, max_size=60),
)
def test_time_is_capped_for_any_course_of_pressure(
    seconds: float, other: float, gains: int, steps: list[tuple[float, PressureLevel, bool]]
) -> None:
    """A twentieth, and at most the three runs by which a risen level may be ahead of that; each lane by itself."""
    clock = ManualClock()
    cache = Cache(clock, seconds, gains)
    quiet_seconds = 0.0

    def trim() -> int:
        clock.advance(other)
        return gains

    reclaim = Reclaim(lambda: 1000 * MIB, [ReclaimHook("trim", trim, quiet=True)], clock=clock)
    reclaim.add(cache)
    for wait, level, quiet in steps:
        clock.advance(wait)
        report = reclaim.run(level=level, quiet=quiet)
        quiet_seconds += report.seconds if quiet else 0.0
    elapsed = clock.monotonic()
    loud_seconds = reclaim.statistics().seconds - quiet_seconds
    longest = seconds + other
    slack = 1e-6
    assert loud_seconds <= elapsed / 20 + 4 * longest + slack  # the last run has its pause before it
    assert quiet_seconds <= elapsed / 20 + 4 * longest + slack


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(LEVELS[1:]), min_size=1, max_size=50))
def test_between_two_pauses_there_is_one_run_for_each_level(levels: list[PressureLevel]) -> None:
    """However often the level goes up and down: runs that come before their time are for levels ever higher."""
    clock = ManualClock()
    cache = Cache(clock, 1.0, 5 * MIB)
    reclaim = Reclaim(lambda: 1000 * MIB, clock=clock)
    reclaim.add(cache)
    for level in levels:
        reclaim.run(level=level)
        clock.advance(0.1)
    ranks = [level.rank for _, level in cache.calls]
    assert clock.monotonic() < 20 * 1.0, "else this shows nothing"
    assert ranks == sorted(set(ranks))
