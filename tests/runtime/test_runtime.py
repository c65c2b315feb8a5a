"""The runtime without any framework: limits, permits, alerts and the watcher joined, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import structlog
from structlog.testing import capture_logs

from asyncmem import (
    AlertLevel,
    AlertState,
    AlertType,
    ConfigError,
    MemoryAlert,
    MemoryConfig,
    MemoryRuntime,
    get_runtime,
    memory_guard,
)
from asyncmem.limits import Bound
from asyncmem.logs import add_permit
from asyncmem.runtime import running_runtimes
from asyncmem.testing import ManualClock, SyntheticLimits, SyntheticSampler, capture_alerts
from asyncmem.units import MIB

pytestmark = pytest.mark.anyio


def synthetic(limit: str = "1000MiB", used: str = "100MiB", **settings: Any) -> tuple[MemoryRuntime, SyntheticSampler]:
    """A runtime on memory that is set by hand, and that memory."""
    memory = SyntheticSampler(used)
    runtime = MemoryRuntime(
        MemoryConfig(**{"guard_band": 0} | settings),
        sampler=memory,
        machine=memory,
        limits=SyntheticLimits(memory, limit, enforced=False),
    )
    return runtime, memory


async def test_a_guard_holds_a_permit_for_its_block() -> None:
    """Reserved inside, back outside."""
    runtime, _ = synthetic()
    async with runtime as memory:
        async with memory.guard("embedding", cost="80MiB") as permit:
            assert permit.reserved == 80 * MIB
            assert memory.statistics().admission.in_flight == 1
        assert memory.statistics().admission.reserved == 0
        assert list(memory.statistics().admission.task_classes) == ["embedding"]


async def test_work_that_raises_or_is_cancelled_gives_back() -> None:
    """And teaches nothing."""
    runtime, _ = synthetic()
    async with runtime as memory:
        with pytest.raises(ValueError, match="broken"):
            async with memory.guard("job"):
                raise ValueError("broken")
        with anyio.move_on_after(0):
            async with memory.guard("job"):
                await anyio.sleep_forever()
        statistics = memory.statistics().admission
        assert (statistics.in_flight, statistics.reserved) == (0, 0)
        assert statistics.task_classes["job"].cost is None


async def test_the_blocks_own_error_comes_out_as_it_is() -> None:
    """Not wrapped in a group by the tasks that the runtime keeps."""
    runtime, _ = synthetic()
    with pytest.raises(KeyError):
        async with runtime:
            raise KeyError("mine")
    assert not runtime.is_running


async def test_decorators_guard_async_and_sync_functions() -> None:
    """Each call takes a permit of its own; name, doc and result stay."""
    runtime, _ = synthetic()
    async with runtime as memory:

        @memory.guard("work", cost="10MiB")
        async def work(number: int) -> int:
            """Document."""
            assert memory.statistics().admission.in_flight > 0
            await anyio.lowlevel.checkpoint()
            return number * 2

        @memory_guard("sync", cost="10MiB")
        def sync(number: int) -> int:
            assert memory.statistics().admission.in_flight == 1
            return number * 3

        results: list[int] = []

        async def call(number: int) -> None:
            results.append(await work(number))

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(call, number)
        assert sorted(results) == [0, 2, 4, 6, 8]
        assert (work.__name__, work.__doc__) == ("work", "Document.")
        assert await anyio.to_thread.run_sync(sync, 2) == 6
        assert sync(2) == 6
        assert memory.statistics().admission.in_flight == 0
        assert memory.statistics().admission.admitted == 7


async def test_a_guard_is_entered_once() -> None:
    """A second block needs a second guard."""
    runtime, _ = synthetic()
    async with runtime as memory:
        guard = memory.guard("job")
        async with guard:
            with pytest.raises(RuntimeError, match="entered before"):
                async with guard:
                    pass
        assert memory.statistics().admission.in_flight == 0


async def test_bad_guards_are_refused_where_they_are_written() -> None:
    """Names, costs, priorities, deadlines, and functions that do nothing when called."""
    runtime, _ = synthetic()
    for kwargs in ({"cost": "lots"}, {"cost": -1}, {"priority": 9}, {"deadline": 0}):
        with pytest.raises(ConfigError):
            runtime.guard("job", **kwargs)
    with pytest.raises(ConfigError, match="with its brackets"):
        memory_guard(print)  # type: ignore[arg-type]

    async def stream() -> Any:
        yield 1

    with pytest.raises(ConfigError, match="generator function"):
        runtime.guard("job")(stream)


async def test_the_current_runtime_is_the_one_around() -> None:
    """Inside its block, else the one started last; nested blocks restore the outer one."""
    outer, _ = synthetic()
    inner, _ = synthetic()
    async with outer:
        assert get_runtime() is outer
        async with inner:
            assert get_runtime() is inner
        assert get_runtime() is outer
        found: list[MemoryRuntime] = []
        thread = threading.Thread(target=lambda: found.append(get_runtime()))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        assert found == [outer]


def test_a_default_runtime_is_made_at_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, in plain code without a loop; once."""
    assert running_runtimes == []
    monkeypatch.setenv("ASYNCMEM_LIMIT", "64GiB")
    with memory_guard("plain", cost=1):
        runtime = get_runtime()
    try:
        assert runtime.config.limit == 64 * 2**30
        assert runtime.statistics().watcher.running
        assert get_runtime() is runtime
    finally:
        runtime.stop()
    assert running_runtimes == []


async def test_thresholds_become_alerts_in_stream_handler_and_log() -> None:
    """One alert when memory rises past 90 %, one when it is back."""
    runtime, memory = synthetic(monitoring=False, alert_cooldown=0)
    handled: list[MemoryAlert] = []
    both = anyio.Event()

    async def handler(alert: MemoryAlert) -> None:
        handled.append(alert)
        if len(handled) == 2:
            both.set()

    with capture_logs() as logs, anyio.fail_after(10):
        async with runtime:
            runtime.alerts.add_handler(handler)
            stream = runtime.alerts.stream()
            memory.used = 950 * MIB
            for _ in range(3):
                runtime.check_now()
            memory.used = 100 * MIB
            runtime.check_now()
            firing, resolved = await anext(stream), await anext(stream)
            await both.wait()
    assert (firing.level, firing.state, firing.alert_type) == (
        AlertLevel.CRITICAL,
        AlertState.FIRING,
        AlertType.HIGH_MEMORY,
    )
    assert resolved.state is AlertState.RESOLVED
    assert resolved.fingerprint == firing.fingerprint
    assert handled == [firing, resolved]
    assert [(log["event"], log["state"]) for log in logs] == [("memory_alert", "firing"), ("memory_alert", "resolved")]


async def test_a_threshold_is_passed_between_two_snapshots() -> None:
    """The next look raises the alert, with a snapshot of its own; that it is over waits for the next in turn."""
    runtime, memory = synthetic(interval=60.0, log_alerts=False, monitoring=False)
    with capture_alerts(runtime.alerts) as seen:

        def of_percent() -> list[MemoryAlert]:
            return [alert for alert in seen if alert.rule == "percent"]

        async with runtime:
            runtime._look()
            for used, alerts in ((850, 1), (860, 1), (950, 2), (850, 2), (100, 2), (950, 2)):
                memory.used = used * MIB
                runtime._look()
                assert len(of_percent()) == alerts
    assert [alert.level for alert in of_percent()[:2]] == [AlertLevel.WARNING, AlertLevel.CRITICAL]
    assert all(alert.snapshot is not None and alert.snapshot.percent == alert.value for alert in of_percent()[:2])


async def test_a_bound_that_only_admission_finds_tight_costs_no_snapshots() -> None:
    """Which bound is the tightest depends on the guard bands: where the two differ, each look would take one."""
    own, pod = SyntheticSampler("78MiB"), SyntheticSampler("478MiB")

    class Nested(SyntheticLimits):
        """A container in a pod that is fuller, with more bytes left."""

        def __init__(self) -> None:
            super().__init__(own, "128MiB")
            (inner,), (outer,) = self.bounds, SyntheticLimits(pod, "530MiB").bounds
            self.bounds = self._next = (inner, replace(outer, name="pod", source="pod"))

        def binding(self) -> Bound:
            return min(self.bounds, key=lambda bound: bound.limit - bound.meter.used())

    runtime = MemoryRuntime(
        MemoryConfig(log_alerts=False, interval=60.0, monitoring=False), sampler=own, machine=own, limits=Nested()
    )
    async with runtime:
        runtime._look()
        assert runtime.admission.tightest().limit == 530 * MIB
        before = runtime.monitor.statistics().captured
        for _ in range(20):
            runtime._look()
        assert runtime.monitor.statistics().captured - before <= 1


async def test_a_limit_below_what_is_used_warns_and_serves() -> None:
    """A clear warning, a CRITICAL alert, and one task at a time."""
    with capture_logs() as logs:
        runtime, _ = synthetic("50MiB")
        with capture_alerts(runtime.alerts) as alerts:
            async with runtime as memory:
                async with memory.guard("job", cost="10MiB"):
                    assert memory.admission.try_acquire("job") is None
                assert memory.statistics().admission.in_flight == 0
    told = [(alert.level, alert.state) for alert in alerts if alert.rule == "percent"]
    assert told == [(AlertLevel.CRITICAL, AlertState.FIRING), (AlertLevel.CRITICAL, AlertState.RESOLVED)]
    warning = next(log for log in logs if log["event"] == "memory_limit_too_small")
    assert warning["limit"] == "50 MiB"
    assert warning["working_set"] == "100 MiB"
    assert "ASYNCMEM_LIMIT" in warning["hint"]


async def test_a_changed_limit_is_adopted_and_announced() -> None:
    """In-place resize: the next check sees it."""
    memory = SyntheticSampler("100MiB")
    limits = SyntheticLimits(memory, "1000MiB")
    runtime = MemoryRuntime(
        MemoryConfig(guard_band=0, monitoring=False), sampler=memory, machine=memory, limits=limits, clock=ManualClock()
    )
    with capture_logs(), capture_alerts(runtime.alerts) as alerts:
        async with runtime:
            limits.resize("500MiB")
            runtime.check_now()
            assert runtime.statistics().admission.headroom == 400 * MIB
    assert [alert.alert_type for alert in alerts] == [AlertType.LIMIT_CHANGED]
    assert "from 1000 MiB to 500 MiB" in alerts[0].message


async def test_a_limit_of_the_same_size_elsewhere_is_no_news() -> None:
    """A process that is moved to a group with the same limit raises nothing, and the bound is adopted."""
    memory = SyntheticSampler("100MiB")
    limits, elsewhere = (SyntheticLimits(memory, "1000MiB", enforced=enforced) for enforced in (False, True))
    runtime = MemoryRuntime(
        MemoryConfig(guard_band=0, monitoring=False), sampler=memory, machine=memory, limits=limits, clock=ManualClock()
    )
    with capture_logs(), capture_alerts(runtime.alerts) as alerts:
        async with runtime:
            limits._next = elsewhere.bounds
            runtime.check_now()
            assert runtime.limits.binding().enforced
            assert runtime.statistics().admission.headroom == 900 * MIB
    assert alerts == []


async def test_the_watcher_sees_the_peak_of_work_that_says_nothing() -> None:
    """Real memory, real thread: 30 MiB taken and given back inside a block are learned."""
    async with MemoryRuntime(MemoryConfig(log_alerts=False)) as memory:
        peak, end = 0, time.monotonic() + 60
        while peak <= 25 * MIB and time.monotonic() < end:  # one that no sample has seen teaches nothing
            async with memory.guard("block"):
                block = bytearray(30 * MIB)
                await anyio.sleep(0.05)
                del block
            peak = memory.statistics().admission.task_classes["block"].peak
        assert 25 * MIB < peak < 60 * MIB
        assert memory.statistics().watcher.errors == 0


async def test_log_lines_carry_the_permit() -> None:
    """Task class and bytes, looked up when the line is written; nothing outside of a permit."""
    runtime, _ = synthetic(log_alerts=False)
    with capture_logs(processors=[add_permit]) as logs:
        async with runtime as memory:
            log = structlog.get_logger()
            log.info("outside")
            async with memory.guard("report", cost="20MiB"):
                log.info("inside")
    assert logs[0] == {"event": "outside", "log_level": "info"}
    assert logs[1] == {
        "event": "inside",
        "log_level": "info",
        "task_class": "report",
        "reserved_bytes": 20 * MIB,
    }


def test_a_runtime_runs_once() -> None:
    """A second start says to make a new one; stopping twice does no harm."""
    runtime, _ = synthetic()
    with runtime, pytest.raises(RuntimeError, match="make a new one"):
        runtime.start()
    runtime.stop()
    assert not runtime.is_running


async def test_a_running_runtime_cannot_be_entered_again() -> None:
    """The error comes as it is, and the first block goes on and ends as if nothing had been."""
    runtime, _ = synthetic()
    async with runtime as memory:
        with pytest.raises(RuntimeError, match=r"served already|make a new one"):
            async with runtime:
                pass
        assert memory.is_running
        assert get_runtime() is memory
        async with memory.guard("job"):
            pass
    assert not runtime.is_running


async def test_a_runtime_that_cannot_start_leaves_nothing_behind() -> None:
    """The reason comes out as it is; no thread, no task, no current runtime."""
    runtime, memory = synthetic()
    memory.error = ProcessLookupError("gone")
    with pytest.raises(ProcessLookupError, match="gone"):
        async with runtime:
            pass
    assert not runtime.is_running
    assert running_runtimes == []
    runtime, memory = synthetic()
    memory.error = ProcessLookupError("gone")
    with pytest.raises(ProcessLookupError, match="gone"), runtime:
        pass
    assert not runtime.is_running
    assert running_runtimes == []
    assert not any("asyncmem" in thread.name for thread in threading.enumerate())


async def test_monitor_keeps_a_bounded_history() -> None:
    """The oldest go; a labelled snapshot counts more."""
    runtime, memory = synthetic(history=3, monitoring=False)
    async with runtime:
        for _ in range(5):
            runtime.monitor.capture_snapshot()
        memory.used = 250 * MIB
        snapshot = runtime.monitor.capture_snapshot("after import")
    assert len(runtime.monitor.snapshots) == 3
    assert runtime.monitor.get_current_snapshot() is snapshot
    assert snapshot.label == "after import"
    assert snapshot.gc_objects is not None
    assert snapshot.gc_objects > 1000
    assert runtime.monitor.snapshots[0].gc_objects is None
    assert (snapshot.working_set_mb, snapshot.percent) == (250, 25)
    assert runtime.statistics().monitor.captured == 7
    assert snapshot.as_dict()["percent"] == 25


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("steps", [0, 1, 2, 5, 10])
async def test_cancelled_while_it_stops_it_leaves_nothing_behind(anyio_backend: str, steps: int) -> None:
    """A bare `Task.cancel`, which no shield holds off, in the midst of leaving the block."""
    runtime, _ = synthetic(log_alerts=False)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with runtime:
            entered.set()
            await leave.wait()

    before = asyncio.all_tasks()
    task = asyncio.ensure_future(live())
    await entered.wait()
    leave.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert runtime not in running_runtimes
    if left := asyncio.all_tasks() - before:
        _, left = await asyncio.wait(left, timeout=5)
    assert left == set()


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("no number")])
async def test_memory_that_cannot_be_read_is_told_and_stops_nothing(error: Exception) -> None:
    """Work goes on by what was last read; an alert says so after a second, and another when it is over."""
    memory = SyntheticSampler("100MiB")
    runtime = MemoryRuntime(
        MemoryConfig(guard_band=0, interval=0.05),
        sampler=memory,
        machine=memory,
        limits=SyntheticLimits(memory, "1000MiB", enforced=False),
    )
    async with runtime:
        with capture_alerts(runtime.alerts) as seen:
            memory.error = error
            with anyio.fail_after(10):
                while not [alert for alert in seen if alert.alert_type is AlertType.SAMPLING_FAILED]:
                    async with runtime.guard("work", cost="300MiB"), runtime.guard("work", cost="300MiB"):
                        await anyio.sleep(0.02)
                memory.error = None
                while not [a for a in seen if (a.alert_type, a.state) == (AlertType.SAMPLING_FAILED, "resolved")]:  # noqa: ASYNC110 - of another thread
                    await anyio.sleep(0.02)
        told = [alert.state for alert in seen if alert.alert_type is AlertType.SAMPLING_FAILED]
        assert told == [AlertState.FIRING, AlertState.RESOLVED]
        assert runtime.statistics().watcher.running
        assert runtime.statistics().admission.reserved == 0


async def test_whoever_samples_is_called_only_while_they_may_be_away() -> None:
    """By the first that comes, then by none while samples go on, and again once they have ended."""
    memory = SyntheticSampler("100MiB")
    runtime = MemoryRuntime(
        MemoryConfig(interval=60.0), sampler=memory, machine=memory, limits=SyntheticLimits(memory, "1000MiB")
    )
    async with runtime:
        calls = []
        wake = runtime.admission.on_first
        assert wake is not None
        runtime.admission.on_first = lambda: calls.append(wake())
        for called in (1, 2):
            with anyio.fail_after(5):
                while runtime.admission._watching.sample() is not None:  # noqa: ASYNC110 - of another thread
                    await anyio.sleep(0.01)
            for _ in range(100):
                async with runtime.guard("work"):
                    pass
            async with runtime.guard("work"):
                before = runtime.statistics().watcher.ticks
                with anyio.fail_after(5):
                    while runtime.statistics().watcher.ticks < before + 5:  # noqa: ASYNC110 - of another thread
                        await anyio.sleep(0.01)
            assert len(calls) >= called
            assert len(calls) < 50


def test_a_forked_child_is_watched_from_its_first_work() -> None:
    """Though the parent's thread was awake when it forked, and is not there in the child."""
    script = """
import os, time
from asyncmem import MemoryConfig, MemoryRuntime
with MemoryRuntime(MemoryConfig(interval=60.0)) as memory:
    with memory.guard("parent"):
        while memory.admission._gate.is_asleep:
            time.sleep(0.01)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert not memory.statistics().watcher.running
                with memory.guard("child"):
                    before, end = memory.statistics().watcher.ticks, time.monotonic() + 10
                    while memory.statistics().watcher.ticks < before + 5 and time.monotonic() < end:
                        time.sleep(0.01)
                    code = 0 if memory.statistics().watcher.ticks >= before + 5 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)


async def test_a_limit_is_followed_closely_while_work_is_in_flight() -> None:
    """Not only as often as snapshots are taken: lowered below what was admitted, it kills within a second."""
    memory = SyntheticSampler("100MiB")
    limits = SyntheticLimits(memory, "1000MiB", enforced=False)
    config = MemoryConfig(guard_band=0, interval=60.0)
    async with MemoryRuntime(config, sampler=memory, machine=memory, limits=limits) as runtime:
        async with runtime.guard("work", cost="300MiB"):
            limits.resize("600MiB")
            with anyio.fail_after(5):
                while not runtime.alerts.history:  # noqa: ASYNC110 - of another thread
                    await anyio.sleep(0.01)
            assert runtime.statistics().admission.capacity == 600 * MIB
        assert runtime.alerts.history[-1].alert_type is AlertType.LIMIT_CHANGED


def test_a_look_that_fails_halfway_is_followed_by_another() -> None:
    """Limits that cannot be read for a moment: work in flight is looked at all the same, as often as before."""
    memory = SyntheticSampler("100MiB")
    limits = SyntheticLimits(memory, "1000MiB")
    with MemoryRuntime(MemoryConfig(interval=60.0), sampler=memory, machine=memory, limits=limits) as runtime:
        runtime.limits.refresh = fail  # type: ignore[method-assign]
        runtime._next_check = 0.0
        with runtime.guard("work", cost="300MiB"):
            before, end = runtime.statistics().watcher.ticks, time.monotonic() + 10
            while runtime.statistics().watcher.ticks < before + 20 and time.monotonic() < end:
                time.sleep(0.01)
            statistics = runtime.statistics().watcher
        assert statistics.ticks >= before + 20
        assert statistics.errors > 0


def fail() -> bool:
    """There is nothing to be had."""
    raise OSError("gone")
