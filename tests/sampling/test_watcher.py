"""The one background thread: when it calls, what ends its waits, and what it counts."""

from __future__ import annotations

import ctypes
import gc
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from asyncmem.sampling import Watcher
from asyncmem.sampling import watcher as watcher_module
from asyncmem.sampling._bell import EventBell, hang_bell

LONG = 60.0
"""An interval that no test lives to see the end of, and the longest wait for an event."""


class Ticks:
    """A function to be called, whose calls can be waited for."""

    def __init__(self) -> None:
        self.period: float | None = None
        self.count = 0
        self.thread: threading.Thread | None = None
        self._called = threading.Condition()

    def __call__(self) -> float | None:
        """Be called."""
        with self._called:
            self.count += 1
            self.thread = threading.current_thread()
            self._called.notify_all()
        return self.period

    def reached(self, count: int) -> bool:
        """Wait for that many calls in all."""
        with self._called:
            return self._called.wait_for(lambda: self.count >= count, LONG)


Start = Callable[..., Watcher]


class Told:
    """A listener to one eventfd; whether a word is news is set by hand."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK)
        self.news = True
        self.error: Exception | None = None
        self.handled = 0
        self._masks = {self.descriptor: select.POLLIN}

    def descriptors(self) -> Mapping[int, int]:
        """The one."""
        return self._masks

    def handle(self, ready: Sequence[tuple[int, int]]) -> bool:
        """Take it in."""
        self.handled += 1
        if self.error is not None:
            raise self.error
        assert [number for number, _ in ready] == [self.descriptor]
        os.eventfd_read(self.descriptor)
        return self.news

    def say(self) -> None:
        """Speak as the kernel does."""
        os.eventfd_write(self.descriptor, 1)


@pytest.fixture
def told() -> Iterator[Told]:
    """A listener, whose descriptor is closed when the test ends."""
    listener = Told()
    yield listener
    os.close(listener.descriptor)


@pytest.fixture(params=["poll", "event"])
def bell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to wait: all these tests hold for either."""
    monkeypatch.setattr(watcher_module, "hang_bell", hang_bell if request.param == "poll" else EventBell)


def _start() -> Iterator[Start]:
    started = []

    def start(
        tick: Callable[[], float | None], *, idle: float = LONG, busy: float = 0.001, events: Told | None = None
    ) -> Watcher:
        watcher = Watcher(tick, idle_interval=idle, busy_interval=busy, events=events)
        started.append(watcher)
        watcher.start()
        return watcher

    yield start
    for watcher in started:
        watcher.stop()
        assert not watcher.statistics().running


@pytest.fixture
def start(bell: None) -> Iterator[Start]:
    """Start watchers, and stop them when the test ends."""
    yield from _start()


@pytest.fixture
def start_polling() -> Iterator[Start]:
    """The same, where the kernel can be heard."""
    yield from _start()


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


def test_it_is_called_when_it_asks_to_be(start: Start) -> None:
    """With the idle interval alone the test would take minutes."""
    ticks = Ticks()
    ticks.period = 0.001
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

    def tick() -> float | None:
        if looked.is_set():
            again.set()
        else:
            looked.set()
            assert go_on.wait(LONG)
        return None

    watcher = start(tick)
    assert looked.wait(LONG)
    watcher.wake()
    go_on.set()
    assert again.wait(LONG)


def test_waking_a_busy_watcher_touches_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hot path ends at the attribute check."""
    ticks = Ticks()
    ticks.period = LONG
    watcher = start(ticks)
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

    def tick() -> float | None:
        nonlocal count
        count += 1
        if count == 3:
            third.set()
        if count < 3:
            raise ValueError(f"number {count}")
        return None

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

    def tick() -> float | None:
        if again.is_set():
            return None
        again.set()
        raise Broken

    watcher = start(tick, idle=0.001)
    assert again.wait(LONG)
    watcher.stop()
    assert watcher.statistics().last_error == "Broken"


def test_errors_leave_the_period_as_it_was(start: Start) -> None:
    """A tick that begins to fail while work is in flight goes on at the busy period."""
    ticks = Ticks()

    def tick() -> float | None:
        if ticks.count > 0:
            ticks()
            raise ValueError("from the second on")
        ticks.period = 0.001
        return ticks()

    start(tick)
    assert ticks.reached(5)


def test_start_twice_is_one_thread(start: Start) -> None:
    """Starting what runs changes nothing."""
    ticks = Ticks()
    watcher = start(ticks)
    assert ticks.reached(1)
    thread = watcher._thread
    watcher.start()
    assert watcher._thread is thread
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
    watcher = Watcher(lambda: None, idle_interval=LONG)
    watcher.wake()
    watcher.prompt()
    watcher.stop()
    assert not watcher.statistics().running


def test_the_thread_can_stop_itself(start: Start) -> None:
    """A tick that stops its watcher does not wait for itself."""
    stopped = threading.Event()

    def tick() -> float | None:
        watcher.stop()
        stopped.set()
        return None

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
    ticks.period = 0.001
    watcher.wake()
    assert ticks.reached(ticks.count + 5)
    assert watcher.statistics().longest_gap >= 0.001


def test_a_dropped_owner_ends_the_thread() -> None:
    """The thread keeps no owner alive, and does not outlive it for long."""
    called, finished = threading.Event(), threading.Event()

    class Owner:
        def __init__(self) -> None:
            self.watcher = Watcher(self.tick, idle_interval=0.001)

        def tick(self) -> None:
            called.set()

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


def test_prompt_ends_a_busy_wait_and_an_idle_one(start: Start) -> None:
    """Either would take minutes."""
    ticks = Ticks()
    watcher = start(ticks)
    assert ticks.reached(1)
    watcher.prompt()
    assert ticks.reached(2)
    ticks.period = LONG
    watcher.prompt()
    assert ticks.reached(3)
    watcher.prompt()
    assert ticks.reached(4)
    watcher.stop()
    assert watcher.statistics().prompted == 3


def test_a_word_of_the_kernel_ends_a_busy_wait_and_an_idle_one(start_polling: Start, told: Told) -> None:
    """The same thread waits for it, so that nothing has to be handed over."""
    ticks = Ticks()
    watcher = start_polling(ticks, events=told)
    assert ticks.reached(1)
    told.say()
    assert ticks.reached(2)
    ticks.period = LONG
    told.say()
    assert ticks.reached(3)
    told.say()
    assert ticks.reached(4)
    watcher.stop()
    assert watcher.statistics().prompted == 3
    assert told.handled == 3


def test_noise_of_the_kernel_ends_no_wait(start_polling: Start, told: Told) -> None:
    """A word without news leaves the wait what it was, and the ring that comes next is heard."""
    ticks = Ticks()
    watcher = start_polling(ticks, events=told)
    assert ticks.reached(1)
    told.news = False
    told.say()
    while told.handled == 0:
        time.sleep(0)
    assert ticks.count == 1
    watcher.prompt()
    assert ticks.reached(2)


def test_a_listener_that_fails_is_counted_and_keeps_nobody_awake(start_polling: Start, told: Told) -> None:
    """What it does not take in stays ready: so there is a pause before it is asked again."""
    ticks = Ticks()
    told.error = OSError("gone")
    watcher = start_polling(ticks, events=told)
    assert ticks.reached(1)
    begin = time.monotonic()
    told.say()
    while told.handled < 5:
        time.sleep(0)
    assert time.monotonic() - begin >= 4 * 0.002
    told.error = None
    assert ticks.reached(2)
    watcher.stop()
    assert watcher.statistics().errors >= 5
    assert watcher.statistics().last_error == "OSError: gone"


def test_a_storm_of_prompts_is_slowed_down(start: Start) -> None:
    """Two milliseconds lie between two calls, however often somebody prompts."""
    begins: list[float] = []
    done = threading.Event()

    def tick() -> None:
        begins.append(time.monotonic())
        if len(begins) == 20:
            done.set()

    started = time.monotonic()
    watcher = start(tick)
    while not done.is_set():
        watcher.prompt()
    # Not gap by gap: one that is held up before it can look at the clock makes its own gap longer and the next shorter.
    assert all(begin - started >= 0.0019 * number for number, begin in enumerate(begins))


@pytest.mark.parametrize(("asked", "period"), [(0.0, 0.002), (-1.0, 0.002), (float("nan"), 0.002), (1e9, LONG)])
def test_what_is_asked_for_is_kept_within_bounds(start: Start, asked: float, period: float) -> None:
    """Neither a storm nor a sleep comes of a wrong answer."""
    ticks = Ticks()
    ticks.period = asked
    watcher = start(ticks)
    assert ticks.reached(1)
    watcher.stop()
    assert watcher.statistics().period == period


def test_it_says_how_late_calls_come(start: Start) -> None:
    """A C call that keeps the interpreter's lock for 50 ms keeps the watcher from its call for that long."""
    ticks = Ticks()
    ticks.period = 0.002
    watcher = start(ticks)
    assert ticks.reached(3)
    end = time.monotonic() + LONG
    while watcher.statistics().worst_lateness < 0.040:  # held up in the midst of a call it would not be late
        assert time.monotonic() < end
        ctypes.PyDLL(None).usleep(50_000)
        assert ticks.reached(ticks.count + 3)
    watcher.stop()
    statistics = watcher.statistics()
    assert statistics.worst_lateness >= 0.040
    assert 0 < statistics.lateness <= statistics.worst_lateness
    assert statistics.reaction_time == statistics.worst_lateness + 0.002
    assert statistics.longest_gap >= 0.040


def test_the_worst_lateness_is_forgotten() -> None:
    """After two minutes one that was held up for once is as good as before; the mean forgets by the number of calls."""
    lateness = watcher_module._Lateness()
    lateness.add(1.0, now=1000.0)
    for second in range(60):
        lateness.add(0.001, now=1000.0 + second)
    assert lateness.worst == 1.0
    lateness.add(0.001, now=1061.0)
    assert lateness.worst == 1.0
    for second in range(62, 130):
        lateness.add(0.001, now=1000.0 + second)
    assert lateness.worst == 0.001
    assert lateness.mean == pytest.approx(0.001, rel=0.1)
    lateness.add(0.002, now=5000.0)
    assert lateness.worst == 0.002
