from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from asyncmem.sampling import Watcher

LONG = 60.0
"""An interval that no test lives to see the end of, and the longest wait for an event."""


class Ticks:
    """A function to be called, whose calls can be waited for."""

    def __init__(self) -> None:
        self.in_flight = False
        self.count = 0
        self.thread: threading.Thread | None = None
        self._called = threading.Condition()

    def __call__(self) -> bool:
        """Be called."""
        with self._called:
            self.count += 1
            self.thread = threading.current_thread()
            self._called.notify_all()
        return self.in_flight

    def reached(self, count: int) -> bool:
        """Wait for that many calls in all."""
        with self._called:
            return self._called.wait_for(lambda: self.count >= count, LONG)


Start = Callable[..., Watcher]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start watchers, and stop them when the test ends."""
    started = []

    def start(tick: Callable[[], bool], *, idle: float = LONG, busy: float = 0.001) -> Watcher:
        watcher = Watcher(tick, idle_interval=idle, busy_interval=busy)
        started.append(watcher)
        watcher.start()
        return watcher

    yield start
    for watcher in started:
        watcher.stop()
        assert not watcher.statistics().running


def test_ticks_at_once_and_in_a_daemon_thread(start: Start) -> None:
    """The first tick does not wait for the first interval."""
    ticks = Ticks()
    start(ticks)
    assert ticks.reached(1)
    assert ticks.thread is not None
    assert ticks.thread.daemon
    assert ticks.thread.name == "asyncmem-watcher"


def test_idle_ticks_follow_the_idle_interval(start: Start) -> None:
    """Without work in flight it goes on all the same."""
    ticks = Ticks()
    start(ticks, idle=0.001, busy=LONG)
    assert ticks.reached(5)


def test_work_in_flight_switches_to_the_busy_interval(start: Start) -> None:
    """With the idle interval alone the test would take minutes."""
    ticks = Ticks()
    ticks.in_flight = True
    start(ticks)
    assert ticks.reached(5)


def test_wake_ends_the_idle_interval(start: Start) -> None:
    """Work that begins is seen after a busy interval, not after the rest of the idle one."""
    ticks = Ticks()
    watcher = start(ticks)
    for count in range(1, 5):
        assert ticks.reached(count)
        watcher.wake()
    assert ticks.reached(5)


def test_a_wake_during_a_tick_is_not_lost(start: Start) -> None:
    """Work that begins after the tick has looked, and before it waits, still shortens the wait."""
    looked, go_on, again = threading.Event(), threading.Event(), threading.Event()

    def tick() -> bool:
        if looked.is_set():
            again.set()
        else:
            looked.set()
            assert go_on.wait(LONG)
        return False

    watcher = start(tick)
    assert looked.wait(LONG)
    watcher.wake()
    go_on.set()
    assert again.wait(LONG)


def test_waking_a_busy_watcher_touches_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hot path ends at the attribute check."""
    ticks = Ticks()
    ticks.in_flight = True
    watcher = start(ticks, busy=LONG)
    assert ticks.reached(1)
    while not watcher._run.busy:
        time.sleep(0)  # the instant between the tick's answer and its being taken

    def refuse() -> None:
        raise AssertionError("a busy watcher was woken")

    monkeypatch.setattr(watcher._run, "wake", refuse)
    watcher.wake()


def test_errors_are_counted_and_end_nothing(start: Start) -> None:
    """A tick that raises is a tick; the next one comes."""
    third = threading.Event()
    count = 0

    def tick() -> bool:
        nonlocal count
        count += 1
        if count == 3:
            third.set()
        if count < 3:
            raise ValueError(f"number {count}")
        return False

    watcher = start(tick, idle=0.001)
    assert third.wait(LONG)
    watcher.stop()
    statistics = watcher.statistics()
    assert statistics.ticks >= 3
    assert statistics.errors == 2
    assert statistics.last_error == "ValueError: number 2"


def test_an_error_that_cannot_be_written_ends_nothing(start: Start) -> None:
    """Even an error whose text raises is counted."""

    class Broken(Exception):  # noqa: N818 - it is what it says
        def __str__(self) -> str:
            raise RuntimeError("no text")

    again = threading.Event()

    def tick() -> bool:
        if again.is_set():
            return False
        again.set()
        raise Broken

    watcher = start(tick, idle=0.001)
    assert again.wait(LONG)
    watcher.stop()
    assert watcher.statistics().last_error == "Broken"


def test_errors_leave_the_period_as_it_was(start: Start) -> None:
    """A tick that begins to fail while work is in flight goes on at the busy period."""
    ticks = Ticks()

    def tick() -> bool:
        if ticks.count > 0:
            ticks()
            raise ValueError("from the second on")
        ticks.in_flight = True
        return ticks()

    start(tick)
    assert ticks.reached(5)


def test_start_twice_is_one_thread(start: Start) -> None:
    """Starting what runs changes nothing."""
    ticks = Ticks()
    watcher = start(ticks)
    assert ticks.reached(1)
    before = threading.active_count()
    watcher.start()
    assert threading.active_count() == before
    assert watcher.statistics().running


def test_stop_waits_and_a_new_start_goes_on_counting(start: Start) -> None:
    """After stop no tick comes; the counts outlive the thread."""
    ticks = Ticks()
    watcher = start(ticks)
    assert ticks.reached(1)
    watcher.stop()
    assert not watcher.statistics().running
    watcher.wake()
    assert not watcher.statistics().running
    watcher.start()
    assert ticks.reached(2)
    assert watcher.statistics().ticks == 2


def test_stop_before_start_is_nothing() -> None:
    """Stopping and waking what never ran is no error."""
    watcher = Watcher(lambda: False, idle_interval=LONG)
    watcher.wake()
    watcher.stop()
    assert not watcher.statistics().running


def test_the_thread_can_stop_itself(start: Start) -> None:
    """A tick that stops its watcher does not wait for itself."""
    stopped = threading.Event()

    def tick() -> bool:
        watcher.stop()
        stopped.set()
        return False

    watcher = Watcher(tick, idle_interval=LONG)
    watcher.start()
    assert stopped.wait(LONG)
    assert not watcher.statistics().running


def test_the_longest_gap_is_of_work_in_flight_only(start: Start) -> None:
    """An idle interval is no gap; a tick that blocks while work is in flight is."""
    ticks = Ticks()
    watcher = start(ticks, idle=0.05, busy=0.001)
    assert ticks.reached(3)
    assert watcher.statistics().longest_gap == 0.0
    ticks.in_flight = True
    watcher.wake()
    assert ticks.reached(ticks.count + 5)
    assert watcher.statistics().longest_gap >= 0.001


def test_a_dropped_owner_ends_the_thread() -> None:
    """The thread keeps no owner alive, and does not outlive it for long."""
    called, finished = threading.Event(), threading.Event()

    class Owner:
        def __init__(self) -> None:
            self.watcher = Watcher(self.tick, idle_interval=0.001)

        def tick(self) -> bool:
            called.set()
            return False

    owner = Owner()
    owner.watcher.start()
    assert called.wait(LONG)
    thread = owner.watcher._thread
    gone = weakref.ref(owner, lambda _: finished.set())
    del owner
    gc.collect()
    assert finished.wait(LONG)
    assert gone() is None
    assert thread is not None
    thread.join(LONG)
    assert not thread.is_alive()
