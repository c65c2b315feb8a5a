"""Pressure leads to actions: from the watcher's sample to caches, shedding and `on_critical`; also without a loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from asyncmem import AdmissionRejected, ConfigError, MemoryConfig, MemoryRuntime, Priority
from asyncmem.errors import RejectionReason
from asyncmem.events import PressureLevel
from asyncmem.reclaim import PressureActions
from asyncmem.testing import SyntheticLimits, SyntheticSampler
from asyncmem.units import MIB

LOW, MEDIUM, HIGH, CRITICAL = PressureLevel


class Cache:
    """A cache of a synthetic process."""

    name = "cache"
    essential = False

    def __init__(self, memory: SyntheticSampler, size: int) -> None:
        self._memory = memory
        self.size = size
        self.told: list[PressureLevel] = []
        self.threads: set[str] = set()
        memory.used += size

    def shrink(self, level: PressureLevel) -> int:
        """Give back the half, or all."""
        self.told.append(level)
        self.threads.add(threading.current_thread().name)
        given = {LOW: 0, MEDIUM: self.size // 2}.get(level, self.size)
        self.size -= given
        self._memory.used -= given
        return given


def synthetic(**options: Any) -> tuple[MemoryRuntime, SyntheticSampler]:
    """A runtime on 1000 MiB of which 100 are in use, and its memory."""
    memory = SyntheticSampler("100MiB")
    runtime = MemoryRuntime(
        MemoryConfig(guard_band="50MiB", interval=0.05, log_alerts=False),
        sampler=memory,
        machine=memory,
        limits=SyntheticLimits(memory, "1000MiB", enforced=False),
        **options,
    )
    return runtime, memory


def until(condition: Callable[[], object]) -> None:
    """Wait for what other threads do; half a minute at most."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


async def soon(condition: Callable[[], object]) -> None:
    """The same in an event loop."""
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - of another thread
            await anyio.sleep(0.005)


def test_a_cache_shrinks_without_any_loop() -> None:
    """In a thread of its own, until memory is back below the level; then it is told so, and the thread goes."""
    runtime, memory = synthetic()
    with runtime:
        cache = Cache(memory, 800 * MIB)
        runtime.reclaimers.add(cache)
        until(lambda: LOW in cache.told)
        until(lambda: runtime.statistics().actions.level is LOW and not runtime.statistics().actions.running)
        statistics = runtime.statistics()
    assert cache.told[0] is HIGH
    assert memory.used == 100 * MIB
    assert cache.threads == {"asyncmem-reclaim"}
    assert statistics.reclaim.bytes_freed >= 800 * MIB
    assert statistics.watcher.errors == statistics.actions.errors == 0


@pytest.mark.anyio
async def test_low_priority_is_shed_while_pressure_is_high() -> None:
    """As long as the level's actions say so, and something is in flight."""
    runtime, memory = synthetic()
    async with runtime, runtime.guard("work", cost="1MiB"):
        memory.used = 880 * MIB
        await soon(lambda: runtime.admission.is_shedding)
        assert runtime.pressure.level is HIGH
        assert await in_another_task(runtime) is RejectionReason.PRESSURE
        memory.used = 100 * MIB
        await soon(lambda: not runtime.admission.is_shedding)
        assert await in_another_task(runtime) is None
    assert runtime.statistics().admission.rejected == {"pressure": 1}


async def in_another_task(runtime: MemoryRuntime) -> RejectionReason | None:
    """Ask with low priority from a task that holds nothing; returns why it was refused."""
    found: list[RejectionReason | None] = []

    def ask() -> None:
        try:
            with runtime.guard("report", cost="1MiB", priority=Priority.LOW):
                found.append(None)
        except AdmissionRejected as rejection:
            found.append(rejection.reason)

    thread = threading.Thread(target=ask)
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    return found[0]


def test_shedding_can_be_left_out() -> None:
    """Actions are data."""
    runtime, memory = synthetic(actions=PressureActions(high=("trim",)))
    with runtime:
        memory.used = 880 * MIB
        until(lambda: runtime.pressure.level is HIGH and runtime.statistics().actions.rounds)
        assert not runtime.admission.is_shedding
        memory.used = 960 * MIB
        until(lambda: runtime.admission.is_shedding)


@pytest.mark.anyio
async def test_on_critical_is_called_in_the_loop_or_beside_it() -> None:
    """An async one in the loop that runs the runtime, a sync one in a thread; each once."""
    called = anyio.Event()
    threads: list[int] = []

    async def page() -> None:
        threads.append(threading.get_ident())
        called.set()

    runtime, memory = synthetic(on_critical=page)
    lasting = threading.Event()
    runtime.on_critical(lasting.set, after=0.2)
    async with runtime:
        with anyio.fail_after(30):
            memory.used = 900 * MIB
            await soon(lambda: runtime.pressure.level is HIGH)
            assert not threads
            memory.used = 960 * MIB
            await called.wait()
            await soon(lasting.is_set)
        assert threads == [threading.get_ident()]
        statistics = runtime.statistics().critical
        assert (statistics.episodes, statistics.calls, statistics.errors, statistics.unserved) == (1, 2, 0, 0)


def test_by_hand_caches_shrink_and_may_grow_again() -> None:
    """As at `MEDIUM`, or as is asked for."""
    runtime, memory = synthetic()
    with runtime:
        cache = Cache(memory, 400 * MIB)
        runtime.reclaimers.add(cache)
        assert "cache" in [action.name for action in runtime.reclaim().actions]
        assert cache.told == [MEDIUM, LOW]
        runtime.reclaim(CRITICAL)
        assert cache.told == [MEDIUM, LOW, CRITICAL, LOW]
        runtime.reclaim(LOW)
    assert cache.told == [MEDIUM, LOW, CRITICAL, LOW]
    assert memory.used == 100 * MIB


def test_stopping_does_not_wait_for_a_cache() -> None:
    """One that hangs is left behind after a second."""
    runtime, memory = synthetic()
    begun, go_on = threading.Event(), threading.Event()

    class Hanging(Cache):
        def shrink(self, level: PressureLevel) -> int:
            begun.set()
            go_on.wait(30)
            return super().shrink(level)

    with runtime:
        cache = Hanging(memory, 800 * MIB)
        runtime.reclaimers.add(cache)
        assert begun.wait(30)
    assert not go_on.is_set()
    go_on.set()
    until(lambda: not any(thread.name == "asyncmem-reclaim" for thread in threading.enumerate()))


def test_what_cannot_be_is_refused() -> None:
    """Where the runtime is made."""
    with pytest.raises(ConfigError, match="actions: got"):
        synthetic(actions={"high": ()})
    with pytest.raises(ConfigError, match="on_critical: got 3"):
        synthetic(on_critical=3)
    runtime, _ = synthetic()
    with pytest.raises(ConfigError, match="after=-1"):
        runtime.on_critical(print, after=-1)
