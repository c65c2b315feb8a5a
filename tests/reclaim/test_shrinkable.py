"""What is shrinkable: told the level, measured and capped like any reclaimer, and never kept alive."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from asyncmem.errors import ConfigError
from asyncmem.events import PressureLevel
from asyncmem.reclaim import Reclaim, ReclaimHook, ReclaimReport, Shrinkable
from asyncmem.testing import ManualClock

MIB = 1024 * 1024
LOW, MEDIUM, HIGH, CRITICAL = PressureLevel


class Memory:
    """Memory that caches give back."""

    def __init__(self) -> None:
        self.used = 1000 * MIB
        self.clock = ManualClock()
        self.told: list[tuple[str, PressureLevel]] = []
        self.reclaim = Reclaim(lambda: self.used, clock=self.clock)

    def cache(self, name: str = "cache", **options: Any) -> Cache:
        """A cache that is registered."""
        cache = Cache(self, name, **options)
        self.reclaim.add(cache)
        return cache

    def shrink(self, level: PressureLevel, **options: Any) -> ReclaimReport:
        """One run at a level."""
        return self.reclaim.run(level=level, **options)


class Cache:
    """A cache that gives so many bytes back each time."""

    def __init__(
        self, memory: Memory, name: str, *, gives: int = 10 * MIB, essential: bool = False, seconds: float = 0.0
    ) -> None:
        self.name = name
        self.essential = essential
        self._memory = memory
        self._gives = gives
        self._seconds = seconds
        self.error: Exception | None = None
        self.says: Any = None

    def shrink(self, level: PressureLevel) -> Any:
        """Note it, and give back."""
        self._memory.told.append((self.name, level))
        self._memory.clock.advance(self._seconds)
        if self.error is not None:
            raise self.error
        if level > LOW:
            self._memory.used -= self._gives
        return self.says


def test_it_is_told_the_level_and_measured() -> None:
    """By what the meter fell, whatever it says of itself."""
    memory = Memory()
    cache = memory.cache(gives=30 * MIB)
    assert isinstance(cache, Shrinkable)
    report = memory.shrink(MEDIUM)
    assert [(action.name, action.bytes_freed) for action in report.actions] == [("cache", 30 * MIB)]
    assert memory.told == [("cache", MEDIUM)]
    assert memory.reclaim.reclaimers == (cache,)
    assert memory.reclaim.statistics().shrinkables == 1


def test_without_pressure_nothing_shrinks() -> None:
    """Admission asks for reclaim on the way of a request, and a cache is not to be cleared for one."""
    memory = Memory()
    cache = memory.cache()
    for quiet in (False, True):
        assert memory.reclaim.run(quiet=quiet, force=True) == ReclaimReport()
    assert memory.shrink(HIGH, quiet=True) == ReclaimReport()
    assert memory.told == []
    assert cache.name == "cache"


def test_what_is_essential_is_spared_and_comes_last() -> None:
    """No more than `MEDIUM` at `HIGH`; at `CRITICAL` only where the others have not given enough."""
    memory = Memory()
    model = memory.cache("model", essential=True)
    pages = memory.cache("pages")
    memory.shrink(HIGH)
    assert memory.told == [("pages", HIGH), ("model", MEDIUM)]
    memory.told.clear()
    memory.shrink(CRITICAL, wanted=10 * MIB)
    assert memory.told == [("pages", CRITICAL)]
    memory.clock.advance(1.0)
    memory.told.clear()
    memory.shrink(CRITICAL, wanted=11 * MIB)
    assert memory.told == [("pages", CRITICAL), ("model", CRITICAL)]
    assert (model.essential, pages.essential) == (True, False)


def test_those_of_one_cost_are_told_together() -> None:
    """Else the first would be cleared again and again, and the second never."""
    memory = Memory()
    kept = [memory.cache(name) for name in "abc"]
    memory.shrink(HIGH, wanted=1)
    assert [name for name, _ in memory.told] == ["a", "b", "c"]
    assert len(kept) == 3


def test_it_is_not_kept_alive() -> None:
    """A cache that goes out of scope goes, and its place with it."""
    memory = Memory()
    cache = memory.cache()
    memory.cache("gone")
    gc.collect()
    assert memory.reclaim.statistics().shrinkables == 1
    assert memory.reclaim.reclaimers == (cache,)
    memory.shrink(HIGH)
    assert [name for name, _ in memory.told] == ["cache"]
    memory.reclaim.add(ReclaimHook("hook", lambda: None))
    assert len(memory.reclaim._turns) == 2


def test_it_is_kept_where_that_is_wanted() -> None:
    """One that was made only to be added."""
    memory = Memory()
    memory.reclaim.add(Cache(memory, "kept"), keep=True)
    gc.collect()
    memory.shrink(MEDIUM)
    assert memory.told == [("kept", MEDIUM)]


def test_when_pressure_is_over_it_may_grow_again() -> None:
    """It is told `LOW` once, and only if it was told more."""
    memory = Memory()
    told, untold = memory.cache("told"), memory.cache("untold", essential=True)
    memory.shrink(CRITICAL, wanted=1)
    memory.told.clear()
    for _ in range(3):
        assert memory.reclaim.relax()
    assert memory.told == [("told", LOW)]
    assert (told.name, untold.name) == ("told", "untold")


def test_it_can_be_taken_out() -> None:
    """And is there once however often it was added."""
    memory = Memory()
    cache = memory.cache()
    memory.reclaim.add(cache)
    assert memory.reclaim.statistics().shrinkables == 1
    memory.reclaim.remove(cache)
    assert memory.reclaim.statistics().shrinkables == 0
    with pytest.raises(ValueError, match="'cache' is none of the reclaimers; there are: none"):
        memory.reclaim.remove(cache)


def test_one_that_raises_stops_nothing() -> None:
    """It is told in the report and counted, also when it is told that pressure is over."""
    memory = Memory()
    broken, whole = memory.cache("broken"), memory.cache("whole")
    broken.error = ZeroDivisionError("by nothing")
    report = memory.shrink(HIGH)
    assert [action.error for action in report.actions] == ["ZeroDivisionError: by nothing", None]
    assert memory.reclaim.relax()
    assert memory.told[-2:] == [("broken", LOW), ("whole", LOW)]
    assert memory.reclaim.statistics().errors == 2
    assert whole.name == "whole"


@pytest.mark.parametrize(
    ("says", "freed"), [(None, 0), (True, 0), ("lots", 0), (-5, None), (7, 7), (0, None), (1.5, 0)]
)
def test_nonsense_that_it_says_is_not_believed(says: Any, freed: int | None) -> None:
    """Only whole bytes count; nothing, or less than nothing, means that there was nothing to give."""
    memory = Memory()
    cache = memory.cache(gives=0)
    cache.says = says
    actions = memory.shrink(HIGH).actions
    assert [action.bytes_freed for action in actions] == ([] if freed is None else [freed])


def test_a_higher_level_ends_its_rest() -> None:
    """One that had nothing to give at `MEDIUM` may have at `HIGH`; at the same level it rests as all do."""
    memory = Memory()
    cache = memory.cache(gives=0)
    for level in (MEDIUM, MEDIUM, HIGH, MEDIUM, HIGH, CRITICAL, CRITICAL):
        memory.shrink(level)
        memory.clock.advance(0.01)
    assert memory.told == [("cache", MEDIUM), ("cache", HIGH), ("cache", CRITICAL)]
    memory.clock.advance(4.0)
    memory.shrink(MEDIUM)
    assert memory.told[-1] == ("cache", MEDIUM)
    assert cache.says is None


class Slotted:
    """One that cannot be referred to weakly."""

    __slots__ = ()
    name = "slotted"
    essential = False

    def shrink(self, level: PressureLevel) -> int:  # noqa: ARG002 - as of Shrinkable
        """Nothing."""
        return 0


class Awaited:
    """One that has misunderstood."""

    name = "awaited"
    essential = False

    async def shrink(self, level: PressureLevel) -> int:  # noqa: ARG002 - as of Shrinkable
        """Nothing, later."""
        return 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, r"got None; expected a Shrinkable \(name, essential, shrink\) or a Reclaimer"),
        ("cache", "got 'cache'; expected a Shrinkable"),
        (Slotted, "expected a Shrinkable"),
        (Slotted(), "'slotted' cannot be held without being kept alive .* pass keep=True"),
        (Awaited(), "'awaited' has a coroutine function as shrink; it is called in a thread"),
    ],
)
def test_what_is_none_is_refused(wrong: Any, message: str) -> None:
    """With what is expected, and what to do."""
    with pytest.raises(ConfigError, match=message):
        Memory().reclaim.add(wrong)


def test_a_slow_one_does_not_hold_up_the_defence() -> None:
    """The watcher's thread trims while a cache is at it, and its time does not count against the watcher's."""
    memory = Memory()
    begun, go_on = threading.Event(), threading.Event()
    cache = memory.cache(seconds=10.0)

    def wait() -> None:
        begun.set()
        go_on.wait(30)

    memory.reclaim.add(ReclaimHook("wait", wait, cost=20))
    memory.reclaim.add(ReclaimHook("trim", lambda: MIB, quiet=True, cost=90))
    thread = threading.Thread(target=memory.shrink, args=(HIGH,))
    thread.start()
    try:
        assert begun.wait(30)
        assert memory.reclaim.relax() is False
        assert [action.name for action in memory.reclaim.run(quiet=True).actions] == ["trim"]
    finally:
        go_on.set()
        thread.join(30)
    assert memory.told == [("cache", HIGH)]
    assert [action.name for action in memory.reclaim.run(quiet=True).actions] == ["trim"]
    assert memory.shrink(HIGH) == ReclaimReport()
    assert cache.name == "cache"
