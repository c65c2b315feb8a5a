"""What a task of a class costs, learned from those that ran.

A task class is a route or a job name. `CostModel` is the place to put another way of learning; `WindowedCostModel` is
the simple one: it reserves the largest of the last peaks and a margin. Peaks of tasks that overlap are told apart by
`attribution`.

Not covered here: the size of the input (two classes for small and large input are the caller's to name), growth by
age, and persistence.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from asyncmem.stats import CountWindowMaximum

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CostModel", "TaskClassCost", "WindowedCostModel"]


class TaskClassCost(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one task class."""

    cost: int | None
    """Bytes that the next task without a declared cost reserves; None while nothing is known."""
    peak: int
    """Largest peak in the window, in bytes, as far as overlapping tasks can be told apart."""
    samples: int
    """Tasks that taught it."""


class CostModel(Protocol):
    """Learns costs. Called under the gate's lock; must be quick."""

    def estimate(self, task_class: str, most: int) -> int:
        """Bytes to reserve for a task of the class.

        Args:
            task_class: The class.
            most: Bytes that could be promised if nothing were in flight.
        """
        ...

    def observe(self, task_class: str, peak: float) -> None:
        """Learn from a task that has finished with a peak of so many bytes."""
        ...

    def statistics(self) -> Mapping[str, TaskClassCost]:
        """What is known, by class."""
        ...


_FLOOR: Final = 64 * 1024
"""The least a task is taken to cost: its own frames, a request, an answer."""
_MARGIN: Final = 1.25
"""Reserved over the largest peak seen, for the next may be larger."""
_FIRST_MARGIN: Final = 2.0
_FIRST_SAMPLES: Final = 3
"""Until so many tasks have run, the margin is `_FIRST_MARGIN`."""
_UNKNOWN_SHARE: Final = 4
"""An unknown class reserves this fraction of what there is, so that it starts with little company; but it starts, and
does not wait for a solitude that busy traffic never gives."""


class _Class:
    __slots__ = ("cost", "peak", "samples", "window")

    def __init__(self, window: int) -> None:
        self.window = CountWindowMaximum(window)
        self.cost: int | None = None
        self.peak = 0
        self.samples = 0


class WindowedCostModel:
    """Reserves the largest of the last peaks of the class and a margin of 25 %.

    Args:
        window: Tasks that are remembered per class; an outlier is forgotten after as many.
        max_classes: Classes that are remembered; then the one that was not seen for longest is forgotten, so that names
            that come from outside cannot fill the memory.
    """

    __slots__ = ("_classes", "_max_classes", "_window")

    def __init__(self, *, window: int = 256, max_classes: int = 1000) -> None:
        self._classes: OrderedDict[str, _Class] = OrderedDict()
        self._window = window
        self._max_classes = max_classes

    def estimate(self, task_class: str, most: int) -> int:
        """The learned cost; a quarter of `most` while nothing is known."""
        known = self._classes.get(task_class)
        if known is None or known.cost is None:
            return max(_FLOOR, most // _UNKNOWN_SHARE)
        return known.cost

    def observe(self, task_class: str, peak: float) -> None:
        """Learn from one task."""
        known = self._classes.get(task_class)
        if known is None:
            if len(self._classes) >= self._max_classes:
                self._classes.popitem(last=False)
            known = self._classes[task_class] = _Class(self._window)
        else:
            self._classes.move_to_end(task_class)
        known.samples += 1
        known.peak = int(known.window.add(peak))
        margin = _FIRST_MARGIN if known.samples < _FIRST_SAMPLES else _MARGIN
        known.cost = max(_FLOOR, int(known.peak * margin))

    def statistics(self) -> dict[str, TaskClassCost]:
        """What is known, by class."""
        return {
            name: TaskClassCost(cost=known.cost, peak=known.peak, samples=known.samples)
            for name, known in list(self._classes.items())
        }
