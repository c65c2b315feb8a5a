"""The pressure level: up at once, down when it is sure, never to and fro."""

from __future__ import annotations

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncmem.errors import ConfigError
from asyncmem.events import PressureLevel
from asyncmem.pressure import CALM_SAMPLES, CALM_SECONDS, PressureLevels

LOW, MEDIUM, HIGH, CRITICAL = PressureLevel
MIB = 1024 * 1024
LIMIT, GUARD = 10_000, 1000
"""`MEDIUM` from 7000 (kept to 6500), `HIGH` from 8500 (8000), `CRITICAL` from 9001 (8751)."""


class Samples:
    """Samples that come at a steady pace."""

    def __init__(self, levels: PressureLevels | None = None, *, period: float = 0.2) -> None:
        self.levels = PressureLevels() if levels is None else levels
        self.period = period
        self.now = 100.0

    def see(self, used: int, times: int = 1) -> PressureLevel:
        """So many samples of the same usage; returns the level after the last."""
        for _ in range(times):
            self.now += self.period
            self.levels.update(used, LIMIT, GUARD, self.now)
        return self.levels.level


@pytest.mark.parametrize(
    ("used", "level"),
    [
        (0, LOW),
        (6999, LOW),
        (7000, MEDIUM),
        (8499, MEDIUM),
        (8500, HIGH),
        (9000, HIGH),
        (9001, CRITICAL),
        (20_000, CRITICAL),
    ],
)
def test_a_level_is_entered_on_one_sample(used: int, level: PressureLevel) -> None:
    """From any level below it, several at once too; the whole capacity may be used without being critical."""
    assert Samples().see(used) is level


@pytest.mark.parametrize(("begin", "kept"), [(7000, 6500), (8500, 8000), (9001, 8751)])
def test_a_level_is_kept_down_to_its_lower_threshold(begin: int, kept: int) -> None:
    """However long it stays there; and one byte less for long enough ends it."""
    samples = Samples()
    level = samples.see(begin)
    assert samples.see(kept, times=100) is level
    assert samples.see(kept - 1, times=CALM_SAMPLES) < level


def test_it_takes_samples_and_time_to_leave() -> None:
    """Quick samples alone do not do it, nor does one after a long time."""
    quick = Samples(period=0.002)
    quick.see(9500)
    assert quick.see(0, times=100) is CRITICAL
    assert quick.see(0, times=int(CALM_SECONDS / 0.002)) is LOW

    slow = Samples(period=10.0)
    slow.see(9500)
    assert slow.see(0, times=CALM_SAMPLES - 1) is CRITICAL
    assert slow.see(0) is LOW


def test_one_sample_above_begins_the_calm_anew() -> None:
    """All of them in a row have to lie below."""
    samples = Samples()
    samples.see(9500)
    samples.see(0, times=CALM_SAMPLES - 1)
    samples.see(8751)
    assert samples.see(0, times=CALM_SAMPLES - 1) is CRITICAL
    assert samples.see(0) is LOW


def test_it_falls_to_where_the_worst_of_the_samples_belongs() -> None:
    """Several levels at once where that is so, and no lower than one of them says."""
    samples = Samples()
    samples.see(9500)
    samples.see(0, times=CALM_SAMPLES - 2)
    samples.see(6600)  # not enough to enter MEDIUM, enough to keep it
    assert samples.see(0) is MEDIUM
    assert samples.see(0, times=CALM_SAMPLES) is LOW


def test_a_lowered_limit_counts_at_once() -> None:
    """The thresholds move with it, both ways."""
    levels = PressureLevels()
    assert levels.update(5000, 10_000, 1000, 1.0) is LOW
    assert levels.update(5000, 5400, 600, 2.0) is CRITICAL
    for second in range(3, 3 + CALM_SAMPLES):
        levels.update(5000, 10_000, 1000, float(second))
    assert levels.level is LOW


def test_bytes_can_be_thresholds() -> None:
    """Also for what is critical, which is then left five points of the limit below."""
    samples = Samples(PressureLevels(medium=1000, high="2000", critical=3000))
    assert [samples.see(used) for used in (999, 1000, 2000, 2999, 3000)] == [LOW, MEDIUM, HIGH, HIGH, CRITICAL]
    assert samples.see(2500, times=20) is CRITICAL
    assert samples.see(2499, times=20) is HIGH


def test_a_small_container_keeps_the_levels_apart() -> None:
    """256 MiB with a guard band of 32: critical from 87.5 %, so the documented shares hold."""
    levels, limit, guard = PressureLevels(), 256 * MIB, 32 * MIB
    assert levels.update(int(0.86 * limit), limit, guard, 1.0) is HIGH
    assert levels.update(224 * MIB, limit, guard, 2.0) is HIGH
    assert levels.update(224 * MIB + 1, limit, guard, 3.0) is CRITICAL
    assert PressureLevels().update(int(0.84 * limit), limit, guard, 1.0) is MEDIUM


def test_a_wide_guard_band_moves_the_others_down() -> None:
    """Critical keeps its place; the others begin five points of the limit below each other."""
    levels = PressureLevels()
    seen = [levels.update(used, 1000, 400, float(used)) for used in (500, 501, 551, 600, 601)]
    assert seen == [LOW, MEDIUM, HIGH, HIGH, CRITICAL]


@pytest.mark.parametrize("value", ["much", "120%", -1])
def test_a_threshold_that_cannot_be_read_is_refused_at_once(value: int | str) -> None:
    """Not when memory is short."""
    with pytest.raises(ConfigError):
        PressureLevels(high=value)


def test_statistics_tell_the_time_at_each_level() -> None:
    """Up to the last sample, and how often it changed."""
    samples = Samples(period=1.0)
    assert samples.levels.statistics().since is None
    samples.see(0)
    assert samples.levels.statistics().since == 101.0
    samples.see(0, times=3)
    samples.see(8600, times=4)
    samples.see(0, times=CALM_SAMPLES + 1)
    statistics = samples.levels.statistics()
    assert statistics.level is LOW
    assert statistics.transitions == 2
    assert statistics.seconds == {"low": 5.0, "medium": 0.0, "high": 8.0, "critical": 0.0}
    assert statistics.since == 113.0


amounts = st.integers(0, 12_000)
steps = st.floats(0.001, 2.0)


@given(amounts, st.lists(st.tuples(amounts, steps)))
def test_one_sample_is_enough_to_enter_whatever_came_before(used: int, before: list[tuple[int, float]]) -> None:
    """The level is never below what the present sample alone would say."""
    levels, now = PressureLevels(), 0.0
    for amount, seconds in before:
        now += seconds
        levels.update(amount, LIMIT, GUARD, now)
    assert levels.update(used, LIMIT, GUARD, now + 1) >= PressureLevels().update(used, LIMIT, GUARD, 0.0)


@given(st.lists(st.integers(0, 12_000), min_size=2), st.integers(1, 9_999))
def test_more_used_is_never_a_lower_level(given_amounts: list[int], guard: int) -> None:
    """On entry, whatever the guard band."""
    levels = [PressureLevels().update(used, LIMIT, guard, 0.0) for used in sorted(given_amounts)]
    assert levels == sorted(levels)


@given(st.lists(st.tuples(amounts, steps), max_size=60))
def test_it_never_goes_down_in_a_hurry(samples: list[tuple[int, float]]) -> None:
    """Every fall is behind enough calm samples over enough time, none of which would have kept the level."""
    levels, now = PressureLevels(), 0.0
    seen: list[tuple[float, int]] = []
    kept = {MEDIUM: 6500, HIGH: 8000, CRITICAL: 8751}
    for used, seconds in samples:
        now += seconds
        seen.append((now, used))
        before = levels.level
        after = levels.update(used, LIMIT, GUARD, now)
        if after < before:
            calm = []
            for at, amount in reversed(seen):
                if amount >= kept[before]:
                    break
                calm.append(at)
            assert len(calm) >= CALM_SAMPLES
            assert calm[0] - calm[-1] >= CALM_SECONDS


@given(st.lists(st.tuples(st.integers(8752, 9001), steps), min_size=1, max_size=100))
def test_a_usage_about_a_threshold_does_not_flap(samples: list[tuple[int, float]]) -> None:
    """Between the upper and the lower threshold it changes twice at most: to HIGH, to CRITICAL, and there it stays."""
    levels, now = PressureLevels(), 0.0
    for used, seconds in samples:
        now += seconds
        levels.update(used, LIMIT, GUARD, now)
    assert levels.statistics().transitions <= 2


@given(st.lists(st.tuples(amounts, steps, st.integers(1, 20_000), st.integers(0, 20_000))))
def test_time_is_accounted_for_and_nothing_raises(samples: list[tuple[int, float, int, int]]) -> None:
    """Whatever limits and guard bands there are; the seconds at all levels are those that have passed."""
    levels, now = PressureLevels(), 5.0
    for used, seconds, limit, guard in samples:
        now += seconds
        levels.update(used, limit, guard, now)
    passed = sum(seconds for _, seconds, _, _ in samples[1:])
    assert sum(levels.statistics().seconds.values()) == pytest.approx(passed)


def test_levels_are_ordered_by_how_serious_they_are() -> None:
    """Not by the alphabet, though they are text for others."""
    assert LOW < MEDIUM < HIGH < CRITICAL
    assert CRITICAL > LOW
    assert LOW <= MEDIUM <= HIGH >= MEDIUM >= LOW
    assert max(PressureLevel) is CRITICAL
    assert [level.rank for level in PressureLevel] == [0, 1, 2, 3]
    assert f"{HIGH}" == "high"


def test_a_level_compares_with_text_that_names_one() -> None:
    """From either side; other text would be compared by the alphabet, which helps nobody."""
    assert HIGH > "low"
    assert "critical" > HIGH  # noqa: SIM300 - the other side is what is tested
    for compare in (operator.lt, operator.le, operator.gt, operator.ge):
        with pytest.raises(ValueError, match="'higher' is not a valid PressureLevel"):
            compare(HIGH, "higher")


def test_what_must_come_back_before_a_level_is_left() -> None:
    """In bytes; nothing at `LOW`, and where memory is below the level's lower threshold already."""
    levels = PressureLevels()
    assert (levels.excess, levels.latest) == (0, PressureLevel.LOW)
    for used, excess, latest in (
        (500, 0, PressureLevel.LOW),
        (900, 101, PressureLevel.HIGH),
        (820, 21, PressureLevel.MEDIUM),
        (799, 0, PressureLevel.MEDIUM),
        (100, 0, PressureLevel.LOW),
        (960, 961 - 938, PressureLevel.CRITICAL),
    ):
        levels.update(used * MIB, 1000 * MIB, 50 * MIB, 0.0)
        assert levels.latest is latest, used
        assert abs(levels.excess - excess * MIB) <= MIB, used
