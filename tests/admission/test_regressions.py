"""Failures that were found once, each kept from coming back."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asyncmem.admission import LearnedCostModel, MemorySemaphore
from asyncmem.errors import AdmissionRejected
from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.admission.conftest import World

pytestmark = pytest.mark.anyio


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await checkpoint()


def under_long_load(world: World) -> Any:
    """A permit of 500 MiB that has been full for half a minute; returns it."""
    permit = world.controller.acquire_nowait("job", cost="500MiB")
    world.memory.used += 500 * MIB
    for _ in range(300):
        world.clock.advance(0.1)
        world.controller.sample()
    return permit


async def test_declared_work_that_fits_alone_is_not_refused_under_long_load(world: Callable[..., World]) -> None:
    """The floor contained what was promised, and the second such request got 413."""
    w = world()
    permit = under_long_load(w)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(w.controller.acquire, "job")
        assert w.controller.try_acquire("job", cost="500MiB") is None
        await settle()
        w.memory.used -= 500 * MIB
        permit.record()
    assert w.controller.try_acquire("job", cost="890MiB") is None


@pytest.mark.parametrize("enforced", [True, False])
async def test_declared_costs_are_charged_in_full_after_long_load(world: Callable[..., World], enforced: bool) -> None:
    """Clamped to an inflated floor, twenty of 300 MiB were charged 100 each and nine were let in at once."""
    w = world(enforced=enforced)
    permit = under_long_load(w)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(lambda: w.controller.acquire("job", cost="300MiB"))
        await settle()
        w.memory.used -= 500 * MIB
        permit.record()
        await settle()
        statistics = w.controller.statistics()
        assert (statistics.in_flight, statistics.reserved) == (3, 900 * MIB)
        tasks.cancel_scope.cancel()


async def test_declared_work_that_has_ceased_to_fit_is_not_let_in(world: Callable[..., World]) -> None:
    """It fitted when it came; then the process itself grew for good. Cut down to what is left, it would be killed."""
    w = world(queue_timeout=0.05)
    permit = w.controller.acquire_nowait("load a model", cost="400MiB")
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(AdmissionRejected):
                await w.controller.acquire("job", cost="600MiB")

        tasks.start_soon(wait)
        await settle()
        w.memory.used += 500 * MIB
        permit.record()
        await settle()
        assert w.controller.statistics().in_flight == 0


async def test_a_large_waiter_is_not_passed_for_ever(world: Callable[..., World]) -> None:
    """Taken for one that can never be served, it was overtaken by thousands of small ones."""
    w = world()
    permit = under_long_load(w)
    admitted = anyio.Event()

    async def large() -> None:
        await w.controller.acquire("large", cost="600MiB")
        admitted.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(large)
        await settle()
        for _ in range(10):
            assert w.controller.try_acquire("small", cost="10MiB") is None
        w.memory.used -= 500 * MIB
        permit.record()
        with anyio.fail_after(5):
            await admitted.wait()


def test_giving_back_never_waits_for_its_own_thread(world: Callable[..., World]) -> None:
    """The collector may close a coroutine that holds a permit in the midst of a locked section of the same thread."""
    w = world()
    permit = w.controller.acquire_nowait("job", cost="100MiB")
    with w.controller._gate.lock, w.controller._gate.lock.plain:
        permit.record()
        assert w.controller._gate.reserved == 100 * MIB
    assert not permit.is_open
    assert w.controller.statistics().reserved == 0


def test_permits_of_collected_coroutines_come_back(world: Callable[..., World]) -> None:
    """Abandoned inside their block, in cycles that only the collector finds, while others come and go."""
    w = world()

    def hold() -> Any:
        permit = w.controller.acquire_nowait("job", cost="1MiB")
        try:
            yield
        finally:
            permit.drop()

    for number in range(2000):
        holder = hold()
        next(holder)
        cycle: list[Any] = [holder]
        cycle.append(cycle)
        del holder, cycle
        if number % 50 == 0:
            gc.collect()
        w.controller.acquire_nowait("other", cost="1MiB").record()
    gc.collect()
    assert w.controller.statistics().reserved == 0


def test_a_waiter_whose_loop_is_gone_keeps_nothing(world: Callable[..., World]) -> None:
    """Its wake-up cannot be delivered: the next in line gets the bytes."""
    w = world()
    held = w.controller.acquire_nowait("job", cost="900MiB")
    loop = asyncio.new_event_loop()
    task = loop.create_task(w.controller.acquire("job", cost="900MiB"))
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    assert w.controller.statistics().queued == 1
    loop.close()
    releasing = threading.Thread(target=held.record)
    releasing.start()
    releasing.join()
    assert w.controller.statistics().reserved == 0
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_memory_that_stays_is_no_cost(world: Callable[..., World]) -> None:
    """A model loaded by the first request was divided among all later ones, down to one at a time."""
    w = world()
    first = w.controller.acquire_nowait("embed")
    w.memory.used += 400 * MIB
    w.controller.sample()
    w.clock.advance(1)
    first.record()
    w.controller.sample()
    for _ in range(30):
        w.run_alone("embed", 10)
        w.controller.sample()
    cost = w.controller.statistics().task_classes["embed"].cost
    assert cost is not None
    assert cost < 15 * MIB


async def test_a_cost_model_that_raises_keeps_no_bytes(world: Callable[..., World]) -> None:
    """Neither when it is to learn nor while others are priced in the queue."""

    class Broken(LearnedCostModel):
        broken = False

        def sample(self, live: int | None, now: float, waiting: int = 0) -> None:
            if self.broken:
                raise ValueError("sample")
            super().sample(live, now, waiting)

    model = Broken()
    w = world(cost_model=model)
    permit = w.controller.acquire_nowait("job", cost="900MiB")
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(w.controller.acquire, f"job {number}")
        await settle()
        model.broken = True
        w.controller.sample()
        permit.record()
        await settle()
        assert w.controller.statistics().in_flight == 3
        assert w.controller.statistics().learning_errors == 1


async def test_free_work_counts_as_work(world: Callable[..., World]) -> None:
    """A declared cost of nothing was admitted and taken for an idle process."""
    w = world()
    w.controller.acquire_nowait("job", cost=0)
    assert w.controller.statistics().reserved == 1
    assert w.controller.statistics().in_flight == 1


def test_a_semaphore_can_be_released_in_parts() -> None:
    """Two parts of one acquire, and never more than there is."""
    semaphore = MemorySemaphore(100)
    semaphore.acquire_nowait(50)
    semaphore.release(20)
    semaphore.release(30)
    assert semaphore.statistics().reserved == 0
    with pytest.raises(RuntimeError):
        semaphore.release(0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_worker_thread_of_the_loop_may_wait(world: Callable[..., World], anyio_backend: str) -> None:
    """A thread that inherited the loop's context was told that it would stop the loop, in words of the backend."""
    w = world()
    w.controller.acquire_nowait("job", cost="900MiB")
    with pytest.raises(AdmissionRejected):
        await asyncio.to_thread(w.controller.acquire_sync, "job", deadline=0.01)


def test_one_that_stays_and_holds_more_does_not_shut_out_its_class(world: Callable[..., World]) -> None:
    """A long connection among short ones: while it grows nobody knows how far, then it is known what it holds."""
    w = world("4196MiB")
    w.run_alone("socket", 1, times=40)
    long = w.controller.acquire_nowait("socket")
    w.controller.sample()
    w.memory.used += 20 * MIB
    for _ in range(3):
        w.controller.sample()
    assert w.controller._costs.find("socket").price(0.0, 4000 * MIB) >= 1000 * MIB
    for _ in range(400):
        w.controller.sample()
        w.clock.advance(0.01)
    assert w.controller.statistics().expected_to_come < MIB
    permits = [w.controller.try_acquire("socket") for _ in range(200)]
    assert all(permits)
    long.drop()
