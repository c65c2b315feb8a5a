"""The decision in front of each piece of work, on memory and time that are set by hand."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asyncmem.admission import Priority, guard_band
from asyncmem.errors import AdmissionRejected, ConfigError, RejectionReason
from asyncmem.units import MIB
from tests.admission.conftest import World

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await checkpoint()


def rejected(call: Callable[[], object]) -> AdmissionRejected:
    """The refusal that a call raises."""
    with pytest.raises(AdmissionRejected) as caught:
        call()
    return caught.value


def test_declared_costs_are_reserved_before_the_memory_appears() -> None:
    """Nine of 100 fit beside the 100 in use, though not a byte has been allocated yet."""
    world = World()
    permits = [world.controller.try_acquire("job", cost="100MiB") for _ in range(10)]
    assert [p is not None for p in permits] == [True] * 9 + [False]
    statistics = world.controller.statistics()
    assert (statistics.reserved, statistics.in_flight, statistics.headroom) == (900 * MIB, 9, 0)


def test_memory_that_nobody_reserved_counts_too() -> None:
    """A leak of 500 leaves room for four of 100, not nine."""
    world = World()
    world.controller.acquire_nowait("job", cost="1MiB")
    world.memory.used = 600 * MIB
    taken = 0
    while world.controller.try_acquire("job", cost="99MiB") is not None:
        taken += 1
    assert taken == 4


def test_an_overshoot_counts_while_it_lasts() -> None:
    """Work that took more than it reserved holds others back while it does, and no longer."""
    world = World()
    permit = world.controller.acquire_nowait("job", cost="100MiB")
    world.memory.used += 500 * MIB
    world.controller.sample()
    assert world.controller.statistics().headroom == 400 * MIB
    world.memory.used -= 400 * MIB
    world.controller.sample()
    assert world.controller.statistics().headroom == 800 * MIB
    permit.drop()


def test_work_that_no_sample_has_seen_may_still_take_all_that_it_reserved() -> None:
    """Memory that appears meanwhile may be a neighbour's."""
    world = World()
    world.controller.acquire_nowait("job", cost="400MiB")
    world.memory.used += 300 * MIB
    assert world.controller.statistics().headroom == 200 * MIB


def test_memory_of_running_tasks_is_not_counted_twice() -> None:
    """When the reserved memory has appeared, the rest is still free."""
    world = World()
    world.controller.acquire_nowait("job", cost="400MiB")
    world.memory.used += 400 * MIB
    world.controller.sample()
    assert world.controller.statistics().headroom == 500 * MIB


def test_promises_return_to_zero() -> None:
    """Recorded, dropped, and ended twice: each permit comes back exactly once."""
    world = World()
    a, b = (world.controller.acquire_nowait("job", cost="100MiB") for _ in range(2))
    a.record()
    a.record()
    a.drop()
    b.drop()
    b.record()
    assert not a.is_open
    statistics = world.controller.statistics()
    assert (statistics.reserved, statistics.in_flight) == (0, 0)


def test_an_unknown_class_starts_with_little_company() -> None:
    """It reserves a quarter of what there is, and one of a kind runs at first, beside other kinds."""
    world = World()
    permits = [world.controller.try_acquire(name) for name in ("new", "new", "another")]
    assert [p is not None for p in permits] == [True, False, True]
    assert world.controller.statistics().reserved == 450 * MIB


def test_an_unknown_class_does_not_wait_for_the_end_of_a_long_task() -> None:
    """Time brings company too."""
    world = World()
    world.controller.acquire_nowait("new")
    world.clock.advance(1.1)
    assert world.controller.try_acquire("new") is not None


def test_a_cost_is_learned_from_tasks_that_run_alone() -> None:
    """After a few tasks of 40 MiB a task reserves 40 MiB and a margin."""
    world = World()
    world.run_alone("resize", 40, times=5)
    world.controller.sample()
    known = world.controller.statistics().task_classes["resize"]
    assert known.peak == pytest.approx(40 * MIB, rel=0.05)
    assert known.cost is not None
    assert 40 * MIB < known.cost < 60 * MIB
    assert known.samples == 5


def test_overlapping_tasks_share_the_growth() -> None:
    """Two tasks of 40 MiB at once teach 40 each, and not 80."""
    world = World()
    for _ in range(5):
        permits = [world.controller.acquire_nowait("resize", cost="60MiB") for _ in range(2)]
        world.controller.sample()
        world.memory.used += 80 * MIB
        for _ in range(5):
            world.clock.advance(0.01)
            world.controller.sample()
        world.memory.used -= 80 * MIB
        for permit in permits:
            permit.record()
        world.controller.sample()
    assert world.controller.statistics().task_classes["resize"].peak == pytest.approx(40 * MIB, rel=0.2)


def test_dropped_work_teaches_nothing() -> None:
    """What was cancelled early has not shown its peak."""
    world = World()
    world.controller.acquire_nowait("resize").drop()
    assert world.controller.statistics().task_classes["resize"].cost is None


def test_an_overshoot_is_learned_at_once() -> None:
    """One task that takes more than was known raises the cost for the next."""
    world = World()
    world.run_alone("report", 10, times=5)
    world.run_alone("report", 200)
    cost = world.controller.statistics().task_classes["report"].cost
    assert cost is not None
    assert cost >= 199 * MIB


def test_a_learned_cost_beyond_the_capacity_runs_alone() -> None:
    """It is never refused for ever: it takes all there is."""
    world = World()
    world.run_alone("huge", 850, times=5)
    permit = world.controller.acquire_nowait("huge")
    assert permit.reserved == 900 * MIB
    assert world.controller.try_acquire("other") is None


def test_a_declared_cost_that_can_never_fit_is_refused_at_once() -> None:
    """413: the limit is one that kills, so nothing is tried."""
    error = rejected(lambda: World().controller.acquire_nowait("import", cost="901MiB"))
    assert (error.reason, error.status_code, error.retry_after) == (RejectionReason.TOO_LARGE, 413, None)
    assert "901 MiB" in str(error)
    assert "900 MiB" in str(error)


def test_the_guard_band_is_for_work_that_runs_alone() -> None:
    """Declared work may reach into the guard band, but only with nothing else in flight."""
    world = World(guard="200MiB")
    small = world.controller.acquire_nowait("small", cost="10MiB")
    assert world.controller.try_acquire("large", cost="850MiB") is None
    small.drop()
    large = world.controller.acquire_nowait("large", cost="850MiB")
    assert world.controller.try_acquire("small", cost="10MiB") is None
    large.drop()


def test_one_operation_may_be_bounded() -> None:
    """`operation_limit` refuses more, and caps what is guessed."""
    world = World(operation_limit=50 * MIB)
    assert rejected(lambda: world.controller.acquire_nowait("x", cost="51MiB")).status_code == 413
    assert world.controller.acquire_nowait("x").reserved == 50 * MIB


def test_a_process_beyond_its_configured_limit_serves_one_at_a_time() -> None:
    """The liveness rule: with nothing in flight one task goes through, whatever the figures say."""
    world = World("50MiB", used="100MiB", enforced=False)
    permit = world.controller.acquire_nowait("request")
    assert world.controller.try_acquire("request") is None
    permit.record()
    world.controller.acquire_nowait("request", cost="10MiB").record()
    assert world.controller.statistics().probes == 2


def test_a_lowered_limit_admits_nothing_until_enough_is_back() -> None:
    """What was promised stays promised; nothing is added."""
    world = World()
    permits = [world.controller.acquire_nowait("job", cost="100MiB") for _ in range(6)]
    world.limits.resize("500MiB")
    world.limits.refresh()
    world.controller.adopt_bounds()
    assert world.controller.statistics().headroom == -200 * MIB
    for permit in permits[:2]:
        permit.record()
        assert world.controller.try_acquire("job", cost="100MiB") is None
    permits[2].record()
    permits[3].record()
    assert world.controller.try_acquire("job", cost="100MiB") is not None


async def test_waiters_go_on_when_permits_end() -> None:
    """In order of arrival, each as soon as it fits."""
    world = World()
    done: list[int] = []

    async def work(number: int) -> None:
        permit = await world.controller.acquire("job", cost="400MiB")
        done.append(number)
        await settle()
        permit.record()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(work, number)
                await checkpoint()
    assert done == list(range(10))
    assert world.controller.statistics().reserved == 0


async def test_costs_learned_meanwhile_count_for_those_that_wait() -> None:
    """Fifty of a class nobody knows: one runs, and as they show to be small, more and more run beside each other."""
    world = World()
    most = 0

    async def work() -> None:
        permit = await world.controller.acquire("new")
        nonlocal most
        most = max(most, world.controller.statistics().in_flight)
        while world.clock.monotonic() < permit.admitted_at + 0.1:
            await checkpoint()
        permit.record()

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(work)
        await settle()
        assert world.controller.statistics().queued == 49
        while world.controller.statistics().in_flight:
            world.clock.advance(0.01)
            world.controller.sample()
            await settle()
    assert most > 20


async def test_waiters_go_on_when_memory_comes_back_by_itself() -> None:
    """A neighbour lets go; nobody releases a permit; the watcher's sample admits."""
    world = World()
    held = world.controller.acquire_nowait("job", cost="1MiB")
    world.memory.used = 950 * MIB
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.controller.acquire, "other")
        await settle()
        assert world.controller.statistics().queued == 1
        world.memory.used = 100 * MIB
        world.clock.advance(0.2)
        world.controller.sample()
    assert world.controller.statistics().in_flight == 2
    held.drop()


async def test_a_raised_limit_admits_those_that_wait() -> None:
    """In-place resize is real."""
    world = World()
    world.controller.acquire_nowait("job", cost="900MiB")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.controller.acquire, "other")
        await settle()
        world.limits.resize("2000MiB")
        world.limits.refresh()
        world.controller.adopt_bounds()
    assert world.controller.statistics().in_flight == 2


async def test_a_full_queue_refuses_at_once() -> None:
    """429, with a time after which to come back."""
    world = World(max_queue=2)
    world.controller.acquire_nowait("job", cost="900MiB")
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(world.controller.acquire, "job")
        await settle()
        with pytest.raises(AdmissionRejected) as caught:
            await world.controller.acquire("job")
        tasks.cancel_scope.cancel()
    error = caught.value
    assert (error.reason, error.status_code) == (RejectionReason.QUEUE_FULL, 429)
    assert error.retry_after is not None
    assert error.retry_after >= 1
    assert world.controller.statistics().rejected == {"queue_full": 1}


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [({"deadline": 0.01}, RejectionReason.DEADLINE), ({}, RejectionReason.MEMORY)],
)
async def test_a_wait_that_is_too_long_is_refused(kwargs: dict[str, float], reason: RejectionReason) -> None:
    """503, by the caller's deadline or by the longest wait; nothing stays behind."""
    world = World(queue_timeout=0.05)
    held = world.controller.acquire_nowait("job", cost="900MiB")
    with pytest.raises(AdmissionRejected) as caught:
        await world.controller.acquire("job", **kwargs)  # type: ignore[arg-type]
    assert (caught.value.reason, caught.value.status_code) == (reason, 503)
    held.record()
    statistics = world.controller.statistics()
    assert (statistics.reserved, statistics.queued) == (0, 0)


async def test_closing_refuses_all_that_wait_and_all_that_come() -> None:
    """Each gets an error of its own."""
    world = World()
    held = world.controller.acquire_nowait("job", cost="900MiB")
    errors: list[AdmissionRejected] = []

    async def wait() -> None:
        try:
            await world.controller.acquire("job")
        except AdmissionRejected as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(wait)
        await settle()
        world.controller.close()
    assert len({id(error) for error in errors}) == 3
    assert {error.reason for error in errors} == {RejectionReason.CLOSED}
    assert rejected(lambda: world.controller.acquire_nowait("job")).reason is RejectionReason.CLOSED
    held.record()
    assert world.controller.statistics().reserved == 0


async def test_a_thread_waits_for_a_task() -> None:
    """The synchronous way in blocks its thread until the loop gives back."""
    world = World()
    held = world.controller.acquire_nowait("job", cost="900MiB")
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(anyio.to_thread.run_sync, world.controller.acquire_sync, "job"))
            while not world.controller.statistics().queued:
                await checkpoint()
            held.record()
    assert world.controller.statistics().in_flight == 1


async def test_a_blocking_wait_on_the_loops_thread_is_refused() -> None:
    """And nothing is queued by it."""
    world = World()
    world.controller.acquire_nowait("job", cost="900MiB")
    with pytest.raises(RuntimeError, match="async with"):
        world.controller.acquire_sync("job")
    assert world.controller.statistics().queued == 0


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"cost": -1}, "-1"),
        ({"cost": "lots"}, "lots"),
        ({"cost": 1.5}, "1.5"),
        ({"priority": 7}, "Priority.HIGH"),
        ({"deadline": 0}, "deadline"),
        ({"deadline": -3}, "-3"),
        ({"deadline": float("nan")}, "nan"),
    ],
)
async def test_bad_arguments_are_named(kwargs: dict[str, object], said: str) -> None:
    """And reserve nothing."""
    world = World()
    with pytest.raises(ConfigError, match=said):
        await world.controller.acquire("job", **kwargs)  # type: ignore[arg-type]
    assert world.controller.statistics().reserved == 0


async def test_priorities_are_served_in_their_order() -> None:
    """A high one passes those that wait with a lower one."""
    world = World()
    held = world.controller.acquire_nowait("job", cost="900MiB")
    order: list[Priority] = []

    async def work(priority: Priority) -> None:
        permit = await world.controller.acquire("job", cost="900MiB", priority=priority)
        order.append(priority)
        permit.record()

    async with anyio.create_task_group() as tasks:
        for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
            tasks.start_soon(work, priority)
            await settle()
        held.record()
    assert order == [Priority.HIGH, Priority.NORMAL, Priority.LOW]


def test_classes_from_outside_cannot_fill_the_memory() -> None:
    """Beyond a thousand names the one not seen for longest is forgotten."""
    world = World()
    for number in range(1100):
        world.controller.acquire_nowait(f"name {number}", cost=1).record()
    assert len(world.controller.statistics().task_classes) == 1000


@pytest.mark.parametrize(
    ("limit", "configured", "expected"),
    [
        (256 * MIB, None, 32 * MIB),
        (512 * MIB, None, 64 * MIB),
        (1024 * MIB, None, 64 * MIB),
        (4096 * MIB, None, 4096 * MIB // 20),
        (1000 * MIB, "10%", 100 * MIB),
        (1000 * MIB, 5 * MIB, 5 * MIB),
        (10 * MIB, 50 * MIB, 10 * MIB - 1),
    ],
)
def test_the_guard_band_leaves_small_containers_usable(limit: int, configured: int | str | None, expected: int) -> None:
    """5 %, at least 64 MiB or an eighth; or what the user says."""
    assert guard_band(limit, configured) == expected
