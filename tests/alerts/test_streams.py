"""Streams: registered when made, bounded, woken from anywhere, and gone when nobody looks any more."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from asyncmem.alerts import AlertManager, AlertStream
from asyncmem.errors import ConfigError
from asyncmem.events import MemoryAlert

pytestmark = pytest.mark.anyio

Alerts = Callable[..., MemoryAlert]


async def _take(stream: AlertStream, number: int) -> list[str]:
    with anyio.fail_after(5):
        return [(await anext(stream)).message for _ in range(number)]


async def test_a_stream_begins_when_it_is_made(manager: AlertManager, alert: Alerts) -> None:
    """Nothing is missed between making a stream and iterating it; what was before is not in it."""
    manager.emit(alert("before"))
    stream = manager.stream()
    manager.emit(alert("after"))
    assert await _take(stream, 1) == ["after"]


async def test_it_can_be_iterated_directly(manager: AlertManager, alert: Alerts) -> None:
    """Without a context manager: the loop gets alerts while it runs, and the stream goes when it is left."""
    seen: list[str] = []
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:

            async def consume() -> None:
                async for each in manager.stream():
                    seen.append(each.message)
                    if each.message == "last":
                        break

            tasks.start_soon(consume)
            while manager.statistics().streams == 0:
                await anyio.lowlevel.checkpoint()
            manager.emit(alert("first"))
            manager.emit(alert("last"))
    gc.collect()
    assert seen == ["first", "last"]
    assert manager.statistics().streams == 0


async def test_the_oldest_are_dropped_and_counted(manager: AlertManager, alert: Alerts) -> None:
    """A full buffer keeps the newest; the stream and the manager count what is gone, each stream for itself."""
    small, large = manager.stream(max_buffer=3), manager.stream()
    for number in range(10):
        manager.emit(alert(str(number)))
    numbers = small.statistics()
    assert (numbers.buffered, numbers.max_buffer, numbers.dropped, numbers.delivered) == (3, 3, 7, 0)
    assert await _take(small, 3) == ["7", "8", "9"]
    assert await _take(large, 10) == [str(number) for number in range(10)]
    assert (small.statistics().delivered, large.statistics().dropped) == (3, 0)
    assert (manager.statistics().dropped, manager.statistics().delivered) == (7, 13)


async def test_an_alert_from_a_thread_wakes_the_loop(manager: AlertManager, alert: Alerts) -> None:
    """A consumer that sleeps is woken by another thread's alert, with nothing else going on in the loop."""
    stream = manager.stream()
    waiting = threading.Event()

    def emit() -> None:
        waiting.wait(5)
        manager.emit(alert("from afar"))

    thread = threading.Thread(target=emit)
    thread.start()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:

            async def consume() -> None:
                assert (await anext(stream)).message == "from afar"

            tasks.start_soon(consume)
            while not stream._mailbox._waiters:
                await anyio.lowlevel.checkpoint()
            waiting.set()
        await anyio.to_thread.run_sync(thread.join)


async def test_tasks_may_share_a_stream(manager: AlertManager, alert: Alerts) -> None:
    """Each alert goes to one of the tasks, none is lost and all tasks end."""
    stream = manager.stream(max_buffer=1000)
    seen: list[str] = []

    async def consume() -> None:
        async for each in stream:
            seen.append(each.message)  # noqa: PERF401 - the point is what is appended by whom, one at a time

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(consume)
            for number in range(100):
                manager.emit(alert(str(number)))
                if number % 10 == 0:
                    await anyio.lowlevel.checkpoint()
            stream.close()
    assert sorted(seen, key=int) == [str(number) for number in range(100)]


async def test_closing_ends_iteration_after_what_is_buffered(manager: AlertManager, alert: Alerts) -> None:
    """A closed stream still gives what it has, takes nothing more, and may be closed again."""
    async with manager.stream() as stream:
        manager.emit(alert("kept"))
    manager.emit(alert("too late"))
    stream.close()
    with anyio.fail_after(5):
        assert [each.message async for each in stream] == ["kept"]
    assert manager.statistics().streams == 0


@pytest.mark.parametrize("by_manager", [True, False])
async def test_closing_from_a_thread_wakes_the_consumer(manager: AlertManager, by_manager: bool) -> None:
    """A consumer that waits ends at once, whoever closes and from where."""
    with manager.stream() as stream, anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:

            async def consume() -> None:
                assert [each async for each in stream] == []

            tasks.start_soon(consume)
            while not stream._mailbox._waiters:
                await anyio.lowlevel.checkpoint()
            await anyio.to_thread.run_sync(manager.close_streams if by_manager else stream.close)


async def test_cancelling_a_consumer_loses_nothing(manager: AlertManager, alert: Alerts) -> None:
    """A cancelled wait leaves no trace; the next alert goes to who asks next."""
    stream = manager.stream()
    with anyio.move_on_after(0.01):
        await anext(stream)
    manager.emit(alert("still here"))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anext(stream)
    assert stream._mailbox._waiters == []
    assert await _take(stream, 1) == ["still here"]


async def test_an_abandoned_stream_goes_away(manager: AlertManager, alert: Alerts) -> None:
    """Without a reference to it a stream is no longer fed or counted."""
    kept, abandoned = manager.stream(), manager.stream(max_buffer=1)
    assert manager.statistics().streams == 2
    del abandoned
    gc.collect()
    manager.emit(alert())
    manager.emit(alert())
    assert (manager.statistics().streams, manager.statistics().dropped) == (1, 0)
    assert kept.statistics().buffered == 2


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_what_is_no_buffer_is_refused(manager: AlertManager, size: int) -> None:
    """The buffer's size is a whole number from 1."""
    with pytest.raises(ConfigError, match="expected a whole number from 1"):
        manager.stream(max_buffer=size)
    assert manager.statistics().streams == 0


def test_threads_racing_into_a_stream_lose_nothing(manager: AlertManager, alert: Alerts) -> None:
    """Alerts of four threads all arrive, in the order that history has."""
    stream = manager.stream(max_buffer=1000)
    start = threading.Barrier(4)

    def emit(name: int) -> None:
        start.wait()
        for number in range(100):
            manager.emit(alert(f"{name}-{number}"))

    threads = [threading.Thread(target=emit, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stream.close()

    async def collect() -> list[MemoryAlert]:
        return [each async for each in stream]

    assert tuple(anyio.run(collect)) == manager.history
    assert len(manager.history) == 400
