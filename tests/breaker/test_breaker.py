"""The breaker in use: what it reads and when, what it lets pass, what it says, whom it tells."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from asyncmem.breaker import CircuitBreaker, Outcome
from asyncmem.errors import CircuitOpenError, ConfigError, LimitDiscoveryError, MemoryLimitExceeded
from asyncmem.events import BreakerState
from tests.breaker.conftest import NORMAL, SHORT, TRYING, World

CLOSED, WARNING, OPEN, HALF_OPEN = BreakerState


def refused(breaker: CircuitBreaker) -> CircuitOpenError:
    """What work is told that must not pass, whichever way it comes."""
    ways: list[Callable[[], object]] = [breaker.check, breaker.__enter__, breaker.guard().__enter__, breaker(int)]
    errors = []
    for way in ways:
        with pytest.raises(CircuitOpenError) as caught:
            way()
        errors.append(caught.value)
    assert len({(str(error), error.retry_after) for error in errors}) == 1
    return errors[0]


def test_it_opens_on_one_reading_and_closes_when_memory_is_back() -> None:
    """From its first use on: closed, warned, open, half-open, closed."""
    world = World()
    for used, seconds in [(NORMAL, 0.0), (5000, 0.02), (SHORT, 0.02), (NORMAL, 1.0)]:
        world.used = used
        world.clock.advance(seconds)
        if used == SHORT:
            refused(world.breaker)
        else:
            with world.breaker:
                pass
    assert world.changes == [(CLOSED, WARNING), (WARNING, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]


def test_nothing_is_read_before_the_first_use() -> None:
    """Not when it is made, nor when a function is decorated with it."""
    world = World()
    world.breaker(int)
    world.breaker.statistics()
    assert (world.readings, world.breaker.state) == (0, CLOSED)
    world.breaker.check()
    assert world.readings == 1


def test_a_reading_serves_for_a_while() -> None:
    """10 ms by default, or as long as is asked for; whether it is open or not."""
    world = World()
    for _ in range(100):
        world.breaker.check()
        with world.breaker, world.breaker.guard():
            pass
        world.clock.advance(0.001)
    assert world.readings == 10
    world.see(SHORT)
    for _ in range(10):
        refused(world.breaker)
        world.clock.advance(0.001)
    assert world.readings == 11

    always = World(reuse=0)
    always.breaker.check()
    always.used = SHORT
    refused(always.breaker)


def test_what_is_told_from_outside_serves_like_a_reading() -> None:
    """It is not read again for as long, and decides as well."""
    world = World()
    assert world.breaker.update(SHORT, 10_000) is OPEN
    refused(world.breaker)
    assert world.readings == 0
    world.clock.advance(1.0)
    assert world.breaker.update(NORMAL, 10_000) is HALF_OPEN


def test_a_refusal_says_what_was_measured_and_what_to_do() -> None:
    """What is in use, of how much, where it opens and closes, and when to come again."""
    world = World(measure=lambda: (1700 * 2**20, 2048 * 2**20))
    error = refused(world.breaker)
    assert str(error) == (
        "the memory breaker is open: 1.7 GiB of 2 GiB are in use; it opens at 1.5 GiB and when work runs out of "
        "memory, and closes below 1.4 GiB; try again in 1.0 s, free memory, or raise the limit"
    )
    assert error.retry_after == 1.0
    world.clock.advance(0.75)
    assert refused(world.breaker).retry_after == 0.25


def test_a_refusal_while_it_is_half_open_says_so() -> None:
    """There is no place, though memory may suffice."""
    world = World()
    world.half_open()
    with world.breaker.guard():
        other = World()  # another context is what refuses; here it is this one's own probe that passes
        other.half_open()
        ticket = other.breaker.begin()
        assert "is half-open, and all probes that it lets pass are running" in str(refused(other.breaker))
        other.breaker.end(ticket, Outcome.NEITHER)


def test_a_refusal_before_any_reading_says_so() -> None:
    """Work has run out of memory, and nothing else is known."""
    world = World()
    world.error = OSError("no /proc")
    with pytest.raises(MemoryError), world.breaker:
        raise MemoryError
    assert "memory could not be read yet" in str(refused(world.breaker))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryLimitExceeded("too much", requested=2, available=1),
        ExceptionGroup("tasks", [ValueError(), ExceptionGroup("inner", [MemoryError()])]),
        BaseExceptionGroup("tasks", [KeyboardInterrupt(), MemoryError()]),
    ],
)
@pytest.mark.parametrize("way", ["block", "guard", "decorator"])
def test_work_that_runs_out_of_memory_opens_it(error: BaseException, way: str) -> None:
    """Whichever way it has passed; the error goes on to where it was going, also out of a group of tasks."""
    world = World()

    @world.breaker
    def decorated() -> None:
        raise error

    def in_block() -> None:
        with world.breaker if way == "block" else world.breaker.guard():
            raise error

    with pytest.raises(type(error)):
        (decorated if way == "decorator" else in_block)()
    assert world.breaker.state is OPEN
    assert world.breaker.statistics().memory_errors == 1


@pytest.mark.parametrize(
    "error",
    [ValueError(), KeyboardInterrupt(), OSError(12, "Cannot allocate memory"), ExceptionGroup("tasks", [ValueError()])],
)
def test_other_errors_do_not_count(error: BaseException) -> None:
    """Neither against it, nor, from a probe, for it."""
    world = World()
    with pytest.raises(type(error)), world.breaker:
        raise error
    assert world.breaker.state is CLOSED
    world.half_open()
    with pytest.raises(type(error)), world.breaker:
        raise error
    assert world.breaker.state is HALF_OPEN
    assert world.breaker.statistics().probes_running == 0


def test_a_refusal_inside_of_work_is_no_failure_of_it() -> None:
    """One breaker that opens does not open those around it."""
    inner, outer = World(), World()
    inner.see(SHORT)
    with pytest.raises(CircuitOpenError), outer.breaker:
        inner.breaker.check()
    assert outer.breaker.state is CLOSED


def test_a_probe_that_goes_well_is_followed_by_a_reading() -> None:
    """However fresh the last one is: the probe may have left memory behind, or have brought it back."""
    world = World()
    world.half_open()
    with world.breaker:
        world.used = SHORT
    assert world.breaker.state is OPEN
    assert world.breaker.statistics().backoff == 2.0

    world = World()
    world.half_open(used=TRYING)
    with world.breaker:
        world.used = NORMAL
    assert world.breaker.state is CLOSED


def test_half_open_a_check_takes_no_place() -> None:
    """It only says whether there is one."""
    world = World()
    world.half_open()
    for _ in range(3):
        world.breaker.check()
    ticket = world.breaker.begin()
    refused(world.breaker)
    world.breaker.end(ticket, Outcome.NEITHER)
    world.breaker.check()
    assert world.breaker.statistics().probes == 1


@pytest.mark.parametrize("error", [OSError("no /proc"), PermissionError()])
def test_where_memory_cannot_be_read_the_last_reading_stands(error: OSError) -> None:
    """Work goes on or is refused as before, and the failures are counted."""
    world = World()
    world.breaker.check()
    world.error = error
    world.clock.advance(1.0)
    world.breaker.check()
    world.error = None
    world.see(SHORT)
    world.error = error
    world.clock.advance(60.0)
    refused(world.breaker)
    statistics = world.breaker.statistics()
    assert (statistics.unreadable, statistics.readings, statistics.used) == (2, 2, SHORT)


def test_memory_that_was_never_read_does_not_keep_it_open() -> None:
    """Work that ran out of memory opened it; time and a probe close it."""
    world = World()
    world.error = OSError("no /proc")
    with pytest.raises(MemoryError), world.breaker:
        raise MemoryError
    world.clock.advance(1.0)
    with world.breaker:
        pass
    assert world.breaker.state is CLOSED
    assert world.breaker.statistics().used is None


def test_a_meter_that_is_broken_is_heard_of_each_time() -> None:
    """Nobody passes by it unseen; but the end of work that went well raises nothing."""
    world = World()
    world.error = LimitDiscoveryError("no limit")
    for _ in range(2):
        with pytest.raises(LimitDiscoveryError):
            world.breaker.check()
        with pytest.raises(LimitDiscoveryError), world.breaker:
            pass
    world.error = None
    world.half_open()
    with world.breaker:
        world.error = ZeroDivisionError("by nothing")
    assert world.breaker.statistics().unreadable == 1


def test_a_meter_that_asks_the_breaker_gets_the_last_answer() -> None:
    """And is not asked again from inside of itself."""

    def measure() -> tuple[int, int]:
        world.breaker.check()
        return 8, 10

    world = World(measure=measure)
    refused(world.breaker)


def test_a_changed_limit_is_followed() -> None:
    """The thresholds are shares of what it is now."""
    world = World()
    world.see(4000)
    world.limit = 5000
    assert world.see(4000) is OPEN
    assert world.breaker.statistics().open_at == 3750


def test_the_hook_is_told_of_changes_in_order_and_outside_of_the_lock() -> None:
    """It may ask the breaker, and even change it."""
    told: list[tuple[BreakerState, BreakerState, BreakerState]] = []

    def on_change(before: BreakerState, after: BreakerState) -> None:
        told.append((before, after, world.breaker.statistics().state))
        if after is WARNING:
            world.breaker.update(SHORT, 10_000)
            assert world.breaker.state is OPEN
            assert len(told) == 1  # the next one comes when this has returned

    world = World(on_change=on_change)
    world.breaker.update(6000, 10_000)
    assert told == [(CLOSED, WARNING, WARNING), (WARNING, OPEN, OPEN)]


def test_what_the_hook_raises_is_counted_and_goes_no_further() -> None:
    """Work does not fail for it, and it is told of what comes next."""

    def on_change(before: BreakerState, after: BreakerState) -> None:
        told.append(after)
        raise ZeroDivisionError

    told: list[BreakerState] = []
    world = World(on_change=on_change)
    world.see(6000)
    with world.breaker:
        world.see(SHORT)
    assert told == [WARNING, OPEN]
    assert world.breaker.statistics().hook_errors == 2


def test_an_interrupt_in_the_hook_costs_no_place() -> None:
    """It goes on to whoever is interrupted, who has not begun."""

    def on_change(before: BreakerState, after: BreakerState) -> None:
        if after is HALF_OPEN:
            raise KeyboardInterrupt

    world = World(on_change=on_change)
    world.see(SHORT)
    world.used = NORMAL
    world.clock.advance(1.0)
    with pytest.raises(KeyboardInterrupt):
        world.breaker.begin()
    assert world.breaker.statistics().probes_running == 0


def test_decorated_functions_stay_what_they_are() -> None:
    """Names, arguments and answers; plain ones plain, coroutine functions coroutine functions, methods methods."""
    world = World()

    class Model:
        @world.breaker
        def count(self, text: str, *, times: int = 1) -> int:
            """Count."""
            return len(text) * times

        @world.breaker
        async def embed(self, text: str) -> str:
            """Embed."""
            return text

    class Callable:
        async def __call__(self, text: str) -> str:
            return text

    assert Model().count("abc", times=2) == 6
    assert (Model.count.__name__, Model.embed.__doc__) == ("count", "Embed.")
    assert inspect.iscoroutinefunction(Model.embed)
    assert not inspect.iscoroutinefunction(Model.count)
    for asynchronous in (Model().embed, world.breaker(Callable()), world.breaker(functools.partial(Model().embed))):
        assert asyncio.run(asynchronous("text")) == "text"


def test_what_cannot_be_decorated_is_refused() -> None:
    """With what to write in its place."""

    def generator() -> Iterator[int]:
        yield 1

    async def async_generator() -> AsyncIterator[int]:
        yield 1

    world = World()
    for function in (generator, async_generator):
        with pytest.raises(ConfigError, match=r"generator is a generator function.*'with breaker:' around the loop"):
            world.breaker(function)
    with pytest.raises(ConfigError, match="got 3; expected a function"):
        world.breaker(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"warning": "80%"}, ["warning='80%'", "open_at='75%'"]),
        ({"open_at": "1.5GB", "headroom": "100MiB"}, ["open_at='1.5GB'", "headroom='100MiB'"]),
        ({"backoff": 0}, ["backoff", "0"]),
        ({"probes": 0}, ["probes", "0"]),
        ({"reuse": -1}, ["reuse", "-1"]),
        ({"reuse": "1ms"}, ["reuse", "'1ms'"]),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_made(settings: dict[str, Any], words: list[str]) -> None:
    """Not when memory is short."""
    with pytest.raises(ConfigError) as error:
        CircuitBreaker(**settings)
    assert all(word in str(error.value) for word in words), error.value


def test_a_coroutine_function_as_hook_is_refused() -> None:
    """Nobody would await it."""

    async def on_change(before: BreakerState, after: BreakerState) -> None: ...

    with pytest.raises(ConfigError, match="on_change"):
        CircuitBreaker(on_change=on_change)


def test_statistics_tell_what_was_done() -> None:
    """One frozen value, which reads no memory."""
    world = World()
    world.see(6000)
    assert world.breaker.statistics().retry_after == 0
    world.half_open()
    with pytest.raises(MemoryError), world.breaker, world.breaker.guard():
        raise MemoryError
    world.clock.advance(0.5)
    refused(world.breaker)
    readings = world.readings
    statistics = world.breaker.statistics()
    assert world.readings == readings
    assert (statistics.state, statistics.since) == (OPEN, world.clock.monotonic() - 0.5)
    assert (statistics.used, statistics.limit, statistics.warning_at) == (NORMAL, 10_000, 5000)
    assert (statistics.opened, statistics.probes, statistics.probes_running) == (2, 1, 0)
    assert (statistics.rejected, statistics.memory_errors) == (4, 2)  # the error has left two blocks
    assert (statistics.backoff, statistics.retry_after) == (2.0, 1.5)
    assert (statistics.readings, statistics.unreadable, statistics.hook_errors) == (readings, 0, 0)
    with pytest.raises(AttributeError):
        statistics.used = 1  # type: ignore[misc]


def test_changes_follow_each_other() -> None:
    """Each begins with the state that the one before has ended with."""
    world = World()
    for used in (6000, SHORT, NORMAL, SHORT, NORMAL, NORMAL, 5500, 1000) * 20:
        world.see(used, seconds=1.5)
    assert len(world.changes) > 20
    assert all(earlier[1] is later[0] for earlier, later in pairwise(world.changes))


def test_a_breaker_goes_when_nobody_has_it() -> None:
    """Also one with a hook, and without the collector."""
    gc.disable()
    try:
        breaker = CircuitBreaker(measure=lambda: (1, 1000), on_change=lambda *_: None)
        gone = weakref.ref(breaker)
        with breaker.guard():
            pass
        del breaker
        assert gone() is None
    finally:
        gc.enable()
