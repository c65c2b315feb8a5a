"""What is done at each pressure level, as data.

========= ============================================================================================
level     by default
========= ============================================================================================
MEDIUM    shrink what is `Shrinkable`, collect young garbage, trim the heap
HIGH      the same at that level, the user's reclaimers and all garbage too; shed work of low priority
CRITICAL  the same at that level, and what is essential shrinks last
LOW       tell what was shrunk that it may grow again
========= ============================================================================================

A level's actions are a tuple of names (`PressureAction`) and functions; another tuple replaces them::

    MemoryRuntime(config, actions=PressureActions(high=("shed_low", "shrink", "trim", spill_to_disk)))

Their order says nothing: reclaim goes in order of cost, and stops when memory is back below the level.

That admission stops at `CRITICAL`, and ends work that is safe to repeat, needs no action: it never promises what there
is not (`asyncmem.admission`). Does not cover who runs them (`worker`), nor how often is too often (`coordinator`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

from asyncmem.errors import ConfigError
from asyncmem.events import PressureLevel

__all__ = ["Action", "PressureAction", "PressureActions", "checked_actions"]


class PressureAction(StrEnum):
    """What can be done about pressure without writing a line."""

    SHRINK = "shrink"
    """Tell all that is `Shrinkable` the level."""
    COLLECT_YOUNG = "collect_young"
    """Collect the young generations of garbage: a millisecond."""
    COLLECT = "collect"
    """Collect all garbage: 50 ms for a million objects, half a minute apart."""
    TRIM = "trim"
    """Give back the heap's free pages, where that pays."""
    RECLAIM = "reclaim"
    """Run the reclaimers that the user has added."""
    SHED_LOW = "shed_low"
    """Refuse work of low priority for as long as the level lasts, unless nothing is in flight."""
    RELAX = "relax"
    """Tell what was shrunk that pressure is over; at `LOW` only."""


Action = PressureAction | str | Callable[[PressureLevel], object]
"""A name of what is built in, or a function that is called with the level.

It is called in a thread of the runtime's, measured, counted and capped like a reclaimer: when it returns bytes or
memory falls it is called again soon, otherwise ever more seldom.
"""
_Known = PressureAction | Callable[[PressureLevel], object]

_RECLAIMING: Final = (
    PressureAction.COLLECT_YOUNG,
    PressureAction.TRIM,
    PressureAction.SHRINK,
    PressureAction.RECLAIM,
    PressureAction.COLLECT,
)
_AT_LOW: Final = frozenset({PressureAction.RELAX})
_ABOVE_LOW: Final = frozenset(PressureAction) - _AT_LOW


@dataclass(frozen=True, slots=True, kw_only=True)
class PressureActions:
    """The actions of each level. A level that is left out keeps its default; an empty tuple is for nothing.

    Args:
        low: On return to `LOW`.
        medium: At `MEDIUM`.
        high: At `HIGH`.
        critical: At `CRITICAL`.

    Raises:
        ConfigError: Something is neither the name of an action that its level can have, nor a plain function.
    """

    low: tuple[Action, ...] = (PressureAction.RELAX,)
    medium: tuple[Action, ...] = (PressureAction.SHRINK, PressureAction.COLLECT_YOUNG, PressureAction.TRIM)
    high: tuple[Action, ...] = (PressureAction.SHED_LOW, *_RECLAIMING)
    critical: tuple[Action, ...] = (PressureAction.SHED_LOW, *_RECLAIMING)

    def __post_init__(self) -> None:
        """Check them."""
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field.name, getattr(self, field.name)))

    def sheds(self, level: PressureLevel) -> bool:
        """Whether work of low priority is refused at a level."""
        return PressureAction.SHED_LOW in self.of(level)

    def of(self, level: PressureLevel) -> tuple[Action, ...]:
        """The actions of a level."""
        actions: tuple[Action, ...] = getattr(self, level.value)
        return actions

    def named(self, level: PressureLevel) -> frozenset[PressureAction]:
        """Those of a level that are built in."""
        return frozenset(action for action in self.of(level) if isinstance(action, PressureAction))

    def functions(self, level: PressureLevel) -> tuple[Callable[[PressureLevel], object], ...]:
        """Those of a level that are functions."""
        return tuple(action for action in self.of(level) if callable(action))


def checked_actions(actions: object) -> PressureActions:
    """What was given as actions, or the defaults for None.

    Raises:
        ConfigError: It is something else.
    """
    if actions is None:
        return PressureActions()
    if not isinstance(actions, PressureActions):
        raise ConfigError(f"actions: got {actions!r}; expected PressureActions(medium=…, high=…, critical=…, low=…)")
    return actions


def _checked(level: str, actions: object) -> tuple[_Known, ...]:
    if isinstance(actions, str) or not isinstance(actions, Iterable):
        raise ConfigError(f"{level}: got {actions!r}; expected a tuple of actions, for example ('shrink', 'trim')")
    return tuple(_known(level, action) for action in actions)


def _known(level: str, action: object) -> _Known:
    possible = _AT_LOW if level == PressureLevel.LOW else _ABOVE_LOW
    if isinstance(action, str):
        if action in possible:
            return PressureAction(action)
    elif callable(action):
        if inspect.iscoroutinefunction(action) or inspect.iscoroutinefunction(type(action).__call__):
            raise ConfigError(
                f"{level}: got the coroutine function {action!r}; actions are called in a thread, so give a plain one, "
                "or use on_critical for what must be awaited"
            )
        return action
    names = ", ".join(repr(name.value) for name in PressureAction if name in possible)
    raise ConfigError(f"{level}: got {action!r}, which is no action; expected {names}, or a function of the level")
