"""Guarded work that may be cancelled to free its memory, on asyncio and on trio."""

from __future__ import annotations

import weakref

import anyio
import anyio.lowlevel
import pytest

from asyncmem import AdmissionRejected, ConfigError, MemoryConfig, MemoryRuntime, Permit
from asyncmem.admission import current_permit
from asyncmem.errors import RejectionReason
from asyncmem.testing import SyntheticLimits, SyntheticSampler
from asyncmem.units import MIB

pytestmark = pytest.mark.anyio


class Held:
    """Stands for memory that work holds."""


def synthetic() -> tuple[MemoryRuntime, SyntheticSampler]:
    """A runtime on 1000 MiB with a guard band of 100, without a watcher, and its memory."""
    memory = SyntheticSampler("100MiB")
    config = MemoryConfig(guard_band="100MiB", log_alerts=False, monitoring=False)
    limits = SyntheticLimits(memory, "1000MiB")
    return MemoryRuntime(config, sampler=memory, machine=memory, limits=limits), memory


async def run_short(runtime: MemoryRuntime, memory: SyntheticSampler) -> None:
    """Let memory enter the guard band until nobody is left to be told to end."""
    runtime.admission.sample()
    memory.used = 990 * MIB
    for _ in range(5):
        await anyio.to_thread.run_sync(runtime.admission.sample)  # as the watcher does, from another thread
        await anyio.sleep(0.025)
    memory.used = 100 * MIB


async def test_cancellable_work_ends_with_a_refusal_and_its_memory_is_free() -> None:
    """Reason `evicted`, though whoever called keeps the error with its traceback; others go on."""
    runtime, memory = synthetic()
    held: list[weakref.ref[Held]] = []
    kept: list[BaseException] = []
    finished = anyio.Event()

    @runtime.guard("work", cost="300MiB", cancellable=True)
    async def work() -> None:
        mine = Held()
        held.append(weakref.ref(mine))
        await anyio.sleep_forever()

    async def call() -> None:
        try:
            await work()
        except AdmissionRejected as error:
            kept.append(error)

    async def beside() -> None:
        async with runtime.guard("beside", cost="300MiB"):
            await finished.wait()

    async with runtime:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(beside)
                tasks.start_soon(call)
                await anyio.wait_all_tasks_blocked()
                await run_short(runtime, memory)
                assert len(kept) == 1
                finished.set()
        statistics = runtime.statistics().admission
    (error,) = kept
    assert isinstance(error, AdmissionRejected)
    assert (error.reason, error.status_code) == (RejectionReason.EVICTED, 503)
    assert error.retry_after is not None
    assert held[0]() is None, "the kept traceback holds the memory"
    assert (statistics.evicted, statistics.reserved, statistics.in_flight) == (1, 0, 0)


async def test_work_that_may_not_be_cancelled_goes_on() -> None:
    """It is the default."""
    runtime, memory = synthetic()
    done: list[Permit] = []
    finished = anyio.Event()

    async def work(name: str) -> None:
        async with runtime.guard(name, cost="300MiB") as permit:
            await finished.wait()
            done.append(permit)

    async with runtime, anyio.create_task_group() as tasks:
        for name in ("a", "b"):
            tasks.start_soon(work, name)
        await anyio.wait_all_tasks_blocked()
        await run_short(runtime, memory)
        assert runtime.statistics().admission.evicted == 0
        finished.set()
    assert len(done) == 2


async def test_work_that_had_finished_is_not_told_otherwise() -> None:
    """The order came behind its last await: it has done all that it had to."""
    runtime, _ = synthetic()
    async with runtime:
        async with runtime.guard("work", cancellable=True) as permit:
            permit.evicted = True
            assert permit.canceller is not None
            permit.canceller.cancel(permit)
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
        with anyio.CancelScope() as scope:
            await anyio.lowlevel.checkpoint()
        assert not scope.cancelled_caught


async def test_an_order_that_comes_too_late_cancels_nothing() -> None:
    """Neither what its task does next, nor its next guard."""
    runtime, _ = synthetic()
    async with runtime:
        async with runtime.guard("work", cancellable=True) as permit:
            canceller = permit.canceller
            assert canceller is not None
        assert (permit.canceller, permit.handle) == (None, None)
        canceller.cancel(permit)
        await anyio.sleep(0.01)
        async with runtime.guard("work", cancellable=True) as another:
            canceller.cancel(permit)
            await anyio.sleep(0.01)
        assert not another.evicted


async def test_cancelled_from_outside_is_cancelled_and_not_refused() -> None:
    """Whoever cancels the task sees a cancellation; what the work raises itself comes out as it is."""
    runtime, _ = synthetic()
    async with runtime:
        with anyio.move_on_after(0.01) as scope:
            async with runtime.guard("work", cancellable=True):
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(KeyError):
            async with runtime.guard("work", cancellable=True):
                raise KeyError
        assert runtime.statistics().admission.reserved == 0


async def test_nothing_can_end_a_synchronous_block() -> None:
    """Said where it is written wrongly, with nothing held."""
    runtime, _ = synthetic()
    async with runtime:
        with pytest.raises(ConfigError, match="async with"), runtime.guard("work", cancellable=True):
            pass
        assert runtime.statistics().admission.reserved == 0
        assert current_permit.get() is None
