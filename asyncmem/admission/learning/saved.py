"""What was learned, on its way through a restart.

A dozen peaks per class say about what a hundred do: they are chosen evenly from the least to the largest, so line,
spread and quantile come out again, and being few they are soon overruled by what the new process sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from asyncmem.admission.learning.running import MOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from asyncmem.admission.learning.task_class import TaskClass

__all__ = ["SavedClass", "dump_classes", "load_classes"]

_FORMAT: Final = "asyncmem costs"
_VERSION: Final = 1
_PEAKS: Final = 12
_MOST: Final = 1e24


class SavedClass(msgspec.Struct, frozen=True):
    """What is saved of one class; amounts in MiB."""

    peaks: list[tuple[float, float, float]]
    """Size, peak and variance of some tasks."""
    growth: list[tuple[int, float, float]]
    """What tasks add after each stage: how many have taught it, mean and variance relative to the peak."""
    begin: tuple[float, float]
    """What a task holds when it is seen first: mean and variance relative to the peak."""
    fall: float
    """What a task gives back before its end, relative to the peak."""


class _Saved(msgspec.Struct, frozen=True):
    format: str
    version: int
    classes: dict[str, SavedClass]


def dump_classes(classes: Mapping[str, TaskClass]) -> Callable[[], bytes]:
    """All classes of which something is known: copied at once, and written as JSON by what this returns."""
    copied = {name: found.saved(_PEAKS) for name, found in classes.items() if found.evidence.peaks}

    def write() -> bytes:
        saved = {name: sum_up() for name, sum_up in copied.items()}
        return msgspec.json.encode(_Saved(_FORMAT, _VERSION, saved))

    return write


def load_classes(data: bytes, most: int) -> Iterator[tuple[str, SavedClass]]:
    """What `dump_classes` has written, at most so many classes of it.

    Raises:
        ValueError: It did not write that.
    """
    try:
        saved = msgspec.json.decode(data, type=_Saved)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(
            f"saved costs: got {data[:40]!r}; expected what LearnedCostModel.dump wrote ({error}); "
            "delete them, and costs are learned anew"
        ) from error
    if saved.format != _FORMAT or saved.version != _VERSION:
        raise ValueError(
            f"saved costs: got format {saved.format!r}, version {saved.version}; expected {_FORMAT!r}, {_VERSION}; "
            "delete them, and costs are learned anew"
        )
    for name, entry in saved.classes.items():
        rows = (*entry.peaks, *entry.growth, entry.begin, (entry.fall,))
        fits = all(size <= MOST and peak <= MOST for size, peak, _ in entry.peaks)
        if not entry.peaks or not fits or not all(0.0 <= number <= _MOST for row in rows for number in row):
            raise ValueError(
                f"saved costs of {name!r}: got {entry}; expected one peak at least, below {MOST} MiB, "
                f"and numbers from 0 to {_MOST}; delete them, and costs are learned anew"
            )
    yield from [*saved.classes.items()][-most:]
