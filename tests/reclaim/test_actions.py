"""What is done at each level, as data."""

from __future__ import annotations

from typing import Any

import pytest

from asyncmem.errors import ConfigError
from asyncmem.events import PressureLevel
from asyncmem.reclaim import PressureAction, PressureActions
from asyncmem.reclaim.actions import checked_actions

LOW, MEDIUM, HIGH, CRITICAL = PressureLevel


def spill(level: PressureLevel) -> None:
    """A function of the user's."""


async def awaited(level: PressureLevel) -> None:
    """One that is not for a thread."""


def test_the_defaults_are_as_documented() -> None:
    """Each level does what the one below it does, and more."""
    actions = checked_actions(None)
    assert actions.named(LOW) == {"relax"}
    assert actions.named(MEDIUM) == {"shrink", "collect_young", "trim"}
    assert actions.named(HIGH) == actions.named(CRITICAL) == set(PressureAction) - {"relax"}
    assert [actions.sheds(level) for level in PressureLevel] == [False, False, True, True]


def test_a_level_is_replaced_and_the_others_stay() -> None:
    """By names, members and functions, in any kind of row."""
    actions = PressureActions(high=["trim", PressureAction.SHRINK, spill], medium=())  # type: ignore[arg-type]
    assert actions.of(HIGH) == (PressureAction.TRIM, PressureAction.SHRINK, spill)
    assert actions.functions(HIGH) == (spill,)
    assert actions.named(HIGH) == {"trim", "shrink"}
    assert not actions.sheds(HIGH)
    assert actions.of(MEDIUM) == ()
    assert actions.of(CRITICAL) == PressureActions().of(CRITICAL)
    assert checked_actions(actions) is actions


@pytest.mark.parametrize(
    ("level", "wrong", "message"),
    [
        (
            "high",
            ("trimm",),
            r"high: got 'trimm', .* expected 'shrink', 'collect_young', 'collect', 'trim', 'reclaim', ",
        ),
        ("high", ("relax",), "high: got 'relax', which is no action"),
        ("low", ("trim",), "low: got 'trim', which is no action; expected 'relax', or a function of the level"),
        ("medium", "trim", r"medium: got 'trim'; expected a tuple of actions, for example \('shrink', 'trim'\)"),
        ("medium", None, "medium: got None; expected a tuple"),
        ("critical", (3,), "critical: got 3, which is no action"),
        ("critical", (awaited,), "critical: got the coroutine function .*awaited.* or use on_critical"),
    ],
)
def test_what_is_no_action_is_refused(level: str, wrong: Any, message: str) -> None:
    """With the level, what was met, and what there is."""
    with pytest.raises(ConfigError, match=message):
        PressureActions(**{level: wrong})


def test_actions_of_another_kind_are_refused() -> None:
    """A dictionary is none, however sensible it looks."""
    with pytest.raises(ConfigError, match=r"actions: got \{'high': \[\]\}; expected PressureActions\("):
        checked_actions({"high": []})
