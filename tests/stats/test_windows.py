"""The sliding extremes agree with the plain definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asyncmem.stats import CountWindowMaximum, SuffixMaximum

numbers = st.lists(st.integers(0, 50).map(float), min_size=1, max_size=60)


@given(values=numbers, size=st.integers(1, 10))
def test_count_window_is_the_maximum_of_the_last_values(values: list[float], size: int) -> None:
    """After each value the window answers as `max` over the last `size` would."""
    window = CountWindowMaximum(size)
    for i, value in enumerate(values):
        assert window.add(value) == max(values[max(0, i + 1 - size) : i + 1])
    assert len(window) == min(size, len(values))


@given(values=numbers, position=st.integers(0, 60))
def test_suffix_maximum_answers_for_every_start(values: list[float], position: int) -> None:
    """Asked for any earlier moment it gives the maximum since then."""
    suffix = SuffixMaximum()
    for value in values:
        suffix.add(value)
    assert suffix.since(position) == max(values[position:], default=0.0)
    assert suffix.position == len(values)
    suffix.forget()
    assert suffix.since(0) == 0.0


@given(values=st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=200), position=st.integers(0, 200))
def test_a_full_suffix_maximum_never_says_too_little(values: list[float], position: int) -> None:
    """Bounded, it forgets where old peaks were, and then errs upwards only."""
    suffix = SuffixMaximum(max_size=4)
    for value in values:
        suffix.add(value)
    assert suffix.since(position) >= max(values[position:], default=0.0)
    assert suffix.since(position) <= max(values)
    assert len(suffix._values) <= 4


def test_suffix_maximum_stays_bounded_on_falling_values() -> None:
    """The worst case, values that fall for ever, keeps no more than it may."""
    suffix = SuffixMaximum(max_size=64)
    for value in range(10_000, 0, -1):
        suffix.add(float(value))
    assert len(suffix._values) <= 64
    assert suffix.since(0) == 10_000
