"""What is done when memory enters the guard band, on memory and time that are set by hand.

Over HTTP, under a real limit: `tests/survival/test_emergency_http.py`; how requests and guards are ended:
`tests/middleware/test_evicting.py` and `tests/runtime/test_cancellable.py`.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from asyncmem.admission import Permit, Priority
from asyncmem.admission.emergency import Emergency, Phase, Recovery, choose_victims
from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.admission.conftest import World

GUARD = 100
"""MiB below the limit of 1000; 100 are in use before anything runs."""


class Canceller:
    """Notes whom it was told to end."""

    def __init__(self) -> None:
        self.told: list[Permit] = []

    def cancel(self, permit: Permit) -> None:
        """Take note."""
        self.told.append(permit)


class Scene:
    """A world with a guard band, a canceller, and a note of what was reclaimed."""

    def __init__(self, world: Callable[..., World]) -> None:
        self.canceller = Canceller()
        self.events: list[str] = []
        self.frees = 0
        """Bytes that the next reclaim gives back."""
        self.world = world(guard=f"{GUARD}MiB", reclaim=self._reclaim)
        self.controller = self.world.controller

    def _reclaim(self, *, quiet: bool, force: bool = False) -> None:
        assert quiet, "the sampling thread may run nobody's code"
        self.events.append("reclaim again" if force else "reclaim")
        self.world.memory.used -= self.frees
        self.frees = 0

    def run(self, cost: int, *, cancellable: bool = True, **options: Any) -> Permit:
        """Let work of so many MiB run and take them."""
        permit = self.controller.acquire_nowait(f"job {cost}", cost=cost * MIB, **options)
        if cancellable:
            permit.canceller = self.canceller
        self.grow(cost)
        return permit

    def grow(self, mib: int) -> None:
        """Memory that nobody reserved."""
        self.world.memory.used += mib * MIB
        self.sample()

    def end(self, permit: Permit, mib: int) -> None:
        """Work has heard that it should end."""
        self.world.memory.used -= mib * MIB
        permit.drop()

    def sample(self) -> list[Permit]:
        """A sample 10 ms later; returns whom it told to end."""
        self.world.clock.advance(0.010)
        before = len(self.canceller.told)
        self.controller.sample()
        return self.canceller.told[before:]


@pytest.fixture
def scene(world: Callable[..., World]) -> Scene:
    """Makes a scene."""
    return Scene(world)


def test_reclaim_comes_first(scene: Scene) -> None:
    """What nobody uses is given back on the first sample inside the band, and where that helps nobody is cancelled."""
    for cost in (200, 300):
        scene.run(cost)
    scene.events.clear()
    scene.frees = 400 * MIB
    scene.grow(350)
    assert scene.events == ["reclaim"]
    assert [scene.sample() for _ in range(10)] == [[]] * 10
    assert scene.controller.statistics().evicted == 0


def test_then_the_fewest_permits_are_cancelled(scene: Scene) -> None:
    """The one that frees least of those that free enough; then it is given two periods, and not before is another."""
    small, medium, large = (scene.run(cost) for cost in (50, 150, 300))
    scene.grow(420)  # 1020 of 900 in use
    told = scene.sample()
    assert told == [medium]
    assert [permit.evicted for permit in (small, medium, large)] == [False, True, False]
    assert scene.sample() == []
    scene.end(medium, 150)
    assert [scene.sample() for _ in range(10)] == [[]] * 10
    assert scene.controller.statistics().evicted == 1


def test_one_that_does_not_end_is_not_waited_for(scene: Scene) -> None:
    """After two periods the next one is chosen, and none twice."""
    permits = [scene.run(cost) for cost in (100, 200, 300)]
    scene.grow(300)
    told = [permit for _ in range(20) for permit in scene.sample()]
    assert sorted(permit.reserved for permit in told) == [100 * MIB, 200 * MIB, 300 * MIB]
    assert len(set(map(id, told))) == len(permits)


def test_only_what_may_be_cancelled_is(scene: Scene) -> None:
    """A payment is not ended, however much it holds and however low its priority."""
    payment = scene.run(400, cancellable=False, priority=Priority.LOW)
    report = scene.run(50, priority=Priority.HIGH)
    scene.grow(400)
    told = [permit for _ in range(20) for permit in scene.sample()]
    assert told == [report]
    assert not payment.evicted


def test_the_lowest_priority_goes_first(scene: Scene) -> None:
    """As many of it as are needed, before any of a higher one."""
    high = scene.run(150, priority=Priority.HIGH)
    low = [scene.run(cost, priority=Priority.LOW) for cost in (60, 61, 62)]
    normal = scene.run(151)
    scene.grow(430)  # 1014 of 900
    assert {id(permit) for permit in scene.sample()} == {id(low[0]), id(low[2])}
    assert not high.evicted
    assert not normal.evicted


def test_what_runs_alone_may_use_the_guard_band(scene: Scene) -> None:
    """Three quarters of it; not the rest, below which the kernel kills."""
    alone = scene.run(700)
    scene.grow(GUARD + GUARD * 3 // 4 - 5)  # beside 800
    assert [scene.sample() for _ in range(20)] == [[]] * 20
    scene.grow(10)
    assert [permit for _ in range(3) for permit in scene.sample()] == [alone]


def test_what_has_taken_nothing_is_not_ended_where_the_process_itself_is_too_large(scene: Scene) -> None:
    """It would be ended at each look, and the next one too: the process would serve nobody any more."""
    scene.world.memory.used = 990 * MIB
    scene.sample()
    permit = scene.controller.acquire_nowait("request")
    permit.canceller = scene.canceller
    assert [scene.sample() for _ in range(10)] == [[]] * 10
    scene.grow(20)
    assert permit in [told for _ in range(5) for told in scene.sample()]


def test_work_that_goes_on_alone_is_let_go_on(scene: Scene) -> None:
    """The other one has ended, and what is left fits into the band: nothing more is cancelled."""
    first, second = scene.run(300), scene.run(350)
    scene.grow(200)
    (told,) = scene.sample()
    scene.end(told, told.reserved // MIB)
    scene.grow(told.reserved // MIB)  # and the other one takes it all
    assert [scene.sample() for _ in range(20)] == [[]] * 20
    assert {first.evicted, second.evicted} == {True, False}


def test_afterwards_the_capacity_comes_back_step_by_step(scene: Scene) -> None:
    """Half of it is withheld, and given back over two seconds; one piece of work may run all the while."""
    first = scene.run(300)
    scene.run(250)
    scene.grow(300)
    (told,) = scene.sample()
    scene.end(told, told.reserved // MIB)
    other = first if told is not first else next(iter(scene.controller._costs.followed()))
    assert isinstance(other, Permit)
    scene.end(other, other.reserved // MIB)
    scene.world.memory.used = 100 * MIB
    given: list[int] = []
    for _ in range(25):
        scene.world.clock.advance(0.09)
        scene.sample()
        given.append(scene.controller.statistics().headroom // MIB)
    assert given == sorted(given), "it never takes back a step"
    assert given[0] < 500
    assert max(b - a for a, b in pairwise(given)) < 80
    assert given[-1] == 800
    scene.world.memory.used = 890 * MIB
    assert scene.controller.try_acquire("anything") is not None


def test_nobody_is_cancelled_while_memory_is_not_in_the_band(scene: Scene) -> None:
    """However full it is."""
    scene.run(300)
    scene.run(450)
    scene.grow(45)
    assert [scene.sample() for _ in range(50)] == [[]] * 50


def lower(scene: Scene, limit: int) -> None:
    """The limit is that many MiB from now on."""
    scene.world.limits.resize(limit * MIB)
    scene.world.limits.refresh()
    scene.controller.adopt_bounds()


def test_a_limit_lowered_below_what_work_will_need_ends_the_fewest_at_once(scene: Scene) -> None:
    """Memory is not in the band yet, but what runs was admitted to more: when it is there, it is too late."""
    permits = [scene.controller.acquire_nowait("job", cost=cost * MIB) for cost in (100, 200, 300)]
    for permit in permits:
        permit.canceller = scene.canceller
    assert scene.sample() == [], "there is room for all"
    lower(scene, 650)  # of which 100 are in use, and 600 to come
    assert scene.sample() == permits[:1]
    assert scene.events == ["reclaim"], "first, and in the same look"
    assert [scene.sample() for _ in range(10)] == [[]] * 10, "it is still ending, and that will be enough"
    permits[0].drop()
    assert [scene.sample() for _ in range(10)] == [[]] * 10


def test_what_reclaim_gives_back_need_not_be_cancelled_for(scene: Scene) -> None:
    """Memory that only the allocator keeps is no reason to end work for a limit that was lowered."""
    scene.world.memory.used += 200 * MIB
    scene.sample()
    permits = [scene.controller.acquire_nowait("job", cost=100 * MIB) for _ in range(4)]
    for permit in permits:
        permit.canceller = scene.canceller
    scene.frees = 200 * MIB
    lower(scene, 650)
    assert [scene.sample() for _ in range(10)] == [[]] * 10
    assert scene.events[0] == "reclaim"


def test_a_limit_that_still_is_enough_ends_nobody(scene: Scene) -> None:
    """Neither one that is lowered to what they need, nor one that is raised."""
    permit = scene.controller.acquire_nowait("job", cost=400 * MIB)
    permit.canceller = scene.canceller
    for limit in (500, 2000):
        lower(scene, limit)
        assert scene.sample() == []


def test_what_is_only_foreseen_ends_nobody_while_the_limit_stays(scene: Scene) -> None:
    """Growth beyond what was reserved waits for the band to be entered."""
    permit = scene.controller.acquire_nowait("job", cost=700 * MIB)
    permit.canceller = scene.canceller
    scene.world.memory.used += 180 * MIB  # somebody else's
    assert [scene.sample() for _ in range(10)] == [[]] * 10


def test_an_emergency_looks_once_per_sample() -> None:
    """Calm, reclaim, cancel, wait; a calm sample begins anew."""
    emergency = Emergency()
    assert emergency.look(0, 0.0) is Phase.CALM
    assert emergency.look(1, 0.1) is Phase.RECLAIM
    assert emergency.look(1, 0.2) is Phase.CANCEL
    emergency.cancelled(0.2)
    assert emergency.look(1, 0.21) is Phase.WAIT
    assert emergency.look(1, 0.215) is Phase.WAIT
    assert emergency.look(1, 0.3) is Phase.RECLAIM_AGAIN
    assert emergency.look(1, 0.31) is Phase.CANCEL
    assert emergency.look(-1, 0.4) is Phase.CALM
    assert emergency.look(1, 0.5) is Phase.RECLAIM


def test_recovery_is_monotone_and_ends() -> None:
    """From half to nothing in two seconds; a second emergency begins again."""
    recovery = Recovery()
    assert recovery.withheld(0.0) == 0
    recovery.begin(1000, 10.0)
    withheld = [recovery.withheld(10.0 + step / 10) for step in range(25)]
    assert withheld[0] == 500
    assert withheld == sorted(withheld, reverse=True)
    assert withheld[20:] == [0] * 5
    recovery.begin(1000, 20.0)
    assert recovery.withheld(20.0) == 500
    recovery.begin(-1000, 20.0)
    assert recovery.withheld(20.0) == 0


@pytest.mark.parametrize("seed", range(20))
def test_victims_are_few_and_enough(scene: Scene, seed: int) -> None:
    """Where the permits of the lowest priority free the deficit, none too many of them are chosen, and no other."""
    chance = random.Random(seed)  # noqa: S311 - the same each time is what is wanted
    permits = []
    for _ in range(12):
        permit = scene.controller.acquire_nowait(
            "job", cost=chance.randrange(1, 60) * MIB, priority=chance.choice(list(Priority))
        )
        permit.canceller = scene.canceller
        permits.append(permit)
    deficit = chance.randrange(1, 400) * MIB
    victims = choose_victims(permits, deficit)
    freed = sum(permit.reserved for permit in victims)
    assert freed >= min(deficit, sum(permit.reserved for permit in permits))
    assert len(set(map(id, victims))) == len(victims)
    assert freed - victims[-1].reserved < deficit, "the last one was needed"
    highest = max(victim.priority for victim in victims)
    spared = [permit for permit in permits if permit not in victims]
    assert all(permit.priority >= highest for permit in spared), "a lower priority was spared"
