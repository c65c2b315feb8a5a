"""What is called when pressure stays critical: once per episode, in its own place, and whatever it does is counted."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from asyncmem.errors import ConfigError
from asyncmem.events import PressureLevel
from asyncmem.reclaim.critical import CriticalHooks, CriticalStatistics

LOW, MEDIUM, HIGH, CRITICAL = PressureLevel


def until(condition: Callable[[], object]) -> None:
    """Wait for what other threads do; half a minute at most."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


class Bench:
    """Hooks, and samples that come ten times a second."""

    def __init__(self) -> None:
        self.hooks = CriticalHooks()
        self.now = 0.0
        self.calls: list[float] = []

    def add(self, function: Callable[[], object] | None = None, *, after: float = 0.0, timeout: float = 30.0) -> None:
        """Have a function called, or note when."""
        self.hooks.add(self.note if function is None else function, after=after, timeout=timeout)

    def note(self) -> None:
        """Note when it is called."""
        self.calls.append(self.now)

    def pass_time(self, seconds: float, level: PressureLevel = CRITICAL, *, is_inside: bool = True) -> None:
        """Look so long."""
        for _ in range(round(seconds * 10)):
            self.hooks.look(level, self.now, is_inside=is_inside and level is CRITICAL)
            until(lambda: not any(thread.is_alive() for thread in self.hooks._running.values()))
            self.now = round(self.now + 0.1, 1)

    @property
    def statistics(self) -> CriticalStatistics:
        """What they have seen and done."""
        return self.hooks.statistics()


def test_it_is_called_once_per_episode() -> None:
    """At once, if nothing else is asked for."""
    b = Bench()
    b.add()
    b.pass_time(3)
    assert b.calls == [0.0]
    b.pass_time(1, HIGH)
    b.pass_time(3)
    assert b.calls == [0.0, 4.0]
    assert (b.statistics.episodes, b.statistics.calls, b.statistics.errors) == (2, 2, 0)


def test_it_can_ask_that_it_lasts() -> None:
    """A moment is nothing out of the way; each episode counts anew."""
    b = Bench()
    b.add(after=2.0)
    b.pass_time(1.9)
    b.pass_time(1, HIGH)
    b.pass_time(1.9)
    assert b.calls == []
    b.pass_time(1)
    assert b.calls == [4.9]


def test_what_hovers_below_the_band_is_not_critical_for_long() -> None:
    """A healthy process under full load: now and then inside, mostly just outside, and the level is never left."""
    b = Bench()
    b.add(after=2.0)
    for _ in range(100):
        b.pass_time(0.5)
        b.pass_time(1.0, is_inside=False)
    assert b.calls == []
    assert b.statistics.episodes == 1
    for _ in range(10):
        b.pass_time(1.0)
        b.pass_time(0.5, is_inside=False)
    assert len(b.calls) == 1


def test_time_that_nobody_saw_counts_little() -> None:
    """A process that was suspended for a minute was not short of memory for one."""
    b = Bench()
    b.add(after=5.0)
    b.pass_time(1)
    b.now += 60.0
    b.pass_time(1)
    assert b.calls == []


def test_a_sync_one_has_a_thread_of_its_own() -> None:
    """One that takes its time holds up nobody, is told to be late, and is not called again meanwhile."""
    b = Bench()
    go_on = threading.Event()
    b.add(lambda: go_on.wait(30), timeout=0.01)
    with capture_logs() as logs:
        b.hooks.look(CRITICAL, 0.0, is_inside=True)
        end = time.monotonic() + 30
        while not b.statistics.timeouts:
            b.hooks.look(CRITICAL, 0.1, is_inside=True)
            assert time.monotonic() < end
        b.hooks.look(HIGH, 1.0, is_inside=False)
        b.hooks.look(CRITICAL, 2.0, is_inside=True)
        assert (b.statistics.calls, b.statistics.unserved, b.statistics.timeouts) == (1, 1, 1)
        go_on.set()
    assert [log["event"] for log in logs] == ["on_critical_timed_out", "on_critical_not_called"]
    until(lambda: not b.hooks._running or not next(iter(b.hooks._running.values())).is_alive())
    b.pass_time(1, HIGH)
    b.pass_time(1)
    assert (b.statistics.calls, b.statistics.unserved) == (2, 1)


def test_errors_are_counted_and_told() -> None:
    """The other hooks are called all the same."""
    b = Bench()

    def broken() -> None:
        raise ZeroDivisionError("by nothing")

    b.add(broken)
    b.add()
    with capture_logs() as logs:
        b.pass_time(1)
    assert len(b.calls) == 1
    assert (b.statistics.errors, b.statistics.last_error) == (1, "ZeroDivisionError: by nothing")
    assert logs[0]["event"] == "on_critical_failed"
    assert logs[0]["function"].endswith("broken")


def test_a_thread_that_cannot_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second later, however often memory is looked at meanwhile: hundreds of lines a second would help nobody."""
    b = Bench()
    b.add()

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(threading.Thread, "start", start)
        b.pass_time(0.9)
    assert (b.statistics.calls, b.statistics.errors, len(logs)) == (0, 1, 1)
    b.pass_time(1)
    assert len(b.calls) == 1


def test_a_hook_that_exits_is_counted_and_ends_only_itself() -> None:
    """From a thread `sys.exit` ends nothing, and that has to be said."""
    b = Bench()
    b.add(lambda: sys.exit(3))
    with capture_logs() as logs:
        b.pass_time(1)
    assert (b.statistics.calls, b.statistics.errors, b.statistics.last_error) == (1, 1, "SystemExit: 3")
    assert [log["event"] for log in logs] == ["on_critical_failed"]


def test_a_log_that_cannot_be_written_keeps_no_sample_from_being_taken() -> None:
    """A pipe that nobody reads."""
    b = Bench()
    b.add(lambda: 1 / 0)

    def fail(*_: Any) -> Any:
        raise BrokenPipeError

    with capture_logs(processors=[fail]):
        b.pass_time(1)
    assert (b.statistics.calls, b.statistics.errors) == (1, 1)


def test_an_async_one_needs_a_loop() -> None:
    """Where none runs the runtime that is told and counted."""
    b = Bench()

    async def never() -> None:
        raise AssertionError("nobody awaits it")

    b.add(never)
    with capture_logs() as logs:
        b.pass_time(1)
    assert (b.statistics.calls, b.statistics.unserved) == (0, 1)
    assert "enter it with 'async with'" in logs[0]["reason"]


class Callable_:  # noqa: N801 - not the one of typing
    """An object that is called and awaited."""

    def __init__(self, event: anyio.Event) -> None:
        self._event = event

    async def __call__(self) -> None:
        """Set it."""
        self._event.set()


@pytest.mark.anyio
async def test_async_ones_are_awaited_in_the_loop() -> None:
    """From the watcher's thread; what takes too long is cancelled, what raises is counted, others go on."""
    b = Bench()
    called, cancelled = [anyio.Event() for _ in range(3)], anyio.Event()
    loop_thread = threading.get_ident()

    async def plain() -> None:
        assert threading.get_ident() == loop_thread
        called[0].set()

    async def with_argument(event: anyio.Event) -> None:
        event.set()

    async def hangs() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    async def broken() -> None:
        raise ZeroDivisionError("by nothing")

    b.add(plain)
    b.add(broken)
    b.add(hangs, timeout=0.01)
    b.add(partial(with_argument, called[1]))
    b.add(Callable_(called[2]))
    with capture_logs(), anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            await tasks.start(b.hooks.serve)
            await anyio.to_thread.run_sync(partial(b.hooks.look, CRITICAL, 0.0, is_inside=True))
            for event in (*called, cancelled):
                await event.wait()
            while b.statistics.timeouts + b.statistics.errors < 2:  # noqa: ASYNC110 - of other tasks
                await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()
    assert (b.statistics.calls, b.statistics.timeouts, b.statistics.errors) == (5, 1, 1)
    with capture_logs():
        b.pass_time(1, HIGH)
        b.pass_time(0.1)
    assert b.statistics.unserved >= 1


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (None, {}, "on_critical: got None; expected a function without arguments"),
        (print, {"after": -1.0}, "after=-1.0; expected seconds from 0"),
        (print, {"after": "5"}, "after='5'; expected seconds from 0"),
        (print, {"after": True}, "after=True"),
        (print, {"timeout": 0}, "timeout=0; expected seconds above 0"),
        (print, {"timeout": float("nan")}, "timeout=nan"),
        (print, {"timeout": float("inf")}, "timeout=inf"),
    ],
)
def test_what_cannot_be_is_refused(function: Any, options: dict[str, Any], message: str) -> None:
    """With the value met and what is expected."""
    with pytest.raises(ConfigError, match=message):
        CriticalHooks().add(function, **{"after": 0.0, "timeout": 1.0} | options)
