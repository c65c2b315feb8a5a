"""Handlers: each by itself, slow, hanging, raising or absent, and nothing of it reaches the one who raises alerts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from unittest.mock import AsyncMock

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from asyncmem.alerts import AlertHandler, AlertManager, Subscription
from asyncmem.alerts.delivery import Handler
from asyncmem.errors import ConfigError
from asyncmem.events import AlertLevel, AlertState, AlertType, MemoryAlert, MemorySnapshot

pytestmark = pytest.mark.anyio

INFO, WARNING, CRITICAL = AlertLevel

Alerts = Callable[..., MemoryAlert]
Serving = Callable[[AlertManager], AbstractAsyncContextManager[None]]


class Recorder:
    """An async handler that keeps what it was called with."""

    def __init__(self) -> None:
        self.alerts: list[MemoryAlert] = []

    @property
    def messages(self) -> list[str]:
        """Of the alerts."""
        return [alert.message for alert in self.alerts]

    async def __call__(self, alert: MemoryAlert) -> None:
        """Keep the alert, after giving others their turn."""
        await anyio.lowlevel.checkpoint()
        self.alerts.append(alert)


def _handler(manager: AlertManager) -> Handler:
    (handler,) = manager._handlers._handlers
    return handler


def _waits_for_thread(handler: Handler) -> bool:
    return handler._overdue is not None


async def test_sync_and_async_handlers_are_called_in_order(
    manager: AlertManager, alert: Alerts, serving: Serving
) -> None:
    """Functions, coroutine functions, lambdas around them, partials and objects all get all alerts in order."""
    recorders = [Recorder() for _ in range(3)]
    plain: list[str] = []
    threads: list[threading.Thread] = []

    def sync_handler(alert: MemoryAlert) -> None:
        plain.append(alert.message)
        threads.append(threading.current_thread())

    def looks_sync(alert: MemoryAlert) -> object:
        return recorders[1](alert)

    async def bound(recorder: Recorder, alert: MemoryAlert) -> None:
        await recorder(alert)

    for handler in (recorders[0], looks_sync, partial(bound, recorders[2]), sync_handler):
        manager.add_handler(handler)
    async with serving(manager):
        for number in range(5):
            manager.emit(alert(str(number)))
        assert await manager.drain(30)
    assert [recorder.messages for recorder in recorders] == [["0", "1", "2", "3", "4"]] * 3
    assert plain == ["0", "1", "2", "3", "4"]
    assert threading.current_thread() not in threads
    assert manager.statistics().delivered == 20


async def test_alerts_wait_for_the_loop(manager: AlertManager, alert: Alerts, serving: Serving) -> None:
    """What is emitted while nothing runs is queued and counted, and delivered once it runs; between runs again."""
    recorder = Recorder()
    manager.add_handler(recorder)
    for number in range(3):
        manager.emit(alert(str(number)))
        assert manager.statistics().queued == 1
        assert not await manager.drain(30), "nobody serves, so there is nothing to wait for"
        async with serving(manager):
            assert await manager.drain(30)
            assert manager.statistics().queued == 0
        assert recorder.messages == [str(n) for n in range(number + 1)]


async def test_the_queue_keeps_the_newest(manager: AlertManager, alert: Alerts, serving: Serving) -> None:
    """A full queue drops the oldest, and counts it."""
    recorder = Recorder()
    manager.add_handler(recorder, max_queue=2)
    for number in range(5):
        manager.emit(alert(str(number)))
    assert (manager.statistics().dropped, manager.statistics().queued) == (3, 2)
    async with serving(manager):
        assert await manager.drain(30)
    assert recorder.messages == ["3", "4"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_handler_that_raises_harms_nobody(
    manager: AlertManager, alert: Alerts, serving: Serving, is_async: bool
) -> None:
    """Each error is counted, the first one is logged with the handler's name, and all others get their alerts."""
    recorder = Recorder()

    def broken(alert: MemoryAlert) -> None:
        raise ValueError(alert.message)

    async def broken_async(alert: MemoryAlert) -> None:
        broken(alert)

    manager.add_handler(broken_async if is_async else broken)
    manager.add_handler(recorder)
    with capture_logs() as logs:
        async with serving(manager):
            for number in range(3):
                manager.emit(alert(str(number)))
            assert await manager.drain(30)
    told = [alert for alert in recorder.alerts if alert.alert_type is AlertType.HANDLER_FAILED]
    assert [alert.message for alert in recorder.alerts if alert not in told] == ["0", "1", "2"]
    assert (manager.statistics().handler_errors, manager.statistics().delivered) == (3, 4)
    (trouble,) = told
    assert trouble.level is WARNING
    assert "broken" in trouble.message
    assert trouble.message.endswith(" raised ValueError")
    (entry,) = logs
    assert (entry["event"], entry["log_level"], entry["outcome"]) == ("alert_handler_trouble", "warning", "failed")
    assert "broken" in entry["handler"]
    assert entry["error"] == "ValueError('0')"


async def test_a_handler_that_fails_is_an_alert_for_the_others(
    manager: AlertManager, alert: Alerts, serving: Serving
) -> None:
    """It begins with the first failure, is over with the first call that works, and never goes to itself."""
    seen: list[AlertType] = []
    recorder = Recorder()

    def moody(alert: MemoryAlert) -> None:
        seen.append(alert.alert_type)
        if alert.message == "bad":
            raise OSError("a secret")

    manager.add_handler(moody)
    manager.add_handler(recorder)
    async with serving(manager):
        for message in ("good", "bad", "bad", "good"):
            manager.emit(alert(message))
            assert await manager.drain(30)
    told = [alert for alert in recorder.alerts if alert.alert_type is AlertType.HANDLER_FAILED]
    assert [alert.state for alert in told] == [AlertState.FIRING, AlertState.RESOLVED]
    assert told[0].message.endswith("moody raised OSError")
    assert told[1].message.endswith("moody works again")
    assert AlertType.HANDLER_FAILED not in seen


async def test_two_handlers_that_fail_at_everything_end_nothing(
    manager: AlertManager, alert: Alerts, serving: Serving
) -> None:
    """What they do with alerts about each other is no news: one alert begins about each, and that is all."""

    def broken(alert: MemoryAlert) -> None:
        raise ValueError

    async def late(alert: MemoryAlert) -> None:
        await anyio.sleep_forever()

    manager.add_handler(broken)
    manager.add_handler(late, timeout=0.01)
    async with serving(manager):
        for _ in range(5):
            manager.emit(alert())
        assert await manager.drain(30)
    told = [alert.message for alert in manager.history if alert.alert_type is AlertType.HANDLER_FAILED]
    assert len(told) == 2
    assert any(message.endswith("late took longer than 0.01 s") for message in told)


async def test_an_async_handler_that_hangs_is_cancelled(manager: AlertManager, alert: Alerts, serving: Serving) -> None:
    """A call that takes too long ends, is counted and logged once; the next alert is tried again."""
    called: list[str] = []

    async def hanging(alert: MemoryAlert) -> None:
        called.append(alert.message)
        await anyio.sleep_forever()

    manager.add_handler(hanging, timeout=0.01)
    with capture_logs() as logs:
        async with serving(manager):
            manager.emit(alert("0"))
            manager.emit(alert("1"))
            assert await manager.drain(30)
    assert called == ["0", "1"]
    assert manager.statistics().handler_timeouts == 2
    assert [(entry["outcome"], entry["timeout"]) for entry in logs] == [("timed out", 0.01)]


class Patient:
    """A handler that says how long it may take."""

    handler_timeout = 0.02

    async def __call__(self, _alert: MemoryAlert) -> None:
        """Never return."""
        await anyio.sleep_forever()


async def test_a_handler_may_say_how_long_it_takes(manager: AlertManager, alert: Alerts, serving: Serving) -> None:
    """Its own time stands for the default; what is given at the registration stands for both."""
    manager.add_handler(Patient())
    manager.add_handler(Patient(), timeout=0.03)
    with capture_logs() as logs:
        async with serving(manager):
            manager.emit(alert())
            assert await manager.drain(30)
    assert sorted(entry["timeout"] for entry in logs) == [0.02, 0.03]


def test_a_mock_is_a_handler_as_any_other(manager: AlertManager) -> None:
    """It has every attribute that it is asked for, and means none of them."""
    manager.add_handler(AsyncMock())
    assert _handler(manager)._timeout == 5.0


async def test_a_sync_handler_that_hangs_takes_one_thread(
    manager: AlertManager, alert: Alerts, serving: Serving
) -> None:
    """It is counted as late at once, is not called again beside itself, and goes on when it returns."""
    release, entered = threading.Event(), threading.Event()
    called: list[str] = []

    def hanging(alert: MemoryAlert) -> None:
        called.append(alert.message)
        entered.set()
        release.wait(30)

    manager.add_handler(hanging, timeout=0.02)
    try:
        with capture_logs() as logs:
            async with serving(manager):
                # On a busy machine the first few may be given up before a thread begins with them.
                for number in range(50):
                    manager.emit(alert(str(number)))
                assert await anyio.to_thread.run_sync(entered.wait, 30)
                handler = _handler(manager)
                while not _waits_for_thread(handler):
                    await anyio.lowlevel.checkpoint()
                assert not await manager.drain(0.05)
                waiting = manager.statistics()
                assert len(called) == 1
                assert waiting.handler_timeouts == 50 - waiting.queued
                release.set()
                assert await manager.drain(30)
    finally:
        release.set()
    numbers = manager.statistics()
    assert (numbers.delivered + numbers.handler_timeouts, numbers.dropped) == (50, 0)
    assert [entry["outcome"] for entry in logs] == ["timed out"]


async def test_a_thread_that_never_began_is_not_waited_for(
    manager: AlertManager, alert: Alerts, serving: Serving
) -> None:
    """With no time at all a sync call is given up before it begins, and the handler goes on to the next alert."""
    manager.add_handler(lambda _: None, timeout=1e-9)
    with capture_logs():
        async with serving(manager):
            for number in range(20):
                manager.emit(alert(str(number)))
            assert await manager.drain(30)
    numbers = manager.statistics()
    assert numbers.delivered + numbers.handler_timeouts == 20


async def test_a_slow_handler_delays_nobody(manager: AlertManager, alert: Alerts, serving: Serving) -> None:
    """While one async and one sync handler are stuck, emitting returns and the others get everything."""
    release = threading.Event()
    stuck = anyio.Event()
    recorder, stream = Recorder(), manager.stream()

    async def slow(alert: MemoryAlert) -> None:
        stuck.set()
        await anyio.sleep_forever()

    manager.add_handler(slow, max_queue=10)
    manager.add_handler(lambda _: release.wait(10), max_queue=10)
    manager.add_handler(recorder)
    try:
        async with serving(manager):
            manager.emit(alert("first"))
            await stuck.wait()
            for number in range(100):
                manager.emit(alert(str(number)))
            while len(recorder.messages) < 101:
                await anyio.lowlevel.checkpoint()
            assert stream.statistics().buffered == 101
            assert manager.statistics().dropped >= 180
    finally:
        release.set()


async def test_a_burst_reaches_fifty_handlers(manager: AlertManager, alert: Alerts, serving: Serving) -> None:
    """Fifty handlers, half of them sync, get a hundred alerts each, in order and without loss."""
    recorders = [Recorder() for _ in range(25)]
    plain: list[list[str]] = [[] for _ in range(25)]

    def appender(messages: list[str]) -> AlertHandler:
        return lambda alert: messages.append(alert.message)

    for recorder, messages in zip(recorders, plain, strict=True):
        manager.add_handler(recorder)
        manager.add_handler(appender(messages))
    async with serving(manager):
        for number in range(100):
            manager.emit(alert(str(number)))
        assert await manager.drain(50)
    expected = [str(number) for number in range(100)]
    assert all(recorder.messages == expected for recorder in recorders)
    assert all(messages == expected for messages in plain)
    numbers = manager.statistics()
    assert (numbers.emitted, numbers.delivered, numbers.dropped, numbers.handlers) == (100, 5000, 0, 50)


async def test_a_handler_added_while_running_is_served(manager: AlertManager, alert: Alerts, serving: Serving) -> None:
    """A handler that comes later, also from another thread, gets its task at once."""
    first, second = Recorder(), Recorder()
    async with serving(manager):
        manager.add_handler(first)
        await anyio.to_thread.run_sync(manager.add_handler, second)
        manager.emit(alert("both"))
        assert await manager.drain(30)
    assert first.messages == second.messages == ["both"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_handler_may_remove_itself(
    manager: AlertManager, alert: Alerts, serving: Serving, is_async: bool
) -> None:
    """The call under way ends well, no other follows, and what waited is counted as dropped."""
    called: list[str] = []

    def once(alert: MemoryAlert) -> None:
        called.append(alert.message)
        assert manager.remove_handler(once_async if is_async else once)

    async def once_async(alert: MemoryAlert) -> None:
        once(alert)
        await anyio.lowlevel.checkpoint()

    manager.add_handler(once_async if is_async else once)
    for number in range(3):
        manager.emit(alert(str(number)))
    other = Recorder()
    manager.add_handler(other)
    async with serving(manager):
        manager.emit(alert("last"))
        while manager.statistics().delivered < 2:
            await anyio.lowlevel.checkpoint()
    assert called == ["0"]
    numbers = manager.statistics()
    assert (numbers.dropped, numbers.handler_errors, numbers.handlers) == (3, 0, 1)


async def test_removing_a_stuck_handler_ends_its_task(manager: AlertManager, alert: Alerts, serving: Serving) -> None:
    """A sync handler that is late and then removed is no longer waited for; its thread is left alone."""
    release, entered = threading.Event(), threading.Event()

    def hanging(alert: MemoryAlert) -> None:
        entered.set()
        release.wait(30)

    subscription = manager.add_handler(hanging, timeout=0.02)
    try:
        with capture_logs():
            async with serving(manager):
                for number in range(50):
                    manager.emit(alert(str(number)))
                assert await anyio.to_thread.run_sync(entered.wait, 30)
                handler = _handler(manager)
                while not _waits_for_thread(handler):
                    await anyio.lowlevel.checkpoint()
                assert subscription.remove()
                while _waits_for_thread(handler):
                    await anyio.lowlevel.checkpoint()
    finally:
        release.set()
    numbers = manager.statistics()
    assert numbers.handler_timeouts + numbers.dropped == 50


async def test_a_method_can_be_removed_and_a_subscription_only_once(
    manager: AlertManager, alert: Alerts, serving: Serving
) -> None:
    """Removal goes by equality, so that bound methods work, and says whether there was something to remove."""

    class Sink:
        def __init__(self) -> None:
            self.alerts: list[MemoryAlert] = []

        def take(self, alert: MemoryAlert) -> None:
            self.alerts.append(alert)

    sink = Sink()
    manager.add_handler(sink.take)
    assert manager.remove_handler(sink.take)
    assert not manager.remove_handler(sink.take)
    with manager.add_handler(sink.take) as subscription:
        assert isinstance(subscription, Subscription)
        assert manager.statistics().handlers == 1
    assert manager.statistics().handlers == 0
    assert not subscription.remove()


async def test_a_subscription_ends_only_its_own_registration(
    manager: AlertManager, alert: Alerts, serving: Serving
) -> None:
    """The same function may be registered twice; one registration's end leaves the other."""
    recorder = Recorder()
    first = manager.add_handler(recorder)
    manager.add_handler(recorder)
    first.remove()
    async with serving(manager):
        manager.emit(alert("once"))
        assert await manager.drain(30)
    assert recorder.messages == ["once"]


async def test_cancelling_stops_everything_in_bounded_time(
    manager: AlertManager, alert: Alerts, serving: Serving
) -> None:
    """With one async handler asleep, one sync handler blocking and alerts queued, cancelling ends the run."""
    release, entered = threading.Event(), threading.Event()
    asleep = anyio.Event()
    cancelled: list[bool] = []

    def blocking(alert: MemoryAlert) -> None:
        entered.set()
        release.wait(60)

    async def sleeping(alert: MemoryAlert) -> None:
        asleep.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    manager.add_handler(blocking, timeout=60)
    manager.add_handler(sleeping, timeout=60)
    try:
        with anyio.fail_after(30):
            async with serving(manager):
                for number in range(3):
                    manager.emit(alert(str(number)))
                await asleep.wait()
                assert await anyio.to_thread.run_sync(entered.wait, 30)
                assert not await manager.drain(0.01)
    finally:
        release.set()
    assert cancelled == [True]
    numbers = manager.statistics()
    assert (numbers.queued, numbers.dropped) == (4, 2), "what was under way is lost and counted, the rest still waits"


async def test_running_twice_is_refused_and_again_is_not(manager: AlertManager, serving: Serving) -> None:
    """One run at a time; after it has ended, another may begin."""
    async with serving(manager):
        with pytest.raises(RuntimeError, match="served already"):
            await manager.run()
    async with serving(manager):
        pass


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_of_its_own_making_is_an_error(
    manager: AlertManager, alert: Alerts, serving: Serving
) -> None:
    """A handler that awaits a cancelled task raises CancelledError; it is served further."""
    called: list[str] = []

    async def confused(alert: MemoryAlert) -> None:
        called.append(alert.message)
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    manager.add_handler(confused)
    with capture_logs():
        async with serving(manager):
            manager.emit(alert("0"))
            manager.emit(alert("1"))
            assert await manager.drain(30)
    assert called == ["0", "1"]
    assert manager.statistics().handler_errors == 2


async def test_levels_are_filtered_and_the_end_is_heard(
    manager: AlertManager, serving: Serving, snapshot: Callable[..., MemorySnapshot]
) -> None:
    """A handler gets its levels only, and the end of each episode that was at one of them."""
    manager.set_threshold(WARNING, percent=80)
    manager.set_threshold(CRITICAL, percent=90)
    heard: dict[str, list[str]] = {"critical": [], "warning": []}

    def collector(name: str) -> AlertHandler:
        return lambda alert: heard[name].append(f"{alert.state} {alert.level}")

    manager.add_handler(collector("critical"), "critical")
    manager.add_handler(collector("warning"), [WARNING])
    async with serving(manager):
        for percent in (85, 50, 85, 95, 50, 95, 50):
            manager.check_thresholds(snapshot(percent=percent))
        assert await manager.drain(30)
    assert heard["warning"] == ["firing warning", "resolved warning", "firing warning", "resolved critical"]
    assert heard["critical"] == ["escalated critical", "resolved critical", "firing critical", "resolved critical"]


async def test_an_immediate_handler_that_takes_its_time_keeps_no_other_waiting(
    manager: AlertManager, alert: Alerts, serving: Serving
) -> None:
    """Such as a log that cannot be written, and was there first: the others are woken before it is called."""
    told, in_time = threading.Event(), []
    manager.add_handler(lambda _: in_time.append(told.wait(10)), immediate=True)

    async def handler(alert: MemoryAlert) -> None:
        told.set()

    manager.add_handler(handler)
    async with serving(manager):
        await anyio.to_thread.run_sync(manager.emit, alert())
    assert in_time == [True]


async def test_immediate_handlers_need_no_loop(manager: AlertManager, alert: Alerts) -> None:
    """They are called before emitting returns, in the same thread; their errors are counted, not raised."""
    threads: list[int] = []

    def quick(alert: MemoryAlert) -> None:
        threads.append(threading.get_ident())
        manager.statistics()  # would never return if the lock were held

    def broken(alert: MemoryAlert) -> None:
        raise ValueError

    def looks_sync(alert: MemoryAlert) -> object:
        return Recorder()(alert)

    manager.add_handler(broken, immediate=True)
    manager.add_handler(looks_sync, immediate=True)
    manager.add_handler(quick, immediate=True)
    with capture_logs() as logs:
        manager.emit(alert())
        manager.emit(alert())
    assert threads == [threading.get_ident()] * 4, "twice what was emitted, and that each of the others has failed"
    numbers = manager.statistics()
    assert (numbers.delivered, numbers.handler_errors, numbers.queued) == (4, 6, 0)
    assert len(logs) == 2
    assert await manager.drain(0)


async def test_a_log_that_fails_does_not_stop_alerts(manager: AlertManager, alert: Alerts, serving: Serving) -> None:
    """When even the complaint about a handler cannot be logged, the handlers are served further."""

    def broken(logger: object, name: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
        raise OSError

    recorder = Recorder()
    manager.add_handler(lambda _: 1 / 0)
    manager.add_handler(recorder)
    with capture_logs(processors=[broken]):
        async with serving(manager):
            manager.emit(alert("0"))
            manager.emit(alert("1"))
            assert await manager.drain(30)
    assert [message for message in recorder.messages if message.isdigit()] == ["0", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fn": 3}, "3 is no alert handler"),
        ({"levels": []}, "chooses nothing"),
        ({"levels": ["loud"]}, "'loud' is no alert level"),
        ({"timeout": 0}, "timeout=0 leaves"),
        ({"timeout": float("nan")}, "timeout=nan leaves"),
        ({"max_queue": 0}, "buffer of 0"),
        ({"fn": Recorder(), "immediate": True}, "cannot be immediate"),
    ],
)
def test_what_is_no_handler_is_refused(manager: AlertManager, arguments: dict[str, object], message: str) -> None:
    """Each wrong argument is refused with its value, and nothing is registered."""
    with pytest.raises(ConfigError, match=message):
        manager.add_handler(**({"fn": print} | arguments))  # type: ignore[arg-type]
    assert manager.statistics().handlers == 0
