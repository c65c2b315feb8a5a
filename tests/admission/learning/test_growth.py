"""What tasks still add, by their age and by what they hold."""

from __future__ import annotations

from math import inf

import pytest

from asyncmem.admission.learning.growth import Growth, kind_of
from asyncmem.admission.learning.stages import STAGES

SMALL = 1 << kind_of(2.0)
BEGUN = SMALL | 1 << kind_of(0.0)
LARGE = 1 << kind_of(0.0) | 1 << kind_of(100.0)


def learned(*peaks: tuple[int, float], sized: bool = False) -> Growth:
    """A class of which tasks with these kinds and peaks have ended."""
    growth = Growth()
    for kinds, peak in peaks:
        growth.learn_peak(kinds, peak, sized=sized)
    return growth


def test_kinds_are_powers_of_four() -> None:
    """From a quarter of a MiB on; what is less has not begun."""
    levels = [0.0, 0.2, 0.25, 0.9, 1.0, 3.9, 4.0, 15.9, 16.0, 64.0]
    assert [kind_of(level) for level in levels] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5]


def test_what_nobody_has_shown_is_not_known() -> None:
    """Thirty-two tasks of the kind say what it comes to need; before that it may be anything."""
    few = learned(*[(SMALL, 3.0)] * 31)
    assert few.highest(2.0, 2.0, sized=False) == inf
    few.learn_peak(SMALL, 3.0, sized=False)
    assert few.highest(2.0, 2.0, sized=False) == 3.0
    assert few.highest(5.0, 5.0, sized=False) == inf


def test_one_in_ten_is_large_and_the_others_show_that_they_are_not() -> None:
    """Those that have not begun may be either; those that hold a little are none of the large ones."""
    growth = learned(*[*[(BEGUN, 3.0)] * 9, (LARGE, 120.0)] * 10)
    assert growth.highest(0.0, 0.0, sized=False) == 120.0
    assert growth.highest(2.0, 2.0, sized=False) == 3.0


def test_what_is_held_may_be_more_than_is_known() -> None:
    """Of all kinds between the two, the one that came to need most counts; one that nobody was of may need anything."""
    growth = learned(*[*[(BEGUN, 3.0)] * 9, (LARGE, 120.0)] * 10)
    assert growth.highest(0.0, 0.3, sized=False) == inf
    assert growth.highest(0.0, 0.2, sized=False) == 120.0
    for _ in range(40):
        growth.learn_peak(1 << kind_of(0.5), 1.0, sized=False)
    assert growth.highest(0.0, 2.0, sized=False) == 120.0
    assert growth.highest(0.5, 2.0, sized=False) == 3.0


def test_some_that_began_small_and_became_large_are_remembered() -> None:
    """A single one may be what was taken for another's; two are believed, for sixty-four tasks at least."""
    growth = learned(*[(SMALL, 3.0)] * 40, (SMALL, 120.0))
    assert growth.highest(2.0, 2.0, sized=False) == 3.0
    growth.learn_peak(SMALL, 110.0, sized=False)
    for _ in range(64):
        assert growth.highest(2.0, 2.0, sized=False) == 110.0
        growth.learn_peak(SMALL, 3.0, sized=False)
    for _ in range(64):
        growth.learn_peak(SMALL, 3.0, sized=False)
    assert growth.highest(2.0, 2.0, sized=False) == 3.0


def test_units_are_not_mixed() -> None:
    """When the size of the input begins to matter, what was learned in MiB counts no more, until it does not."""
    growth = learned(*[(SMALL, 3.0)] * 40)
    assert growth.highest(2.0, 2.0, sized=True) == inf
    for _ in range(40):
        growth.learn_peak(SMALL, 1.0, sized=True)
    assert growth.highest(2.0, 2.0, sized=True) == 1.0
    assert growth.highest(2.0, 2.0, sized=False) == 3.0


def test_what_tasks_of_an_age_add_is_an_upper_bound() -> None:
    """Unknown at first; saved and restored."""
    growth = Growth()
    assert growth.upper(0) == 2.0
    for added in (0.1, 0.3, 0.2, 0.4, 0.2, 0.3):
        growth.learn(1, added)
    assert 0.3 < growth.upper(1) < 0.6
    assert growth.upper(0) == 2.0
    other = Growth()
    other.restore(growth.saved())
    assert [other.upper(stage) for stage in range(STAGES)] == pytest.approx(
        [growth.upper(stage) for stage in range(STAGES)]
    )
