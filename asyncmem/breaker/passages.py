"""One piece of work that passes a breaker, from its begin to its end.

A `Passage` holds its own ticket, so it may be left in another task or thread than it was entered in. Where it is lost
without having been left (a generator that nobody closes), its place comes back when it is collected. An interrupt
between taking a place and knowing of it costs the place until the longest backoff is over, as `states` has it.

Work inside a probe is part of it and passes without a place of its own: in the same task, in the tasks that it starts,
in the threads that it awaits. Else a probe that passes the same breaker twice would stop itself, and the breaker would
never close. A context variable tells; it is set for probes only, so it costs nothing while the breaker is closed.

``with breaker:`` has no object for each entry. So what it holds is kept in that same variable, and `leave_within` takes
it from there at its end. Where such a block is left in another context than it was entered in (an asynchronous
generator that another task closes) it is not found; its place comes back when the task ends that entered it, and when
the longest backoff is over at the latest. ``with breaker.guard():`` has no such corner.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol, Self

from asyncmem.breaker.states import FREE, Outcome, outcome_of

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Door", "Passage", "leave_within", "pass_within", "probe_here"]


class Door(Protocol):
    """What a passage leads through."""

    def begin(self) -> int:
        """Let work pass.

        Returns:
            The ticket of a probe; 0 for work that is none; minus the ticket of the probe that it is a part of.

        Raises:
            CircuitOpenError: It must not pass.
        """
        ...

    def end(self, ticket: int, outcome: Outcome) -> None:
        """Take in how the work has ended. Never waits."""
        ...

    def is_running(self, ticket: int) -> bool:
        """Whether a probe holds its place."""
        ...


class _Place:
    """A probe's place, which comes back by itself when nobody holds it any more."""

    __slots__ = ("_door", "ticket")

    def __init__(self, door: Door, ticket: int) -> None:
        self._door: Final = door
        self.ticket = ticket

    def __del__(self) -> None:
        self.leave(Outcome.NEITHER)

    def leave(self, outcome: Outcome) -> None:
        """Give it back; once."""
        ticket, self.ticket = self.ticket, FREE
        if ticket != FREE:
            self._door.end(ticket, outcome)


class _Mark:
    """Says to what runs in this context that it is part of a probe.

    Args:
        door: What the probe has passed.
        ticket: The probe's.
        is_nameless: Whether a block without an object of its own has put it here, and is to take it away.
        place: What such a block holds.
    """

    __slots__ = ("_parent", "_place", "door", "is_left", "is_nameless", "ticket")

    def __init__(self, door: Door, ticket: int, *, is_nameless: bool = False, place: _Place | None = None) -> None:
        parent: _Mark | None = _inside.get()
        while parent is not None and parent.is_over:
            parent = parent.outer
        self.door: Final = door
        self.ticket: Final = ticket
        self.is_nameless: Final = is_nameless
        self.is_left = False
        self._parent: Final = parent
        self._place: Final = place
        _inside.set(self)

    @property
    def outer(self) -> _Mark | None:
        """What was there before."""
        return self._parent

    @property
    def is_over(self) -> bool:
        """Whether it says nothing any more."""
        return self.is_left or not self.door.is_running(self.ticket)

    def leave(self) -> _Place | None:
        """Take it away; returns the place that its block held."""
        self.is_left = True
        if _inside.get() is self:
            _inside.set(self._parent)
        return self._place


_inside: Final[ContextVar[_Mark | None]] = ContextVar("asyncmem_breaker", default=None)


class Passage:
    """The way of one piece of work through a breaker: ``with`` or ``async with``, once. See `CircuitBreaker.guard`."""

    __slots__ = ("_door", "_entered", "_mark", "_place")

    def __init__(self, door: Door) -> None:
        self._door: Final = door
        self._entered = False
        self._place: _Place | None = None
        self._mark: _Mark | None = None

    def __enter__(self) -> Self:
        """Pass.

        Raises:
            CircuitOpenError: The breaker is open, or half-open and there is no place for another probe.
            RuntimeError: It was entered before.
        """
        if self._entered:
            raise RuntimeError("this passage was entered before; call breaker.guard() again for each block")
        self._entered = True
        ticket = self._door.begin()
        if ticket > FREE:
            self._place = _Place(self._door, ticket)
            self._mark = _Mark(self._door, ticket)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._place is None:
            if error is not None:
                self._door.end(FREE, outcome_of(error))
            return
        assert self._mark is not None
        self._mark.leave()
        self._place.leave(outcome_of(error))

    async def __aenter__(self) -> Self:
        """Pass; as ``with``, and never waits."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


def pass_within(door: Door) -> None:
    """Begin a block that has no object of its own; `leave_within` ends it.

    Raises:
        CircuitOpenError: It must not pass.
    """
    ticket = door.begin()
    if ticket != FREE:
        place = _Place(door, ticket) if ticket > FREE else None
        _Mark(door, abs(ticket), is_nameless=True, place=place)


def leave_within(door: Door, outcome: Outcome) -> None:
    """End the innermost block without an object of its own that was begun in this context."""
    place: _Place | None = None
    mark = _inside.get()
    while mark is not None:
        if mark.door is door and mark.is_nameless and not mark.is_over:
            place = mark.leave()
            break
        mark = mark.outer
    if place is None:
        door.end(FREE, outcome)
    else:
        place.leave(outcome)


def probe_here(door: Door) -> int:
    """The ticket of the probe that this is part of; 0 where it is none."""
    mark = _inside.get()
    while mark is not None:
        if mark.door is door and not mark.is_over:
            return mark.ticket
        mark = mark.outer
    return FREE
