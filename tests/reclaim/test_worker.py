"""The thread that runs a level's actions: the newest level's, again while it lasts, and none where all is calm."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asyncmem.events import PressureLevel
from asyncmem.reclaim import PressureAction, PressureActions, Reclaim, ReclaimHook
from asyncmem.reclaim.worker import ActionWorker
from asyncmem.testing import ManualClock

MIB = 1024 * 1024
LOW, MEDIUM, HIGH, CRITICAL = PressureLevel


def until(condition: Callable[[], object]) -> None:
    """Wait for what other threads do; half a minute at most."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


class Bench:
    """A worker, a cache and hooks, and what was called."""

    name = "cache"
    essential = False

    def __init__(self, **actions: Any) -> None:
        self.used = 10_000 * MIB
        self.called: list[tuple[str, PressureLevel]] = []
        self.prompts = 0
        self.error: Exception | None = None
        # Time stands still for it, so that no stall of the machine counts as time spent.
        self.reclaim = Reclaim(self.meter, clock=ManualClock())
        self.reclaim.add(self)
        self.worker = ActionWorker(self.reclaim, PressureActions(**actions), prompt=self.prompt)

    def meter(self) -> int:
        """Memory in use."""
        if self.error is not None:
            raise self.error
        return self.used

    def prompt(self) -> None:
        """Count."""
        self.prompts += 1

    def shrink(self, level: PressureLevel) -> int:
        """The cache's."""
        self.called.append(("cache", level))
        return 5 * MIB

    def note(self, level: PressureLevel) -> int:
        """An action of the user's."""
        self.called.append(("note", level))
        return 5 * MIB

    @property
    def is_running(self) -> bool:
        """Whether there is a thread."""
        return self.worker.statistics().running


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """Makes benches, and ends their threads."""
    made: list[Bench] = []

    def make(**actions: Any) -> Bench:
        made.append(Bench(**actions))
        return made[-1]

    yield make
    for one in made:
        one.worker.stop()


def test_a_calm_process_has_no_thread(bench: Callable[..., Bench]) -> None:
    """It is started with the first level, and if only to have memory looked at now and then."""
    b = bench(medium=())
    for _ in range(3):
        b.worker.update(LOW, 0)
    assert not b.is_running
    assert b.worker.statistics().rounds == 0
    b.worker.update(MEDIUM, MIB)
    until(lambda: b.prompts >= 2)
    assert b.called == []


def test_each_level_is_told_and_then_that_it_is_over(bench: Callable[..., Bench]) -> None:
    """And the thread goes when it is; the next time there is a new one."""
    b = bench(high=("shrink", "shed_low"))
    for level in (MEDIUM, HIGH, CRITICAL):
        b.worker.update(level, MIB)
        until(lambda level=level: ("cache", level) in b.called)  # type: ignore[misc]
        assert b.is_running
    b.worker.update(LOW, 0)
    until(lambda: not b.is_running)
    assert b.called[-1] == ("cache", LOW)
    assert b.prompts >= 3
    b.called.clear()
    b.worker.update(HIGH, MIB)
    until(lambda: ("cache", HIGH) in b.called)


def test_functions_are_actions(bench: Callable[..., Bench]) -> None:
    """Called with the level, measured like reclaimers; those of `LOW` once."""
    seen: list[Bench] = []

    def note(level: PressureLevel) -> int:
        return seen[0].note(level)

    b = bench(medium=(note,), low=(note,), high=())
    seen.append(b)
    b.worker.update(MEDIUM, MIB)
    until(lambda: ("note", MEDIUM) in b.called)
    until(lambda: b.reclaim.statistics().runs >= 1)
    last = b.reclaim.statistics().last
    assert last is not None
    assert [(action.name.rsplit(".", 1)[-1], action.bytes_freed) for action in last.actions] == [("note", 5 * MIB)]
    b.worker.update(HIGH, MIB)
    b.worker.update(LOW, 0)
    until(lambda: not b.is_running)
    assert set(b.called[:-1]) == {("note", MEDIUM)}, "again each second"
    assert b.called[-1] == ("note", LOW)


def test_only_what_the_level_names_is_run(bench: Callable[..., Bench]) -> None:
    """The user's reclaimers have a name of their own."""
    b = bench(medium=("reclaim",), high=("shrink",))
    b.reclaim.add(ReclaimHook("hook", lambda: b.note(LOW)))
    b.worker.update(MEDIUM, MIB)
    until(lambda: ("note", LOW) in b.called)
    assert set(b.called) == {("note", LOW)}
    b.worker.update(HIGH, MIB)
    until(lambda: ("cache", HIGH) in b.called)
    assert ("note", LOW) not in b.called[b.called.index(("cache", HIGH)) :]


def test_a_level_about_to_be_left_asks_for_nothing(bench: Callable[..., Bench]) -> None:
    """Memory is back already; it is only not yet sure."""
    b = bench()
    b.worker.update(HIGH, 0)
    until(lambda: b.prompts >= 1)
    assert b.called == []


def test_it_goes_on_while_the_level_lasts(bench: Callable[..., Bench]) -> None:
    """As far as the time cap lets it: these take no time."""
    b = bench()
    b.worker.update(MEDIUM, MIB)
    until(lambda: len(b.called) >= 3)
    assert set(b.called) == {("cache", MEDIUM)}


def test_a_newer_level_ends_the_run(bench: Callable[..., Bench]) -> None:
    """What the older one still had to do is not done."""
    b = bench(medium=("reclaim", "shrink"), high=())
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(30)

    b.reclaim.add(ReclaimHook("slow", slow, cost=1))
    b.worker.update(MEDIUM, MIB)
    assert begun.wait(30)
    b.worker.update(HIGH, MIB)
    go_on.set()
    until(lambda: b.worker.statistics().rounds >= 2)
    assert b.called == []


def test_stopping_does_not_wait_for_ever(bench: Callable[..., Bench]) -> None:
    """An action that hangs is left behind; the rest of its run is not done."""
    b = bench(medium=("reclaim", "shrink"))
    begun, go_on = threading.Event(), threading.Event()

    def hangs() -> None:
        begun.set()
        go_on.wait(30)

    b.reclaim.add(ReclaimHook("hangs", hangs, cost=1))
    b.worker.update(MEDIUM, MIB)
    assert begun.wait(30)
    b.worker.stop(timeout=0.01)
    assert b.is_running
    go_on.set()
    until(lambda: not b.is_running)
    assert b.called == []
    b.worker.update(HIGH, MIB)
    assert not b.is_running


def test_stopping_tells_that_pressure_is_over(bench: Callable[..., Bench]) -> None:
    """Nobody else will, and a cache must not stay small for ever."""
    b = bench()
    b.worker.update(HIGH, MIB)
    until(lambda: b.called)
    b.worker.stop()
    until(lambda: not b.is_running)
    assert b.called[-1] == ("cache", LOW)


def test_errors_are_counted_and_end_nothing(bench: Callable[..., Bench]) -> None:
    """Of the meter here; those of actions the coordinator counts."""
    b = bench()
    b.error = OSError("no /proc")
    b.worker.update(MEDIUM, MIB)
    until(lambda: b.worker.statistics().errors >= 1)
    assert b.worker.statistics().last_error == "OSError: no /proc"
    b.error = None
    until(lambda: b.called)


def test_a_cache_that_exits_or_is_cancelled_ends_no_thread(bench: Callable[..., Bench]) -> None:
    """Whatever it raises: it is counted, and the thread goes on at its own pace."""
    b = bench(medium=(lambda _: sys.exit(3),))
    b.worker.update(MEDIUM, MIB)
    until(lambda: b.prompts >= 1 or b.worker.statistics().errors >= 1)
    thread = b.worker._thread
    until(lambda: b.worker.statistics().rounds >= 2)
    assert b.worker._thread is thread
    assert b.worker.statistics().errors >= 1


def test_a_thread_that_cannot_start_is_tried_again(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory may be too short even for that; the watcher must not notice."""
    b = bench()

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for _ in range(3):
            b.worker.update(MEDIUM, MIB)
    statistics = b.worker.statistics()
    assert (statistics.errors, statistics.running) == (1, False)
    assert statistics.last_error == "RuntimeError: can't start new thread"

    def is_called() -> bool:
        b.worker.update(MEDIUM, MIB)
        return bool(b.called)

    until(is_called)


def test_a_child_has_a_thread_of_its_own(bench: Callable[..., Bench]) -> None:
    """The parent's is not there; the level calls for a new one."""
    b = bench()
    b.worker.update(MEDIUM, MIB)
    until(lambda: b.called)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            b.called.clear()
            assert not b.is_running
            b.worker.update(MEDIUM, MIB)
            until(lambda: b.called)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_default_actions_collect_and_trim(bench: Callable[..., Bench]) -> None:
    """By name, so that a level can leave some out."""
    ran: list[str] = []
    b = bench()
    for kind in (PressureAction.COLLECT, PressureAction.TRIM):
        assert kind in PressureActions().named(HIGH)

    def started(phase: str, info: dict[str, Any]) -> None:
        if phase == "start" and threading.current_thread().name == "asyncmem-reclaim":
            ran.append(f"garbage {info['generation']}")

    from asyncmem.reclaim import GarbageCollection  # noqa: PLC0415

    b.reclaim.add(GarbageCollection(1))
    b.reclaim.add(GarbageCollection(2))
    gc.callbacks.append(started)
    try:
        b.worker.update(MEDIUM, 100 * MIB)
        until(lambda: b.called)
        assert "garbage 2" not in ran
        b.worker.update(HIGH, 100 * MIB)
        until(lambda: "garbage 2" in ran)
    finally:
        gc.callbacks.remove(started)
