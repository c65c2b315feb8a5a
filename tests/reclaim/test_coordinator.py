"""Reclaimers in order of cost, what they gain, and how much of the time they may take."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest

from asyncmem.reclaim import HeapTrim, Reclaim, Reclaimer, ReclaimHook, ReclaimReport, default_reclaimers, trim_heap
from asyncmem.sampling import LiveMeter, default_sampler
from asyncmem.testing import ManualClock

MIB = 1024 * 1024


class Memory:
    """Memory that reclaimers give back, and the time they take for it."""

    def __init__(self, used: int = 1000 * MIB) -> None:
        self.used = used
        self.clock = ManualClock()
        self.ran: list[str] = []

    def hook(
        self,
        name: str,
        gives: int = 0,
        *,
        says: int | None = None,
        seconds: float = 0.0,
        cost: int = 40,
        quiet: bool = False,
        rest: float = 0.0,
    ) -> ReclaimHook:
        """A reclaimer that gives so many bytes back each time."""

        def function() -> int | None:
            self.ran.append(name)
            self.used -= gives
            self.clock.advance(seconds)
            return says

        return ReclaimHook(name, function, cost=cost, quiet=quiet, rest=rest)

    def reclaim(self, *reclaimers: Reclaimer) -> Reclaim:
        """Join them."""
        return Reclaim(lambda: self.used, reclaimers, clock=self.clock)


def test_they_run_in_order_of_cost_and_are_measured() -> None:
    """Each by what the meter fell, whatever it says of itself."""
    memory = Memory()
    reclaim = memory.reclaim(
        memory.hook("dear", 30 * MIB, cost=80, seconds=0.5), memory.hook("cheap", 20 * MIB, cost=10, seconds=0.1)
    )
    report = reclaim.run()
    assert [(action.name, action.bytes_freed) for action in report.actions] == [("cheap", 20 * MIB), ("dear", 30 * MIB)]
    assert [action.seconds for action in report.actions] == pytest.approx([0.1, 0.5])
    assert report.bytes_freed == 50 * MIB
    assert report.freed_mb == 50.0
    assert report.seconds == pytest.approx(0.6)


def test_it_stops_when_enough_is_gained() -> None:
    """What comes later hurts more."""
    memory = Memory()
    reclaim = memory.reclaim(memory.hook("first", 20 * MIB, cost=1), memory.hook("second", 20 * MIB, cost=2))
    assert reclaim.run(wanted=15 * MIB).bytes_freed == 20 * MIB
    assert memory.ran == ["first"]
    reclaim.run(wanted=25 * MIB)
    assert memory.ran == ["first", "first", "second"]


def test_the_watchers_thread_runs_only_what_runs_nobodys_code() -> None:
    """Finalisers and callbacks belong to a thread of the caller's."""
    memory = Memory()
    reclaim = memory.reclaim(memory.hook("quiet", MIB, quiet=True), memory.hook("loud", MIB))
    reclaim.run(quiet=True)
    assert memory.ran == ["quiet"]


def test_no_more_than_a_twentieth_of_the_time_is_spent_in_it() -> None:
    """However much it gains, and however often it is asked."""
    memory = Memory(used=10**15)
    reclaim = memory.reclaim(memory.hook("slow", 50 * MIB, seconds=0.3))
    for _ in range(100_000):
        reclaim.run()
        memory.clock.advance(0.01)
    statistics = reclaim.statistics()
    assert 0.04 < statistics.seconds / memory.clock.monotonic() <= 0.05
    assert statistics.runs == len(memory.ran)
    assert statistics.runs + statistics.declined == 100_000


def test_what_gains_nothing_rests_twice_as_long_each_time() -> None:
    """No endless loop of collections on a process that is simply full."""
    memory = Memory()
    reclaim = memory.reclaim(memory.hook("useless"))
    times = []
    for _ in range(20_000):
        if reclaim.run().actions:
            times.append(memory.clock.monotonic())
        memory.clock.advance(0.1)
    gaps = [round(later - earlier) for earlier, later in pairwise(times)]
    assert gaps[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert reclaim.statistics().fruitless == len(times)


def test_a_gain_ends_the_rests() -> None:
    """It is worth trying again then."""
    memory = Memory()
    gains = [0, 0, 0, 5 * MIB]

    def function() -> None:
        memory.used -= gains.pop(0) if gains else 0

    reclaim = memory.reclaim(ReclaimHook("cache", function))
    times = []
    for _ in range(300):
        if reclaim.run().actions:
            times.append(memory.clock.monotonic())
        memory.clock.advance(0.125)
    assert times[:7] == [0.0, 1.0, 3.0, 7.0, 7.125, 8.125, 10.125]


def test_one_that_is_useless_does_not_hold_up_another() -> None:
    """Each has its own rest."""
    memory = Memory(used=10**12)
    reclaim = memory.reclaim(memory.hook("useless", cost=90), memory.hook("useful", 5 * MIB, cost=10))
    for _ in range(100):
        reclaim.run(quiet=False)
        memory.clock.advance(0.1)
    assert memory.ran.count("useful") == 100
    assert memory.ran.count("useless") < 10


def test_what_shows_only_later_in_the_run_counts_for_those_before() -> None:
    """Garbage that is freed inside the heap comes back with the trim that follows."""
    memory = Memory(used=10**12)
    reclaim = memory.reclaim(memory.hook("garbage", cost=10), memory.hook("trim", 5 * MIB, cost=20))
    for _ in range(10):
        reclaim.run()
        memory.clock.advance(0.1)
    assert memory.ran == ["garbage", "trim"] * 10


def test_a_cache_that_says_what_it_gave_is_believed() -> None:
    """The allocator may keep it, so that no meter shows it."""
    memory = Memory()
    reclaim = memory.reclaim(memory.hook("cache", says=10 * MIB))
    report = reclaim.run()
    assert report.actions[0].bytes_freed == 10 * MIB
    assert report.bytes_freed == 0
    memory.clock.advance(0.001)
    assert reclaim.run().actions


def test_what_was_not_worth_trying_is_no_failure() -> None:
    """It says 0, costs nothing, and may be asked again at once; nor is it counted as a run."""
    memory = Memory()
    reclaim = memory.reclaim(memory.hook("heap", says=0))
    for _ in range(3):
        assert reclaim.run() == ReclaimReport()
    assert len(memory.ran) == 3
    statistics = reclaim.statistics()
    assert (statistics.runs, statistics.declined, statistics.fruitless) == (0, 0, 0)


def test_a_reclaimer_can_ask_for_rest() -> None:
    """A full collection every half minute at most, however quick it was."""
    memory = Memory()
    reclaim = memory.reclaim(memory.hook("full", 5 * MIB, rest=30.0))
    for _ in range(100):
        reclaim.run()
        memory.clock.advance(1.0)
    assert len(memory.ran) == 4


def test_by_hand_all_run_due_or_not() -> None:
    """A person who asks has reasons."""
    memory = Memory()
    reclaim = memory.reclaim(memory.hook("full", rest=30.0, seconds=1.0), memory.hook("young"))
    reclaim.run()
    assert not reclaim.run().actions
    assert len(reclaim.run(force=True).actions) == 2


def test_a_hook_that_raises_stops_nothing() -> None:
    """It is told in the report and counted, and rests like one that gains nothing."""
    memory = Memory()

    def broken() -> int:
        raise ZeroDivisionError("by nothing")

    reclaim = memory.reclaim(ReclaimHook("broken", broken, cost=1), memory.hook("whole", 5 * MIB, cost=2, seconds=0.0))
    first, second = reclaim.run().actions
    assert first.error == "ZeroDivisionError: by nothing"
    assert second.bytes_freed == 5 * MIB
    assert reclaim.statistics().errors == 1


def test_one_run_at_a_time() -> None:
    """A finaliser that asks for reclaim inside of one gets an empty report, and so does another thread."""
    memory = Memory()
    inner: list[ReclaimReport] = []

    def function() -> None:
        inner.append(reclaim.run(force=True))
        thread = threading.Thread(target=lambda: inner.append(reclaim.run(force=True)))
        thread.start()
        thread.join()

    reclaim = memory.reclaim(ReclaimHook("outer", function))
    reclaim.run()
    assert inner == [ReclaimReport(), ReclaimReport()]
    assert reclaim.statistics().declined == 2


def test_reclaimers_come_and_go() -> None:
    """A new one takes the place of its cost."""
    memory = Memory()
    first, second, third = (memory.hook(str(cost), cost=cost) for cost in (1, 2, 3))
    reclaim = memory.reclaim(first, third)
    reclaim.add(second)
    assert [one.name for one in reclaim.reclaimers] == ["1", "2", "3"]
    reclaim.remove(second)
    assert [one.name for one in reclaim.reclaimers] == ["1", "3"]
    with pytest.raises(ValueError, match="'2' is none of the reclaimers; there are: 1, 3"):
        reclaim.remove(second)


def test_a_meter_that_fails_still_costs_its_time() -> None:
    """The caller hears of it, and the next run waits all the same."""
    memory = Memory()
    answers = [100]

    def meter() -> int:
        if not answers:
            raise OSError("no /proc")
        return answers.pop()

    reclaim = Reclaim(meter, [memory.hook("slow", seconds=1.0)], clock=memory.clock)
    with pytest.raises(OSError, match="no /proc"):
        reclaim.run()
    assert reclaim.run() == ReclaimReport()


def test_a_child_is_not_held_up_by_its_parents_run() -> None:
    """The thread that was at it is not in the child."""
    memory = Memory()
    codes: list[int] = []

    def function() -> None:
        if codes:
            return
        pid = os.fork()
        if pid == 0:
            codes.append(0)
            os._exit(0 if reclaim.run(force=True).actions else 1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    reclaim = memory.reclaim(ReclaimHook("fork", function))
    reclaim.run()
    assert codes == [0]


def cycles(count: int) -> None:
    """Leave so many objects that only the collector can free."""
    for _ in range(count):
        ring: list[object] = []
        ring.append(ring)


def test_the_default_set_collects_and_trims(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real collector and the real heap; the objects freed are told."""
    sampler = default_sampler()
    meter = LiveMeter(sampler)
    reclaim = Reclaim(sampler.working_set, default_reclaimers(meter, limit=lambda: 100 * MIB))
    assert [(one.name, one.quiet) for one in reclaim.reclaimers if isinstance(one, Reclaimer)] == [
        ("young_garbage", False),
        ("heap", True),
        ("garbage", False),
        ("heap", True),
        ("heap", True),
    ]
    gc.disable()
    try:
        cycles(1000)
        report = reclaim.run(force=True)
    finally:
        gc.enable()
    assert report.objects_collected >= 1000
    assert reclaim.statistics().objects_collected == report.objects_collected
    assert {action.name for action in report.actions} >= {"young_garbage", "garbage"}
    assert reclaim.statistics().last == report


class Heap:
    """A heap that says what it keeps."""

    def __init__(self, retained: int | None) -> None:
        self.kept = retained
        self.trimmed = 0

    def retained(self) -> int | None:
        """As set."""
        return self.kept

    def trim(self, release: Callable[[], object]) -> int:
        """Count; the process's own heap is left alone."""
        assert release is trim_heap
        self.trimmed += 1
        return self.kept or 0


@pytest.mark.parametrize(
    ("retained", "limit", "tried"),
    [
        (None, None, False),
        (8 * MIB - 1, None, False),
        (8 * MIB, None, True),
        (8 * MIB, 100 * MIB, True),
        (15 * MIB, 1000 * MIB, False),
        (20 * MIB, 1000 * MIB, True),
    ],
)
def test_the_heap_is_trimmed_where_that_pays(retained: int | None, limit: int | None, tried: bool) -> None:
    """From 8 MiB on, or a fiftieth of the limit where that is more."""
    heap = Heap(retained)
    assert HeapTrim(heap, limit=limit).reclaim() == (retained if tried else 0)
    assert heap.trimmed == tried
