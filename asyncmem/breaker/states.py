"""One small type for each state of a circuit, and what it makes of a reading, a failure, and work that comes and goes.

=============== =============== ==============================================================================
from            to              when
=============== =============== ==============================================================================
closed, warning open            one reading at `open`, or work ran out of memory
closed          warning         one reading at `warning`
warning         closed          one reading below `calm`
open            half-open       its time is over and a reading lies below `open`; or nothing is in flight
half-open       open            a reading at `open`, or work ran out of memory: for twice as long as before
half-open       closed, warning a reading below `reset`, and either as many probes as are needed went well, or
                                none runs and memory was below `reset` for as long as the circuit was open
=============== =============== ==============================================================================

A method returns the state that holds afterwards; itself where nothing changes. Nothing here reads a clock or memory.

What lies between `reset` and `open` lets probes through and does not close: a process that has come to use that much
for good goes on, if only a few pieces of work at a time. The second way to close is for where no work passes, and for
work that always ends by some error of its own.

A probe is work that passes while the circuit is half-open. It has a ticket, a number that no other has ever had, so
that work of an earlier time cannot give back the place of a later one. A probe that has not ended after the longest
backoff gives its place to another: one stream that never ends must not keep all others out. What it shows later no
longer counts, except running out of memory.
"""

from __future__ import annotations

import itertools
from enum import Enum
from typing import Final, NamedTuple, Protocol

from asyncmem.breaker.thresholds import AT_OPEN, AT_RESET, AT_WARNING, BELOW_CALM
from asyncmem.events import BreakerState

__all__ = ["FREE", "Closed", "HalfOpen", "Open", "Outcome", "Rules", "State", "Warned", "outcome_of"]

FREE: Final = 0
"""The ticket of work that passes and is no probe."""
_tickets: Final = itertools.count(FREE + 1)


class Outcome(Enum):
    """How a piece of work has ended, as far as memory is concerned."""

    SUCCEEDED = "succeeded"
    """Well."""
    FAILED = "failed"
    """Out of memory."""
    NEITHER = "neither"
    """Cancelled, or by another error: that says nothing about memory."""


def outcome_of(error: BaseException | None) -> Outcome:
    """What the end of a piece of work says: out of memory is a `MemoryError`, also one among others in a group."""
    if error is None:
        return Outcome.SUCCEEDED
    if isinstance(error, MemoryError):
        return Outcome.FAILED
    if isinstance(error, BaseExceptionGroup) and any(outcome_of(one) is Outcome.FAILED for one in error.exceptions):
        return Outcome.FAILED
    return Outcome.NEITHER


class Rules(NamedTuple):
    """What all states of a circuit go by."""

    backoff: float
    """Seconds that it stays open at first."""
    max_backoff: float
    """And at most."""
    probes: int
    """Pieces of work that pass at a time while it is half-open, and that have to go well for it to close."""


class State(Protocol):
    """What every state answers."""

    @property
    def name(self) -> BreakerState:
        """Which it is."""
        ...

    @property
    def since(self) -> float | None:
        """When it began; None for the first of all."""
        ...

    @property
    def wait(self) -> float:
        """Seconds that it stays open, was open, or would be."""
        ...

    def read(self, place: int, now: float, in_flight: int | None) -> State:
        """Take in where a reading lies, and how much work runs where that is known."""
        ...

    def fail(self, now: float) -> State:
        """Take in that work ran out of memory."""
        ...

    def begin(self, now: float) -> int | None:
        """Let one piece of work pass, with its ticket; None where it must not."""
        ...

    def end(self, ticket: int, outcome: Outcome, now: float) -> State:
        """Take in that a probe has ended; a ticket of an earlier state is of no account."""
        ...

    def retry_after(self, now: float) -> float:
        """Seconds after which another try is worth it."""
        ...


class Closed:
    """All work passes."""

    __slots__ = ("_rules", "since")
    name: BreakerState = BreakerState.CLOSED

    def __init__(self, rules: Rules, since: float | None) -> None:
        self._rules: Final = rules
        self.since: Final = since

    @property
    def wait(self) -> float:
        """What it would be."""
        return self._rules.backoff

    def read(self, place: int, now: float, in_flight: int | None) -> State:  # noqa: ARG002 - all states are asked alike
        """Open, or warn."""
        if place >= AT_OPEN:
            return self.fail(now)
        return Warned(self._rules, now) if place >= AT_WARNING else self

    def fail(self, now: float) -> State:
        """Open."""
        return Open(self._rules, now, self._rules.backoff)

    def begin(self, now: float) -> int | None:  # noqa: ARG002
        """Always."""
        return FREE

    def end(self, ticket: int, outcome: Outcome, now: float) -> State:  # noqa: ARG002
        """Nothing depends on it."""
        return self

    def retry_after(self, now: float) -> float:  # noqa: ARG002
        """At once."""
        return 0.0


class Warned(Closed):
    """All work passes, and there is more in use than there should be."""

    __slots__ = ()
    name = BreakerState.WARNING

    def read(self, place: int, now: float, in_flight: int | None) -> State:  # noqa: ARG002
        """Open, or be calm again."""
        if place >= AT_OPEN:
            return self.fail(now)
        return Closed(self._rules, now) if place <= BELOW_CALM else self


class Open:
    """No work passes, for some time and until memory is low enough.

    Args:
        rules: What all states go by.
        since: When it opened.
        wait: Seconds that it stays open at least.
    """

    __slots__ = ("_rules", "since", "wait")
    name: Final = BreakerState.OPEN

    def __init__(self, rules: Rules, since: float, wait: float) -> None:
        self._rules: Final = rules
        self.since: Final = since
        self.wait: Final = wait

    def read(self, place: int, now: float, in_flight: int | None) -> State:
        """Be half-open when the time has come."""
        waited = now - self.since >= self.wait
        if in_flight == 0 or (waited and place < AT_OPEN):
            return HalfOpen(self._rules, now, self.wait, early=not waited)
        return self

    def fail(self, now: float) -> State:  # noqa: ARG002
        """Work that had passed before; it is open already."""
        return self

    def begin(self, now: float) -> int | None:  # noqa: ARG002
        """Never."""
        return None

    def end(self, ticket: int, outcome: Outcome, now: float) -> State:  # noqa: ARG002
        """Nothing depends on it."""
        return self

    def retry_after(self, now: float) -> float:
        """What is left of the time; where it is over and memory is not low enough, as long again."""
        left = self.since + self.wait - now
        return left if left > 0 else self.wait


class HalfOpen:
    """A few pieces of work pass, to show whether the memory suffices.

    Args:
        rules: What all states go by.
        since: When it began.
        wait: Seconds that it was open before.
        early: Whether it was not open for so long, because nothing was in flight: then too much memory in use is no
            failed attempt, and is not paid for with a longer time.
    """

    __slots__ = ("_calm_since", "_early", "_is_warned", "_rules", "_running", "_succeeded", "since", "wait")
    name: Final = BreakerState.HALF_OPEN

    def __init__(self, rules: Rules, since: float, wait: float, *, early: bool) -> None:
        self._rules: Final = rules
        self.since: Final = since
        self.wait: Final = wait
        self._early: Final = early
        self._running: Final[dict[int, float]] = {}
        self._succeeded = 0
        self._calm_since: float | None = None
        self._is_warned = False

    @property
    def running(self) -> int:
        """Probes that hold a place."""
        return len(self._running)

    def is_running(self, ticket: int) -> bool:
        """Whether a probe holds its place."""
        return ticket in self._running

    def read(self, place: int, now: float, in_flight: int | None) -> State:
        """Open again, close, or go on."""
        if place >= AT_OPEN and (in_flight is None or in_flight > self._rules.probes):
            return Open(self._rules, now, self.wait) if self._early else self.fail(now)
        if place >= AT_RESET:
            self._calm_since = None
            return self
        if self._calm_since is None:
            self._calm_since = now
        self._is_warned = place >= AT_WARNING
        self._drop_overdue(now)
        return self._closed(now) if self._succeeded >= self._rules.probes or self._is_calm(now) else self

    def fail(self, now: float) -> State:
        """Open for twice as long as before."""
        return Open(self._rules, now, min(2 * self.wait, self._rules.max_backoff))

    def begin(self, now: float) -> int | None:
        """While there is a place."""
        if len(self._running) >= self._rules.probes:
            self._drop_overdue(now)
            if len(self._running) >= self._rules.probes:
                return None
        ticket = next(_tickets)
        self._running[ticket] = now
        return ticket

    def end(self, ticket: int, outcome: Outcome, now: float) -> State:
        """Give the place back, and count what went well; whether that is enough is seen at the next reading."""
        if self._running.pop(ticket, None) is None:
            return self
        if outcome is Outcome.SUCCEEDED:
            self._succeeded += 1
            return self
        # Here too: others that come while a probe runs may be the only ones to read memory.
        return self._closed(now) if self._is_calm(now) else self

    def retry_after(self, now: float) -> float:
        """When a probe's place is sure to be free, or a first backoff: a probe may end at any time."""
        first = min(self._running.values(), default=now)
        return max(0.0, min(self._rules.backoff, first + self._rules.max_backoff - now))

    def forget(self) -> None:
        """Let go of all probes: they run in another process."""
        self._running.clear()

    def _is_calm(self, now: float) -> bool:
        """Whether no probe runs and memory was low for long enough."""
        return not self._running and self._calm_since is not None and now - self._calm_since >= self.wait

    def _closed(self, now: float) -> State:
        return (Warned if self._is_warned else Closed)(self._rules, now)

    def _drop_overdue(self, now: float) -> None:
        for ticket in [ticket for ticket, begun in self._running.items() if now - begun >= self._rules.max_backoff]:
            del self._running[ticket]
