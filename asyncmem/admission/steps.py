"""Measures what a coroutine takes in its own steps, where it is not known to be small.

An event loop runs one task at a time. What the process holds more after a step than before it, that task has taken,
however many others are in flight: so the first tasks of a class are told apart from the others at once, where samples
of the whole would need to see many of them come and go. It costs two readings a step, some 30 µs, and so much in all
for one task.

What other threads do meanwhile is measured with it, and what the task has threads do is not. So the cost model believes
steps only while they explain what the process holds.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from asyncmem.admission.permit import Permit

__all__ = ["Stepped"]

T = TypeVar("T")
_MOST_STEPS: Final = 256
_MOST_SECONDS: Final = 0.01
"""Work of more steps, or for which reading has taken so long, is left to the samples: it streams, and would pay on."""
_BEGUN: Final = MIB // 4
"""Bytes that a task has taken that has begun to: from then on it may show what it will not need."""


class Stepped(Generic[T]):
    """Awaits work, and notes on its permit what its steps take.

    Args:
        work: A coroutine or another awaitable.
        permit: What it runs under.
        read: Bytes that the process holds; None where that cannot be had now.
        begun: Called when it has begun to take memory.
    """

    __slots__ = ("_begun", "_has_begun", "_permit", "_read", "_spent", "_steps", "_work")

    def __init__(
        self, work: Awaitable[T], permit: Permit, read: Callable[[], int | None], begun: Callable[[], object]
    ) -> None:
        self._work = work
        self._permit = permit
        self._read = read
        self._begun = begun
        self._has_begun = False
        self._steps = 0
        self._spent = 0.0

    def __await__(self) -> Generator[Any, Any, T]:
        steps: Generator[Any, Any, T] = self._work.__await__()
        self._permit.taken = self._permit.measured = 0
        value: Any = None
        error: BaseException | None = None
        while True:
            self._permit.is_stepping = True
            before = self._reading()
            try:
                if error is not None:
                    awaited = steps.throw(error)
                elif value is None:
                    awaited = next(steps)
                else:
                    awaited = steps.send(value)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self._note(before, self._reading())
            value = error = None
            try:
                value = yield awaited
            except BaseException as thrown:  # noqa: BLE001 - it is the work's
                error = thrown

    def _reading(self) -> int | None:
        if self._steps >= _MOST_STEPS or self._spent > _MOST_SECONDS:
            return None
        begin = perf_counter()
        held = self._read()
        self._spent += perf_counter() - begin
        return held

    def _note(self, before: int | None, after: int | None) -> None:
        permit = self._permit
        permit.is_stepping = False
        self._steps += 1
        if before is None or after is None:
            permit.measured = permit.taken = -1
        elif permit.taken >= 0:
            permit.taken = max(0, permit.taken + after - before)
            permit.measured = max(permit.measured, permit.taken)
            if permit.taken >= _BEGUN and not self._has_begun:
                self._has_begun = True
                self._begun()
