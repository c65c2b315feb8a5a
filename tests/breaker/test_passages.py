"""Many pieces of work at once and inside each other: each place is taken once and given back once, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from asyncmem.breaker import CircuitBreaker, Outcome, passages
from asyncmem.breaker.section import Section
from asyncmem.errors import CircuitOpenError
from asyncmem.events import BreakerState
from tests.breaker.conftest import NORMAL, SHORT, TRYING, World

pytestmark = pytest.mark.anyio

CLOSED, WARNING, OPEN, HALF_OPEN = BreakerState
Work = Callable[[], Coroutine[Any, Any, None]]
Way = Callable[[CircuitBreaker, Work], Coroutine[Any, Any, None]]


async def in_block(breaker: CircuitBreaker, work: Work) -> None:
    """Pass by the breaker itself."""
    async with breaker:
        await work()


async def in_sync_block(breaker: CircuitBreaker, work: Work) -> None:
    """Pass by a synchronous block, which never blocks and so may stand here."""
    with breaker:
        await work()


async def in_guard(breaker: CircuitBreaker, work: Work) -> None:
    """Pass by an entry of one's own."""
    async with breaker.guard():
        await work()


async def decorated(breaker: CircuitBreaker, work: Work) -> None:
    """Pass by a decorated function."""
    await breaker(work)()


WAYS = [in_block, in_sync_block, in_guard, decorated]
ways = pytest.mark.parametrize("way", WAYS)


def running(world: World) -> int:
    """Probes that hold a place."""
    return world.breaker.statistics().probes_running


@ways
async def test_a_hundred_tasks_pass_at_once_and_no_more_probes_than_may(way: Way) -> None:
    """All while it is closed; three while it is half-open, with one object for all of them."""
    world = World(probes=3)
    inside = most = refused = 0

    async def work() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await checkpoint()
        await checkpoint()
        inside -= 1

    async def task() -> None:
        nonlocal refused
        try:
            await way(world.breaker, work)
        except CircuitOpenError:
            refused += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(task)
    assert (most, refused) == (100, 0)

    world.half_open(used=TRYING)
    most = 0
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(task)
    assert most == 3
    assert refused >= 3
    assert running(world) == 0
    assert world.breaker.state is HALF_OPEN


@ways
async def test_a_cancelled_probe_gives_its_place_back(way: Way) -> None:
    """It counts neither for nor against the breaker."""
    world = World()
    world.half_open()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(way, world.breaker, anyio.sleep_forever)
        while not running(world):
            await checkpoint()
        tasks.cancel_scope.cancel()
    assert running(world) == 0
    assert world.breaker.state is HALF_OPEN


@ways
async def test_a_probe_that_times_out_gives_its_place_back(way: Way) -> None:
    """As one that is cancelled."""
    world = World()
    world.half_open()
    with anyio.move_on_after(0):
        await way(world.breaker, anyio.sleep_forever)
    assert running(world) == 0
    assert world.breaker.state is HALF_OPEN


@ways
async def test_a_probe_out_of_memory_opens_it_for_longer(way: Way) -> None:
    """One such error is enough."""
    world = World(probes=2)
    world.half_open()

    async def work() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        await way(world.breaker, work)
    assert world.breaker.state is OPEN
    assert world.breaker.statistics().backoff == 2.0


@ways
async def test_work_from_before_gives_no_place_back(way: Way) -> None:
    """It began while the breaker was closed; nor does its end close it."""
    world = World()
    world.breaker.check()
    go, stay = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(way, world.breaker, go.wait)
        await checkpoint()
        await checkpoint()
        world.half_open()
        tasks.start_soon(way, world.breaker, stay.wait)
        while not running(world):
            await checkpoint()
        go.set()
        for _ in range(5):
            await checkpoint()
        assert running(world) == 1
        assert world.breaker.state is HALF_OPEN
        stay.set()
    assert world.breaker.state is CLOSED


@ways
@pytest.mark.parametrize("outer", WAYS)
async def test_a_probe_may_pass_again_inside_of_itself(way: Way, outer: Way) -> None:
    """It needs no second place, also in the tasks and threads that it starts; and ends with its outermost block."""
    world = World()
    world.half_open()
    passed: list[str] = []

    async def in_task() -> None:
        await way(world.breaker, checkpoint)
        world.breaker.check()
        passed.append("task")

    def in_thread() -> None:
        with world.breaker, world.breaker.guard():
            passed.append("thread")

    async def work() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(in_task)
            tasks.start_soon(in_task)
        await anyio.to_thread.run_sync(in_thread)
        await in_task()
        assert running(world) == 1
        assert world.breaker.state is HALF_OPEN

    await outer(world.breaker, work)
    assert sorted(passed) == ["task", "task", "task", "thread"]
    assert running(world) == 0
    assert world.breaker.state is CLOSED


async def test_work_that_outlives_its_probe_belongs_to_none() -> None:
    """A task that a probe has left behind is no part of a later one."""
    world = World()
    world.half_open()
    go = anyio.Event()
    results: list[str] = []

    async def left_behind() -> None:
        await go.wait()
        try:
            async with world.breaker:
                results.append("passed")
        except CircuitOpenError:
            results.append("refused")

    async with anyio.create_task_group() as tasks:
        async with world.breaker:
            tasks.start_soon(left_behind)
            await checkpoint()
        world.half_open()
        ticket = world.breaker.begin()
        go.set()
    assert results == ["refused"]
    assert running(world) == 1
    world.breaker.end(ticket, Outcome.NEITHER)


async def test_blocks_from_before_and_from_now_are_told_apart() -> None:
    """A block that was entered closed is left inside and after one that is a probe."""
    world = World()
    async with world.breaker:
        world.half_open()
        async with world.breaker, world.breaker, world.breaker.guard():
            assert running(world) == 1
        assert world.breaker.state is CLOSED
        world.half_open()
        assert running(world) == 0
    assert world.breaker.state is HALF_OPEN
    async with world.breaker:
        assert running(world) == 1


async def test_two_breakers_are_told_apart() -> None:
    """What passes one has not passed the other."""
    one, two = World(), World()
    one.half_open()
    two.half_open()
    async with one.breaker, two.breaker:
        async with one.breaker:
            assert (running(one), running(two)) == (1, 1)
        with pytest.raises(MemoryError), two.breaker:
            raise MemoryError
        assert (one.breaker.state, two.breaker.state) == (HALF_OPEN, OPEN)
    assert one.breaker.state is CLOSED


async def test_blocks_may_be_left_in_another_order_than_they_were_entered() -> None:
    """As exit stacks do that are closed by hand: each is left once."""
    one, two = World(), World()
    one.half_open()
    two.half_open()
    one.breaker.__enter__()
    one.breaker.__enter__()
    with two.breaker:
        one.breaker.__exit__(None, None, None)
        assert running(one) == 1
        one.breaker.__exit__(None, None, None)
        assert one.breaker.state is CLOSED
    assert two.breaker.state is CLOSED


async def test_nothing_piles_up_in_a_task_that_lives_long() -> None:
    """Not of blocks that ended as they should, nor of probes whose time had passed before they ended."""
    world = World()
    for _ in range(3):
        world.half_open()
        async with world.breaker, world.breaker, world.breaker.guard():
            pass
        assert passages._inside.get() is None
    for _ in range(50):
        world.half_open()
        with world.breaker:
            world.see(SHORT)
            world.see(NORMAL, seconds=60.0)
            world.see(NORMAL, seconds=60.0)
            assert world.breaker.state is CLOSED
    last = passages._inside.get()
    assert last is not None
    assert last.outer is None


async def test_a_passage_may_be_left_elsewhere() -> None:
    """In another task, or in a thread."""
    for leave_in_thread in (False, True):
        world = World()
        world.half_open()
        stack = AsyncExitStack()

        async def enter(world: World = world, stack: AsyncExitStack = stack) -> None:
            await stack.enter_async_context(world.breaker.guard())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(enter)
        assert running(world) == 1
        if leave_in_thread:
            await anyio.to_thread.run_sync(partial(anyio.run, stack.aclose))
        else:
            await stack.aclose()
        assert world.breaker.state is CLOSED


async def test_a_passage_is_for_one_block() -> None:
    """The message says what to write."""
    world = World()
    passage = world.breaker.guard()
    with passage:
        pass
    with pytest.raises(RuntimeError, match=r"call breaker\.guard\(\) again"):
        await passage.__aenter__()


@pytest.mark.parametrize("nameless", [False, True])
async def test_a_generator_that_nobody_closes_gives_its_place_back(nameless: bool) -> None:
    """When it is collected; a synchronous one in the context of whoever is there."""
    world = World()
    world.half_open()

    def generate() -> Iterator[int]:
        with world.breaker if nameless else world.breaker.guard():
            yield 1

    generator = generate()
    next(generator)
    assert running(world) == 1
    del generator
    assert running(world) == 0
    assert world.breaker.state is HALF_OPEN


@pytest.mark.parametrize("nameless", [False, True])
async def test_an_async_generator_that_another_task_closes_gives_its_place_back(nameless: bool) -> None:
    """At once with an object of its own; else with the end of the task that entered."""
    world = World()
    world.half_open()

    async def generate() -> AsyncIterator[int]:
        async with world.breaker if nameless else world.breaker.guard():
            yield 1

    generator = generate()

    async def enter() -> None:
        await anext(generator)
        assert running(world) == 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(enter)
    await generator.aclose()  # type: ignore[attr-defined]
    assert running(world) == 0
    assert world.breaker.state is HALF_OPEN


def test_a_block_that_is_left_in_another_context_costs_its_place_for_a_while() -> None:
    """The task that entered lives on and nobody can tell; after the longest backoff the place is free again."""
    world = World(max_backoff=10.0)
    world.half_open(used=TRYING)
    context = contextvars.Context()
    context.run(world.breaker.__enter__)
    world.breaker.__exit__(None, None, None)
    assert running(world) == 1
    world.clock.advance(10.0)
    with world.breaker:
        assert running(world) == 1
    assert running(world) == 0
    context.run(world.breaker.__exit__, None, None, None)


def test_a_passage_that_is_dropped_gives_its_place_back() -> None:
    """Nobody can leave it any more."""
    world = World()
    world.half_open()
    passage = contextvars.Context().run(world.breaker.guard().__enter__)
    assert running(world) == 1
    del passage
    assert running(world) == 0


async def test_leaving_twice_gives_back_once() -> None:
    """The place may belong to another meanwhile."""
    world = World()
    world.half_open()
    passage = world.breaker.guard()
    passage.__enter__()
    passage.__exit__(ValueError, ValueError(), None)
    ticket = world.breaker.begin()
    passage.__exit__(ValueError, ValueError(), None)
    assert running(world) == 1
    world.breaker.end(ticket, Outcome.NEITHER)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_bare_task_cancel_before_the_first_step_costs_nothing(anyio_backend: str) -> None:
    """No task of asyncio that has not begun has taken a place."""
    world = World()
    world.half_open()
    task = asyncio.ensure_future(decorated(world.breaker, anyio.sleep_forever))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running(world) == 0


def test_threads_pass_one_breaker() -> None:
    """Eight of them, while it opens and closes: never more probes than may, and in the end no place is taken."""
    world = World(probes=2, backoff=0.001, max_backoff=1000.0, reuse=0.0)
    lock = threading.Lock()
    over: list[int] = []
    probing = 0

    def work(number: int) -> None:
        nonlocal probing
        for turn in range(400):
            with lock:
                world.clock.advance(0.0005)
                world.used = SHORT if (number + turn) % 7 == 0 else NORMAL
            with contextlib.suppress(CircuitOpenError, MemoryError, ValueError):
                ticket = world.breaker.begin()
                outcome = (Outcome.SUCCEEDED, Outcome.NEITHER, Outcome.FAILED)[turn % 3 if turn % 30 < 3 else 0]
                over.append(running(world))
                world.breaker.end(ticket, outcome)
                with world.breaker, world.breaker.guard():
                    if turn % 11 == 0:
                        raise ValueError
                    if turn % 50 == 0:
                        raise MemoryError

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(over) <= 2
    assert running(world) == 0
    statistics = world.breaker.statistics()
    assert statistics.opened == sum(after is OPEN for _, after in world.changes)
    assert statistics.probes > 0
    assert statistics.rejected > 0


def test_what_comes_in_on_top_of_the_section_does_not_wait_for_itself() -> None:
    """A finaliser or a signal handler on the thread that is inside: ends are taken in later, begins are refused."""
    world = World()
    world.half_open()
    ticket = world.breaker.begin()
    answers: list[Any] = []

    def on_top() -> None:
        world.breaker.end(ticket, Outcome.SUCCEEDED)
        answers.append(running(world))
        for way in (world.breaker.check, world.breaker.guard().__enter__, world.breaker.__enter__):
            with pytest.raises(CircuitOpenError):
                way()

    world.breaker._section.call(on_top)
    assert answers == [1]
    assert running(world) == 0
    assert world.breaker.state is CLOSED

    def closed_on_top() -> None:
        world.clock.advance(1.0)
        with world.breaker:
            answers.append(world.breaker.state)

    world.breaker._section.call(closed_on_top)
    assert answers == [1, CLOSED]


def test_a_section_runs_what_was_posted_in_order() -> None:
    """On the way out at the latest, also where the step inside has failed."""
    section = Section()
    ran: list[int] = []

    def step() -> None:
        section.post(partial(ran.append, 1))
        section.post(partial(ran.append, 2))
        assert section.is_mine
        assert ran == []
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        section.call(step)
    assert ran == [1, 2]
    assert not section.is_mine
    section.post(partial(ran.append, 3))
    assert ran == [1, 2, 3]


def test_a_signal_handler_cannot_lock_its_thread_out() -> None:
    """Also one that comes in the instant in which the lock is taken, or let go."""
    breaker = World().breaker
    seen: list[BreakerState] = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(breaker.statistics().state))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        end = time.monotonic() + 30
        while len(seen) < 200:
            assert time.monotonic() < end
            breaker.statistics()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_post_does_not_wait_for_another_thread() -> None:
    """Whoever is inside runs it, and a call behind it sees what it did."""
    section = Section()
    ran: list[str] = []
    inside, go = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        assert go.wait(10)

    thread = threading.Thread(target=section.call, args=(hold,))
    thread.start()
    assert inside.wait(10)
    section.post(partial(ran.append, "posted"))
    assert ran == []
    go.set()
    assert section.call(lambda: list(ran)) == ["posted"]
    thread.join()


def test_a_child_is_not_held_up_by_what_the_parent_was_at() -> None:
    """Its locks are new, and the parent's probes hold no place there."""
    world = World()
    world.half_open()
    ticket = world.breaker.begin()
    codes: list[int] = []

    def inside() -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with world.breaker:
                    assert running(world) == 1
                assert world.breaker.state is CLOSED
                code = 0
            finally:
                os._exit(code)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    world.breaker._section.call(inside)
    assert codes == [0]
    assert running(world) == 1
    world.breaker.end(ticket, Outcome.NEITHER)


def test_a_child_that_the_hook_forks_is_told_of_its_own_changes() -> None:
    """The parent's hook was at it in the parent."""
    codes: list[int] = []

    def on_change(before: BreakerState, after: BreakerState) -> None:
        if codes:
            return
        codes.append(-1)
        pid = os.fork()
        if pid == 0:
            world.breaker.update(1, 10_000)
            world.clock.advance(1.0)
            told = len(codes)
            world.breaker.update(1, 10_000)
            os._exit(0 if world.breaker.state is HALF_OPEN and told == 1 else 1)
        codes[0] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    world = World(on_change=on_change)
    world.see(SHORT)
    assert codes == [0]
