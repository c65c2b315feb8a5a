"""The memory circuit breaker for use alone: a `Circuit` with a lock, a clock and a meter.

Work passes it as a block, as a decorated function, or behind a `check`; none of these ever waits. It opens on one
reading at its threshold, because memory can be gone before a second one, and on work that runs out of memory. What
happens then is said in `states`.

Memory is read only where somebody comes, and a reading serves for 10 ms. Where it cannot be read, the last reading
stands, and that is counted; where there never was one, only work that runs out of memory opens the breaker.

While it is closed, a `check` takes 0.2 µs, a ``with`` block 0.3, one with `guard` or ``async with`` 0.5, and a
decorated function 0.8, or 1.0 where it is a coroutine function. One in 10 ms takes 5 to 8 more, for it reads memory (of
a single bound; 4 for each further one). A probe takes 6 to 8 and its readings, a refusal 4 to 6.

Does not cover what a piece of work may use, nor waiting: `asyncmem.admission`. What is not counted is memory that runs
out without a `MemoryError`: an error of another kind by a C library, or the kernel's kill.
"""

from __future__ import annotations

import functools
import inspect
import math
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, Self, TypeVar, cast

from asyncmem._clock import SystemClock
from asyncmem.breaker.circuit import BreakerStatistics, Circuit
from asyncmem.breaker.measuring import BindingBound
from asyncmem.breaker.passages import Passage, leave_within, pass_within, probe_here
from asyncmem.breaker.section import Section
from asyncmem.breaker.states import FREE, Outcome, outcome_of
from asyncmem.breaker.thresholds import Thresholds
from asyncmem.errors import CircuitOpenError, ConfigError
from asyncmem.events import BreakerState
from asyncmem.sampling.forks import forget_after_fork
from asyncmem.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from asyncmem._clock import Clock

__all__ = ["CircuitBreaker"]

P = ParamSpec("P")
R = TypeVar("R")
_LEAST_RETRY: Final = 0.1
"""What a message rounds up to."""


class CircuitBreaker:
    """Lets no work pass while memory is short.

    ::

        breaker = CircuitBreaker(open_at="75%")

        async with breaker:          # or `with breaker:`, or `@breaker` on a function of either kind
            await work()

    Any number of tasks and threads may pass at once, and one may pass several times, one inside the other. Half-open it
    lets some through to try; what belongs to such a probe passes with it.

    Args:
        warning: Bytes in use, or a share of the limit, from which on its state is `WARNING`; None for two thirds of
            `open_at` (50 % of the limit by default, 1.0 GB for 1.5), or for twice the `headroom`.
        open_at: Bytes in use, such as ``"1.5GB"``, or a share of the limit, at which it opens; None for ``"75%"``.
        headroom: Opens where less than so many bytes are left below the limit; takes the place of `open_at`.
        measure: Gives the bytes in use and the bytes of the limit, and raises `OSError` where it cannot. None for the
            limit that binds this process, found at the first use; its changes are seen within a second.
        clock: Where time comes from.
        backoff: Seconds that it stays open at first; twice as many each time that it fails to recover.
        max_backoff: Seconds that it stays open at most; a probe that lasts longer gives its place away.
        probes: Pieces of work that pass at a time while it is half-open; as many have to go well for it to close.
        reuse: Seconds for which a reading serves.
        on_change: Called with the state before and the state after, in order, by whoever brings the change about and
            outside of any lock; must be quick. What it raises is counted.

    Raises:
        ConfigError: A threshold, a time or a number that cannot be, or two that contradict each other.
    """

    __slots__ = (
        "__weakref__",
        "_changes",
        "_circuit",
        "_fresh_until",
        "_hook_errors",
        "_measure",
        "_monotonic",
        "_on_change",
        "_reuse",
        "_section",
        "_telling",
    )

    def __init__(
        self,
        *,
        warning: int | str | None = None,
        open_at: int | str | None = None,
        headroom: int | str | None = None,
        measure: Callable[[], tuple[int, int]] | None = None,
        clock: Clock | None = None,
        backoff: float = 1.0,
        max_backoff: float = 60.0,
        probes: int = 1,
        reuse: float = 0.010,
        on_change: Callable[[BreakerState, BreakerState], object] | None = None,
    ) -> None:
        if isinstance(reuse, bool) or not isinstance(cast("object", reuse), int | float) or not 0 <= reuse < math.inf:
            raise ConfigError(f"reuse: got {reuse!r}; expected seconds, 0 or more and not without end")
        if inspect.iscoroutinefunction(on_change):
            raise ConfigError(
                "on_change: got a coroutine function, which nobody would await; expected a plain one, which may start "
                "a task"
            )
        changes: deque[tuple[BreakerState, BreakerState]] = deque()
        self._changes: Final = changes
        self._circuit: Final = Circuit(
            Thresholds(warning=warning, open_at=open_at, headroom=headroom),
            backoff=backoff,
            max_backoff=max_backoff,
            probes=probes,
            on_change=None if on_change is None else lambda before, after: changes.append((before, after)),
        )
        self._monotonic: Final = (SystemClock() if clock is None else clock).monotonic
        self._measure: Final = BindingBound(timer=self._monotonic) if measure is None else measure
        self._reuse: Final = reuse
        self._fresh_until = -math.inf
        self._on_change: Final = on_change
        self._hook_errors = 0
        self._section = Section()
        self._telling = threading.Lock()
        forget_after_fork(self)

    @property
    def state(self) -> BreakerState:
        """The state after the last look, by whomever; `look` takes one."""
        return self._circuit.state

    def look(self) -> BreakerState:
        """Read memory, unless that was done just now.

        Returns:
            The state after it.

        Raises:
            LimitDiscoveryError: Nothing bounds this process, as far as could be read.
        """
        self._look(self._monotonic())
        self._tell()
        return self._circuit.state

    def update(self, used: int, limit: int) -> BreakerState:
        """Take in a reading that somebody else has taken; it serves as long as one of its own.

        Args:
            used: Bytes in use that count towards the limit.
            limit: Bytes of the limit.

        Returns:
            The state after it.
        """
        now = self._monotonic()
        self._fresh_until = now + self._reuse
        self._section.post(partial(self._circuit.read, used, limit, now))
        self._tell()
        return self._circuit.state

    def check(self) -> None:
        """Raise where work must not begin; for work that cannot be put into a block.

        What follows is not watched: it takes no place while the breaker is half-open, and running out of memory is not
        seen. Half-open, all pass while there is a place.

        Raises:
            CircuitOpenError: The breaker is open, or half-open and there is no place for another probe.
            LimitDiscoveryError: Nothing bounds this process, as far as could be read.
        """
        now = self._monotonic()
        if now < self._fresh_until and self._circuit.passes:
            return
        self._look(now)
        passes = (
            self._circuit.passes
            or probe_here(self) != FREE
            or (not self._section.is_mine and self._section.call(partial(self._circuit.check, now)))
        )
        self._tell()
        if not passes:
            raise self._refusal(now)

    def guard(self) -> Passage:
        """A passage for one block: ``with breaker.guard():`` or ``async with breaker.guard():``.

        As the breaker itself, and it may be left in another task or thread than it was entered in.
        """
        return Passage(self)

    def __enter__(self) -> Self:
        """Pass.

        Raises:
            CircuitOpenError: The breaker is open, or half-open and there is no place for another probe.
            LimitDiscoveryError: Nothing bounds this process, as far as could be read.
        """
        if not (self._circuit.passes and self._monotonic() < self._fresh_until):
            pass_within(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None and self._circuit.passes:
            return
        leave_within(self, outcome_of(error))

    async def __aenter__(self) -> Self:
        """Pass; as ``with``, and never waits."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Let each call of a function pass: a plain one or a coroutine function.

        Raises:
            ConfigError: A generator function, whose work begins after the call; guard the loop over it instead.
        """
        if not callable(function):
            raise ConfigError(f"breaker: got {function!r}; expected a function to decorate")
        name = getattr(function, "__qualname__", repr(function))
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(
                f"{name} is a generator function: calling it does no work yet, so a breaker around the call would have "
                "nothing to watch; write 'with breaker:' around the loop that consumes it"
            )
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
            coroutine_function = cast("Callable[P, Awaitable[object]]", function)

            @functools.wraps(function)
            async def run(*args: P.args, **kwargs: P.kwargs) -> object:
                with Passage(self):
                    return await coroutine_function(*args, **kwargs)

            return cast("Callable[P, R]", run)

        @functools.wraps(function)
        def run_sync(*args: P.args, **kwargs: P.kwargs) -> R:
            with Passage(self):
                return function(*args, **kwargs)

        return run_sync

    def statistics(self) -> BreakerStatistics:
        """What was seen and done until now; reads no memory."""
        read = partial(self._circuit.statistics, self._monotonic(), hook_errors=self._hook_errors)
        return read() if self._section.is_mine else self._section.call(read)

    def begin(self) -> int:
        """Let one piece of work pass; to be followed by one `end`. For those who have no block to put it in.

        Returns:
            The ticket of a probe; 0 for work that is none; minus the ticket of the probe that it is a part of.

        Raises:
            CircuitOpenError: The breaker is open, or half-open and there is no place for another probe.
            LimitDiscoveryError: Nothing bounds this process, as far as could be read.
        """
        circuit, now = self._circuit, self._monotonic()
        if circuit.passes and now < self._fresh_until:
            return FREE
        self._look(now)
        ticket: int | None
        if not circuit.passes and (probe := probe_here(self)) != FREE:
            ticket = -probe
        elif self._section.is_mine:
            ticket = FREE if circuit.passes else None
        else:
            ticket = self._section.call(partial(circuit.begin, now))
        try:
            self._tell()
        except BaseException:  # KeyboardInterrupt
            self.end(FREE if ticket is None else ticket, Outcome.NEITHER)
            raise
        if ticket is None:
            raise self._refusal(now)
        return ticket

    def end(self, ticket: int, outcome: Outcome) -> None:
        """Take in how a piece of work has ended, with what `begin` has given. Never waits."""
        if outcome is not Outcome.FAILED and ticket <= FREE:
            return
        proved = outcome is Outcome.SUCCEEDED and self._circuit.is_running(ticket)
        self._section.post(partial(self._circuit.end, max(FREE, ticket), outcome, self._monotonic()))
        if proved:
            self._look_again()
        self._tell()

    def is_running(self, ticket: int) -> bool:
        """Whether a probe holds its place."""
        return self._circuit.is_running(ticket)

    def after_fork(self) -> None:
        """Replace the locks, which a thread of the parent may have held, and let go of probes that run there."""
        self._section = Section()
        self._telling = threading.Lock()
        self._changes.clear()
        self._circuit.after_fork()
        self._fresh_until = -math.inf

    def _look(self, now: float) -> None:
        if now < self._fresh_until:
            return
        # Before it is done: whoever comes meanwhile, even out of the measuring itself, takes the last reading.
        self._fresh_until = now + self._reuse
        try:
            used, limit = self._measure()
        except OSError:
            self._section.post(partial(self._circuit.blind, now))
        except BaseException:
            self._fresh_until = -math.inf  # nobody passes by it unseen
            raise
        else:
            self._section.post(partial(self._circuit.read, used, limit, now))

    def _look_again(self) -> None:
        """Read memory behind a probe that went well; its work is done, so that nothing may be raised."""
        now = self._monotonic()
        self._fresh_until = -math.inf
        try:
            self._look(now)
        except Exception:  # noqa: BLE001 - whoever comes next hears of it
            self._section.post(partial(self._circuit.blind, now))

    def _tell(self) -> None:
        """Call the hook for all changes that it has not been told of; one at a time, in order."""
        # Whoever is at it looks here again after letting go, so a failed try leaves nothing behind.
        telling = self._telling  # in a child that the hook forks it is another one
        while self._changes and telling.acquire(blocking=False):
            try:
                while self._changes:
                    before, after = self._changes.popleft()
                    assert self._on_change is not None
                    try:
                        self._on_change(before, after)
                    except Exception:  # noqa: BLE001 - it is not the work's
                        self._hook_errors += 1
            finally:
                telling.release()

    def _refusal(self, now: float) -> CircuitOpenError:
        circuit = self._circuit
        retry_after = circuit.retry_after(now)
        measured = "memory could not be read yet"
        if circuit.used is not None and circuit.limit is not None and circuit.lines is not None:
            measured = (
                f"{format_bytes(circuit.used)} of {format_bytes(circuit.limit)} are in use; it opens at "
                f"{format_bytes(circuit.lines.open)} and when work runs out of memory, and closes below "
                f"{format_bytes(circuit.lines.reset)}"
            )
        how = "half-open, and all probes that it lets pass are running" if circuit.running else "open"
        return CircuitOpenError(
            f"the memory breaker is {how}: {measured}; try again in {max(_LEAST_RETRY, retry_after):.1f} s, free "
            "memory, or raise the limit",
            retry_after=retry_after,
        )
