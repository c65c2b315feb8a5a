"""Work measured in its own steps: told apart from what others take, and awaited as it would be without."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asyncmem.admission import Permit
from asyncmem.admission.steps import Stepped
from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.admission.conftest import World

pytestmark = pytest.mark.anyio


def stepped(w: World, work: Any, name: str = "job") -> tuple[Permit, Stepped[Any]]:
    """Work under a permit of an unknown class, and what to await."""
    permit = w.controller.acquire_nowait(name)
    w.controller.read_now = lambda: w.memory.used
    awaited = w.controller.step(permit, work)
    assert isinstance(awaited, Stepped)
    return permit, awaited


async def take(w: World, mib: int, steps: int = 3) -> int:
    """Take so many MiB in steps, and give them back."""
    for _ in range(steps):
        w.memory.used += mib * MIB // steps
        await checkpoint()
    w.memory.used -= mib * MIB // steps * steps
    return mib


async def test_each_of_two_that_overlap_is_measured_by_itself(world: Callable[..., World]) -> None:
    """They run side by side from their first step to their last."""
    w = world()
    (small, a), (large, b) = stepped(w, take(w, 6), "small"), stepped(w, take(w, 150), "large")
    results: list[int] = []

    async def run(work: Stepped[int]) -> None:
        results.append(await work)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, a)
        tasks.start_soon(run, b)
    assert sorted(results) == [6, 150]
    assert (small.measured, large.measured) == (6 * MIB, 150 * MIB)
    assert (small.taken, large.taken) == (0, 0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_classes_that_overlap_from_the_first_are_told_apart_at_once(
    world: Callable[..., World], anyio_backend: str
) -> None:
    """A large one was taken for small because small ones ran beside it, and five were let in at once."""
    w = world()
    for _ in range(2):
        pairs = [stepped(w, take(w, mib), name) for name, mib in (("small", 6), ("large", 150))]
        runs = [work.__await__() for _, work in pairs]
        alive = dict.fromkeys(range(2))
        while alive:
            for number in list(alive):
                try:
                    next(runs[number])
                except StopIteration:
                    del alive[number]
                    pairs[number][0].record()
                w.clock.advance(0.01)
                w.controller.sample()
    known = w.controller.statistics().task_classes
    assert known["small"].peak == pytest.approx(6 * MIB, rel=0.1)
    assert known["large"].peak == pytest.approx(150 * MIB, rel=0.1)


async def test_errors_and_cancellation_go_through(world: Callable[..., World]) -> None:
    """What the work raises comes out, and what is thrown into it goes in."""
    w = world()

    async def fail() -> None:
        await checkpoint()
        raise ValueError("its own")

    _, failing = stepped(w, fail(), "a")
    with pytest.raises(ValueError, match="its own"):
        await failing
    seen: list[str] = []

    async def stay() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("left")

    _, staying = stepped(w, stay(), "b")
    with anyio.move_on_after(0.01):
        await staying
    assert seen == ["left"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_coroutine_that_is_thrown_away_is_closed(world: Callable[..., World], anyio_backend: str) -> None:
    """Its clean-up runs."""
    w = world()
    seen: list[str] = []

    async def stay() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("closed")

    _, work = stepped(w, stay())
    iterator = work.__await__()
    next(iterator)
    iterator.close()
    assert seen == ["closed"]


async def test_work_of_many_steps_is_left_to_the_samples(world: Callable[..., World]) -> None:
    """A stream would pay for each of its steps."""
    w = world()
    asked = 0

    async def stream() -> None:
        for _ in range(300):
            await checkpoint()

    permit, work = stepped(w, stream())
    used = w.memory.used

    def read() -> int:
        nonlocal asked
        asked += 1
        return used

    work._read = read
    await work
    assert (permit.taken, permit.measured) == (-1, -1)
    assert asked <= 2 * 256


async def test_where_memory_cannot_be_read_nothing_is_measured(world: Callable[..., World]) -> None:
    """And the work goes on."""
    w = world()
    permit, work = stepped(w, take(w, 9))
    work._read = lambda: None
    assert await work == 9
    assert permit.measured == -1


async def test_small_work_is_not_measured(world: Callable[..., World]) -> None:
    """What a reading costs would show."""
    w = world()
    w.controller.read_now = lambda: w.memory.used
    permit = w.controller.acquire_nowait("job", cost="100KiB")
    work = take(w, 0)
    assert w.controller.step(permit, work) is work
    await work
