"""What the cost model asks of a permit, and what the controller asks of a cost model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["CostModel", "Running", "TaskClassCost", "TaskCosts"]


class TaskClassCost(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one task class."""

    cost: int | None
    """Bytes that the next task of unknown size reserves; None while nothing is known."""
    peak: int
    """What a task needs at its peak on average, in bytes."""
    spread: int
    """Standard deviation of these peaks, in bytes, at the same size."""
    per_byte: float
    """Bytes of memory per byte of input; 0 where the size of the input does not matter or is not given."""
    samples: int
    """Tasks that taught it so far."""
    in_flight: int
    """Its tasks that run now."""
    coverage_alone: float | None
    """Share of the tasks that ran alone whose peak was within what they had reserved; None where none ran alone."""


class Running(Protocol):
    """A task in flight, as the cost model sees it: a permit."""

    admitted_at: float
    """Monotonic seconds."""
    reserved: int
    """Bytes."""
    size: float
    """Size of the input in bytes; 0 where unknown."""
    is_open: bool
    """Whether it still runs."""
    stage: int
    """The model's own mark; -1 until a sample has seen the task."""
    taken: int
    """Bytes that it holds, as measured in its own steps; -1 where they are not measured."""
    measured: int
    """The most that it held."""
    is_stepping: bool
    """It is in the midst of a step that is being measured, so that `taken` is as of its begin."""
    declared: bool
    """Its cost was said by whoever asked for it: all of it is kept for it, whatever it turns out to need."""
    guessed: bool
    """It was reserved on a prior, neither on knowledge nor on a declaration."""


class TaskCosts(Protocol):
    """One task class. All calls are made under the gate's lock."""

    @property
    def steady_price(self) -> int:
        """What `price` says where the size is unknown, whatever room there is; 0 where nothing is known."""
        ...

    def price(self, size: float, most: int) -> int:
        """Bytes to reserve for the next task; more than `most` only where it needs that even without a margin.

        Args:
            size: Size of its input in bytes; 0 where unknown.
            most: Bytes that could be promised if nothing were in flight.
        """
        ...

    def is_known(self) -> bool:
        """Whether prices come from evidence."""
        ...

    def may_start(self, now: float) -> bool:
        """Whether another task may start: an unknown class has little company of its own kind."""
        ...

    def enter(self, running: Running) -> None:
        """A task was admitted."""
        ...

    def leave(self, running: Running, now: float, *, learn: bool) -> None:
        """A task has ended.

        Args:
            running: The same object that entered.
            now: Monotonic seconds.
            learn: Whether it ran to its end, so that it teaches something.
        """
        ...


class CostModel(Protocol):
    """Learns what tasks cost from the bytes that the process holds. All calls are made under the gate's lock."""

    held: float
    """Bytes that the tasks in flight are believed to hold, as of the last sample; tasks that left are subtracted."""
    to_come: float
    """Bytes that the tasks in flight may still add, as of the last sample; tasks it has not seen count whole."""
    unneeded: float
    """Bytes that the tasks in flight have reserved and surely will not need, as of the last sample; 0 where that cannot
    be told."""
    sampled_at: float
    """Monotonic seconds of the last reading that was taken in."""
    version: int
    """Goes up whenever a price may have changed."""

    def find(self, name: str) -> TaskCosts:
        """The class of that name; made on demand."""
        ...

    def sample(self, live: int | None, now: float, waiting: int = 0) -> None:
        """Take in a reading.

        Args:
            live: Bytes that the process holds; None where there is no true figure now.
            now: Monotonic seconds.
            waiting: Bytes of these that those in the queue may take by waiting, at most: no task's.
        """
        ...

    def followed(self) -> Sequence[Running]:
        """The tasks in flight that samples have seen and that may hold much, oldest first."""
        ...

    def statistics(self) -> Mapping[str, TaskClassCost]:
        """What is known, by class."""
        ...

    def promised(self) -> Mapping[str, int]:
        """Bytes promised to the tasks in flight, by class; an estimate will do. None of a class that has none."""
        ...

    def dump(self) -> Callable[[], bytes]:
        """What was learned, for `load` after a restart: copied at once, and put into words by what this returns."""
        ...

    def load(self, data: bytes) -> None:
        """Begin with what another process has learned.

        Raises:
            ValueError: It is nothing that `dump` has written.
        """
        ...
