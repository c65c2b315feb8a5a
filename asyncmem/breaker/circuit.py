"""The state of a breaker and how it changes, apart from clocks, locks, meters and the work itself.

For whoever has these already: `asyncmem.breaker` shows how. `CircuitBreaker` is one that brings them. What each state
does is said in `states`. One thread at a time may call; reading an attribute is always allowed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, cast

import msgspec

from asyncmem.breaker.states import FREE, Closed, HalfOpen, Outcome, Rules
from asyncmem.breaker.thresholds import BELOW_CALM
from asyncmem.errors import ConfigError
from asyncmem.events import BreakerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.breaker.states import State
    from asyncmem.breaker.thresholds import Lines, Thresholds

__all__ = ["BreakerStatistics", "Circuit"]


class BreakerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a breaker has seen and done. Times are in seconds, amounts in bytes."""

    state: BreakerState
    """The state after the last look."""
    since: float | None
    """When it was entered, in monotonic seconds of the breaker's clock; None for the first."""
    used: int | None
    """In use at the last reading; None before the first."""
    limit: int | None
    """The limit at the last reading; None before the first."""
    warning_at: int | None
    """In use from which on there is a warning; None before the first reading."""
    open_at: int | None
    """In use from which on it opens; None before the first reading."""
    reset_at: int | None
    """There must be less than this in use for it to close again; None before the first reading."""
    backoff: float
    """How long it stays open, was open before it was half-open, or would be open."""
    retry_after: float
    """When another try is worth it, as far as can be foreseen."""
    opened: int
    """How often it has opened."""
    rejected: int
    """Pieces of work that it did not let pass."""
    probes: int
    """Pieces of work that have passed while it was half-open."""
    probes_running: int
    """Those of them that hold a place now."""
    memory_errors: int
    """How often work has run out of memory; once for each block that the error has left."""
    readings: int
    """Readings of memory."""
    unreadable: int
    """Readings that failed."""
    hook_errors: int
    """What `on_change` has raised."""


class Circuit:
    """Closed, warned, open or half-open, by readings and by how work ends.

    Args:
        thresholds: Where it warns and opens.
        backoff: Seconds that it stays open at first; twice as many each time that it fails to recover.
        max_backoff: Seconds that it stays open at most; a probe that lasts longer gives its place away.
        probes: Pieces of work that pass at a time while it is half-open; as many have to go well for it to close.
        on_change: Called at each change with the state before and the state after, at once.

    Raises:
        ConfigError: Times or a number that cannot be.
    """

    __slots__ = (
        "_on_change",
        "_place",
        "_read_at",
        "_state",
        "_thresholds",
        "failures",
        "limit",
        "lines",
        "opened",
        "passes",
        "probes",
        "readings",
        "rejected",
        "unreadable",
        "used",
    )

    def __init__(
        self,
        thresholds: Thresholds,
        *,
        backoff: float = 1.0,
        max_backoff: float = 60.0,
        probes: int = 1,
        on_change: Callable[[BreakerState, BreakerState], object] | None = None,
    ) -> None:
        rules = Rules(_seconds("backoff", backoff), _seconds("max_backoff", max_backoff), probes)
        if rules.max_backoff < rules.backoff:
            raise ConfigError(
                f"max_backoff={max_backoff!r} is less than backoff={backoff!r}; expected at least as many seconds"
            )
        if isinstance(probes, bool) or not isinstance(cast("object", probes), int) or probes < 1:
            raise ConfigError(f"probes: got {probes!r}; expected a whole number from 1")
        self._thresholds: Final = thresholds
        self._on_change: Final = on_change
        self._state: State = Closed(rules, None)
        self._place = BELOW_CALM
        self._read_at = -math.inf
        self.passes = True
        """Whether all work passes."""
        self.used: int | None = None
        """Bytes in use at the last reading; None before the first."""
        self.limit: int | None = None
        """Bytes of the limit at the last reading; None before the first."""
        self.lines: Lines | None = None
        """What the thresholds were in bytes then."""
        self.opened = 0
        """How often it has opened."""
        self.rejected = 0
        """Pieces of work that it did not let pass."""
        self.probes = 0
        """Probes that have begun."""
        self.failures = 0
        """How often work ran out of memory."""
        self.readings = 0
        """Readings taken in."""
        self.unreadable = 0
        """Readings that could not be taken."""

    @property
    def state(self) -> BreakerState:
        """The state after the last of all that was taken in."""
        return self._state.name

    @property
    def running(self) -> int:
        """Probes that hold a place."""
        state = self._state
        return state.running if isinstance(state, HalfOpen) else 0

    def read(self, used: int, limit: int, now: float, *, in_flight: int | None = None) -> BreakerState:
        """Take in a reading; about 1 µs.

        Args:
            used: Bytes in use that count towards the limit.
            limit: Bytes of the bound that is measured, or the capacity.
            now: Monotonic seconds. A reading older than the last one changes nothing.
            in_flight: Pieces of work that run, where that is known. With none it is half-open and not open, and stays
                so while they are no more than its probes, however much is in use.

        Returns:
            The state after it.
        """
        if now < self._read_at:
            return self._state.name
        self._read_at = now
        self.readings += 1
        self.used, self.limit = used, limit
        self.lines = lines = self._thresholds.lines(limit)
        self._place = lines.place(used)
        return self._judge(now, in_flight)

    def blind(self, now: float) -> BreakerState:
        """Take in that memory cannot be read: the last reading stands, and where there is none it counts as low.

        Returns:
            The state after it.
        """
        self.unreadable += 1
        return self._judge(now, None)

    def begin(self, now: float) -> int | None:
        """Let one piece of work pass; to be followed by `end`.

        Returns:
            Its ticket, which is 0 for work that is no probe; None where it must not begin.
        """
        ticket = self._state.begin(now)
        if ticket is None:
            self.rejected += 1
        elif ticket:
            self.probes += 1
        return ticket

    def end(self, ticket: int, outcome: Outcome, now: float) -> None:
        """Take in how a piece of work has ended that `begin` let pass.

        Where it ran out of memory, the circuit opens now; where a probe went well, it may close at the next reading.
        """
        if ticket != FREE:
            self._go(self._state.end(ticket, outcome, now))
        if outcome is Outcome.FAILED:
            self.failures += 1
            self._go(self._state.fail(now))

    def check(self, now: float) -> bool:
        """Whether work may begin that will not be watched; takes no place."""
        ticket = self._state.begin(now)
        if ticket is None:
            self.rejected += 1
        elif ticket:
            self._go(self._state.end(ticket, Outcome.NEITHER, now))
        return ticket is not None

    def is_running(self, ticket: int) -> bool:
        """Whether the probe with this ticket holds its place."""
        state = self._state
        return isinstance(state, HalfOpen) and state.is_running(ticket)

    def retry_after(self, now: float) -> float:
        """Seconds after which another try is worth it, as far as can be foreseen."""
        return self._state.retry_after(now)

    def after_fork(self) -> None:
        """Let go of all probes, which run in the parent; it may have been in the middle of a change."""
        self.passes = self._state.name.is_closed
        if isinstance(self._state, HalfOpen):
            self._state.forget()

    def statistics(self, now: float, *, hook_errors: int = 0) -> BreakerStatistics:
        """What was taken in until now.

        Args:
            now: Monotonic seconds.
            hook_errors: What the caller's own hook has raised.
        """
        lines = self.lines
        return BreakerStatistics(
            state=self.state,
            since=self._state.since,
            used=self.used,
            limit=self.limit,
            warning_at=None if lines is None else lines.warning,
            open_at=None if lines is None else lines.open,
            reset_at=None if lines is None else lines.reset,
            backoff=self._state.wait,
            retry_after=self.retry_after(now),
            opened=self.opened,
            rejected=self.rejected,
            probes=self.probes,
            probes_running=self.running,
            memory_errors=self.failures,
            readings=self.readings,
            unreadable=self.unreadable,
            hook_errors=hook_errors,
        )

    def _judge(self, now: float, in_flight: int | None) -> BreakerState:
        # Until nothing changes: with nothing in flight it is half-open as soon as it has opened.
        while (following := self._state.read(self._place, now, in_flight)) is not self._state:
            self._go(following)
        return self._state.name

    def _go(self, following: State) -> None:
        before = self._state
        if following is before:
            return
        self._state = following
        self.passes = following.name.is_closed
        if following.name is BreakerState.OPEN:
            self.opened += 1
        if self._on_change is not None:
            self._on_change(before.name, following.name)


def _seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(cast("object", value), int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{name}: got {value!r}; expected seconds, more than 0 and not without end")
    return float(value)
