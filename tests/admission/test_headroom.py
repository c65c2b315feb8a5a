"""How many bytes may still be promised: bounds, promises, expectations, and the guard band that widens by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from asyncmem.admission.headroom import Headroom
from asyncmem.limits import Bound, BoundKind
from asyncmem.testing import ManualClock
from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.admission.conftest import World


class Meter:
    """What is used of one bound, set by hand; the slow part only where it is refreshed."""

    def __init__(self, used: int) -> None:
        self.now = used * MIB
        self.readings = self.refreshes = 0
        self.after_refresh: int | None = None
        self.error: Exception | None = None

    def used(self) -> int:
        """Bytes, as set; or the failure."""
        self.readings += 1
        if self.error is not None:
            raise self.error
        return self.now

    def refresh(self) -> None:
        """Take over what only a slow reading tells."""
        self.refreshes += 1
        if self.after_refresh is not None:
            self.now = self.after_refresh * MIB


class Tasks:
    """What is believed of the tasks in flight, set by hand."""

    held = 0.0
    to_come = 0.0
    unneeded = 0.0
    sampled_at = 0.0
    version = 0


class Room:
    """A headroom over bounds of so many MiB each, with what is used of them."""

    def __init__(self, *bounds: tuple[int, int], guard: int = 0) -> None:
        self.clock, self.tasks = ManualClock(), Tasks()
        self.meters = [Meter(used) for _, used in bounds]
        self.bounds = tuple(
            Bound(f"bound {number}", BoundKind.CGROUP, limit * MIB, "made up", meter)
            for number, ((limit, _), meter) in enumerate(zip(bounds, self.meters, strict=True))
        )
        self.headroom = Headroom(lambda: self.bounds, guard=guard * MIB, clock=self.clock, tasks=self.tasks)

    def free(self, reserved: int = 0, wanted: int = 0) -> int:
        """MiB that may be promised."""
        return self.headroom.free(reserved * MIB, wanted * MIB) // MIB

    def sample(self, *used: int, reserved: int = 0, held: int = 0, known: bool = True, seconds: float = 0.01) -> None:
        """Let time pass and take a sample of so many MiB in each bound."""
        self.clock.advance(seconds)
        for meter, mib in zip(self.meters, used, strict=True):
            meter.now = mib * MIB
        self.headroom.measure(reserved * MIB)
        self.tasks.held = held * MIB
        self.headroom.observe(reserved * MIB, known=known)


def test_the_bound_with_the_least_left_decides() -> None:
    """A sidecar fills the pod's bound, which is the larger one."""
    room = Room((1000, 100), (2000, 1950))
    assert room.free() == 50
    assert room.headroom.capacity() == 1000 * MIB
    room.meters[1].now = 100 * MIB
    assert room.free() == 900


def test_promises_count_before_the_memory_appears_and_leaks_after() -> None:
    """The larger of both expectations: what was promised beside the floor, and what is there with what is to come."""
    room = Room((1000, 100))
    room.sample(100)
    assert room.free(reserved=300) == 600
    room.meters[0].now = 700 * MIB
    room.tasks.to_come = 100 * MIB
    assert room.free(reserved=300) == 200


def test_the_floor_falls_at_once_and_rises_under_load_that_never_pauses() -> None:
    """A leak of 200 MiB beside tasks that hold 300 shows within two seconds, though nothing ever ends."""
    room = Room((1000, 100))
    room.sample(100)
    for _ in range(300):
        room.sample(600, reserved=300, held=300)
    assert room.free(reserved=300) == 400
    assert room.free(reserved=500) == 200, "300 beside the tasks, and 500 promised"
    room.sample(350, reserved=300, held=300)
    assert room.free(reserved=500) == 450


def test_while_work_runs_of_which_nothing_is_known_the_floor_stays() -> None:
    """Whose the memory is cannot be told then: it might be the task's own."""
    room = Room((1000, 100))
    room.sample(100)
    for _ in range(300):
        room.sample(600, reserved=500, known=False)
    assert room.free(reserved=500) == 400


def test_a_slow_reading_is_made_only_where_it_decides() -> None:
    """Page cache that came since the last one looks used; the parts are read again before anything is refused."""
    room = Room((1000, 100))
    room.meters[0].after_refresh = 100
    room.meters[0].now = 100 * MIB
    assert room.free(reserved=100, wanted=100) == 800
    assert room.meters[0].refreshes == 0
    room.meters[0].now = 990 * MIB
    assert room.free(reserved=100, wanted=100) == 800
    assert room.meters[0].refreshes == 1
    assert room.free(reserved=850, wanted=100) == 50
    assert room.meters[0].refreshes == 1, "promises alone say no: no reading can change that"


def test_a_reading_serves_some_milliseconds_while_there_is_plenty() -> None:
    """And less and less of what it found."""
    room = Room((1000, 100))
    room.headroom.free(0, 0)
    assert 0.0005 < room.headroom.spare_until - room.clock.monotonic() <= 0.02
    assert 800 * MIB < room.headroom.spare < 900 * MIB
    room.meters[0].now = 990 * MIB
    room.headroom.free(0, 0)
    assert room.headroom.spare < 0, "nothing may be given on such a reading"


def test_the_guard_band_widens_after_repeated_surprises_and_narrows_again() -> None:
    """One is let pass; growth that nothing explains, twice, is what the band is for. A quarter of the limit at most."""
    room = Room((1000, 100), guard=10)
    for _ in range(50):
        room.sample(100)
    room.sample(180)
    assert room.headroom.capacity() == 990 * MIB
    room.sample(100)
    for _ in range(3):
        room.sample(190)
        room.sample(100)
    assert 900 * MIB < room.headroom.capacity() <= 920 * MIB
    for _ in range(3):
        room.sample(900)
        room.sample(100)
    assert room.headroom.capacity() == 750 * MIB
    for _ in range(10_001):
        room.sample(100)
    assert room.headroom.capacity() == 990 * MIB


def test_growth_that_was_promised_is_no_surprise() -> None:
    """Tasks that take what they reserved, or what was expected of them."""
    room = Room((1000, 100), guard=10)
    for _ in range(20):
        room.sample(100)
        room.sample(500, reserved=400)
        room.tasks.to_come = 450 * MIB
        room.sample(900, reserved=400, held=800)
        room.tasks.to_come = 0.0
    assert room.headroom.capacity() == 990 * MIB


def test_what_is_known_of_a_bound_survives_its_resize() -> None:
    """Another limit, the same floor; capacity, deficit and thresholds follow at once."""
    room = Room((1000, 300), guard=50)
    room.sample(300)
    old = room.bounds
    room.bounds = tuple(replace(bound, limit=500 * MIB) for bound in old)
    version = room.headroom.price_version()
    room.headroom.adopt()
    assert room.headroom.capacity() == 450 * MIB
    assert room.headroom.most() == 150 * MIB
    assert room.headroom.price_version() != version
    assert room.headroom.tightest() == (300 * MIB, 500 * MIB, 50 * MIB)
    assert room.headroom.deficit() == -150 * MIB
    version = room.headroom.price_version()
    room.headroom.adopt()
    assert room.headroom.price_version() == version, "nothing has changed"


def test_memory_is_read_at_the_moment_of_decision(world: Callable[..., World]) -> None:
    """No sample was taken since a neighbour came: the decision sees it all the same."""
    w = world()
    w.controller.acquire_nowait("job", cost="100MiB")
    w.memory.used += 750 * MIB
    assert w.controller.try_acquire("job", cost="100MiB") is None


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("no number")])
def test_a_bound_that_cannot_be_read_is_taken_for_worse(error: Exception) -> None:
    """The last reading stands, promises count on top of it, the guard band counts twice; then all is well again."""
    room = Room((1000, 100), guard=50)
    meter = room.meters[0]
    assert room.free() == 850
    meter.error = error
    assert room.free() == 800
    assert room.free(reserved=300) == 500
    room.sample(100, reserved=300)
    assert room.free(reserved=300) == 500
    assert room.headroom.unreadable >= 4
    meter.error = None
    meter.now = 400 * MIB
    assert room.free(reserved=300) == 550


def test_what_tasks_in_flight_will_not_need_is_free() -> None:
    """It is promised to others, and never counted twice: nothing becomes more than it is."""
    room = Room((1000, 100))
    assert room.free(reserved=600) == 300
    room.tasks.unneeded = 200 * MIB
    room.tasks.sampled_at = room.clock.monotonic() - 0.05
    assert room.free(reserved=600) == 500
    room.tasks.sampled_at -= 1
    assert room.free(reserved=600) == 300, "what was seen a second ago is not seen"
    room.tasks.sampled_at += 1
    room.meters[0].error = OSError("gone")
    assert room.free(reserved=600) == 300, "nor is anything while the bound cannot be read"
    room.meters[0].error = None
    room.meters[0].now = 650 * MIB
    assert room.free(reserved=600) == 350
    room.meters[0].now = 100 * MIB
    room.tasks.unneeded = 700 * MIB
    assert room.free(reserved=600) == 900


def test_a_limit_that_changes_while_nothing_can_be_read_is_adopted() -> None:
    """With what was last read; a bound that was never read is an error."""
    room = Room((1000, 100))
    room.meters[0].error = OSError("gone")
    room.bounds = (replace(room.bounds[0], limit=200 * MIB),)
    room.headroom.adopt()
    assert room.headroom.capacity() == 200 * MIB
    assert room.free() == 100
    broken = replace(room.bounds[0], name="another")
    room.bounds = (broken,)
    with pytest.raises(OSError, match="gone"):
        room.headroom.adopt()
