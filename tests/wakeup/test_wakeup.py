"""One signal for a waiter in a loop or in a thread, given from anywhere."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

from asyncmem._wakeup import LoopWakeup, ThreadWakeup, Wakeup, loop_runs_here


@pytest.mark.anyio
async def test_another_task_wakes_the_waiter() -> None:
    """And again without effect."""
    wakeup = LoopWakeup()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wakeup.wait)
            await anyio.wait_all_tasks_blocked()
            wakeup.notify()
            wakeup.notify()
        await wakeup.wait()


@pytest.mark.anyio
async def test_another_thread_wakes_the_waiter() -> None:
    """Though the loop has nothing else to do."""
    wakeup = LoopWakeup()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wakeup.wait)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(wakeup.notify)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_waiter_that_went_with_its_loop_is_no_error(backend: str) -> None:
    """From the loop's own thread, now without it, and from another: whoever gives back need not know."""
    left: list[Wakeup] = []

    async def leave_one_waiting() -> None:
        wakeup = LoopWakeup()
        left.append(wakeup)
        with anyio.move_on_after(0):
            await wakeup.wait()

    anyio.run(leave_one_waiting, backend=backend)
    errors: list[BaseException] = []

    def notify() -> None:
        try:
            left[0].notify()
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            errors.append(error)

    thread = threading.Thread(target=notify)
    thread.start()
    thread.join()
    notify()
    assert errors == []


def test_a_thread_waits_for_it_too() -> None:
    """With the same way to give it; a signal that came first is not lost."""
    wakeup = ThreadWakeup()
    assert not wakeup.wait(0)
    giver = threading.Thread(target=wakeup.notify)
    giver.start()
    assert wakeup.wait(10)
    giver.join()
    assert wakeup.wait(0)


@pytest.mark.anyio
async def test_it_knows_where_a_loop_runs() -> None:
    """In the loop's own thread, and not in a worker."""
    assert loop_runs_here()
    assert not await anyio.to_thread.run_sync(loop_runs_here)


def test_without_a_loop_none_runs_here() -> None:
    """In plain code."""
    answers: list[Any] = [loop_runs_here()]
    assert answers == [False]
