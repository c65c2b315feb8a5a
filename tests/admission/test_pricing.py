"""What work is charged: what it declares, what was learned, never more than there is, and never nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from asyncmem.admission import Permit, Priority
from asyncmem.errors import AdmissionRejected, ConfigError, RejectionReason
from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.admission.conftest import World


def outgrown(w: World) -> None:
    """Teach a class that it needs more than there is; some of its runs may be refused already."""
    for _ in range(6):
        w.clock.advance(20)
        w.run_alone("huge", 950)
    w.clock.advance(20)


def test_what_has_outgrown_all_there_is_gets_503_and_a_probe_now_and_then(world: Callable[..., World]) -> None:
    """Learned, not declared: so never 413, and one every ten seconds may try; each class by itself."""
    w = world()
    outgrown(w)
    probes, refusals = 0, []
    for _ in range(100):
        w.clock.advance(0.5)
        try:
            w.controller.acquire_nowait("huge").drop()
            probes += 1
        except AdmissionRejected as error:
            refusals.append(error)
    assert 5 <= probes <= 6
    assert {(error.reason, error.status_code) for error in refusals} == {(RejectionReason.MEMORY, 503)}
    assert all(error.retry_after is not None and error.retry_after >= 1 for error in refusals)
    assert "as was learned" in str(refusals[0])
    assert w.controller.statistics().rejected_idle == 0


def test_one_outgrown_class_does_not_take_the_probe_of_another(world: Callable[..., World]) -> None:
    """Each has a turn of its own."""
    w = world()
    outgrown(w)
    for _ in range(6):
        w.clock.advance(20)
        w.run_alone("vast", 960)
    w.clock.advance(20)
    w.controller.acquire_nowait("huge").drop()
    w.controller.acquire_nowait("vast").drop()


def test_a_class_that_has_outgrown_the_limit_comes_back_when_it_needs_less(world: Callable[..., World]) -> None:
    """Its probes teach it; a hundred of them, for one that is wrong would kill."""
    w = world()
    outgrown(w)
    for _ in range(120):
        w.clock.advance(20)
        w.run_alone("huge", 20)
    permits = [w.controller.acquire_nowait("huge") for _ in range(3)]
    assert sum(permit.reserved for permit in permits) < 900 * MIB


def test_a_learned_cost_beyond_a_limit_that_does_not_kill_is_just_tried(world: Callable[..., World]) -> None:
    """A configured limit: it runs alone each time, and is never refused."""
    w = world(enforced=False)
    outgrown(w)
    for _ in range(5):
        permit = w.controller.acquire_nowait("huge")
        assert permit.reserved == 900 * MIB
        permit.drop()


def test_the_operation_limit_holds_on_every_way_in(world: Callable[..., World]) -> None:
    """The quick way, where the last reading still serves, as well as the slow one."""
    w = world(operation_limit=50 * MIB)
    w.run_alone("job", 80, times=6)
    permits = [w.controller.acquire_nowait("job") for _ in range(6)]
    assert {permit.reserved for permit in permits} == {50 * MIB}


def test_costs_follow_the_size_of_the_input(world: Callable[..., World]) -> None:
    """Three bytes of memory per byte of input: sizes never seen are priced by the same line."""
    w = world()
    for size in (2, 5, 10, 20, 3, 8, 15, 30):
        permit = w.controller.acquire_nowait("resize", size=float(size * MIB))
        w.memory.used += 3 * size * MIB
        for _ in range(3):
            w.clock.advance(0.01)
            w.controller.sample()
        w.memory.used -= 3 * size * MIB
        permit.record()
        w.controller.sample()
    small, large = (w.controller.acquire_nowait("resize", size=float(size * MIB)) for size in (4, 60))
    assert 12 * MIB <= small.reserved <= 40 * MIB
    assert 180 * MIB <= large.reserved <= 320 * MIB
    assert w.controller.statistics().task_classes["resize"].per_byte == pytest.approx(3, rel=0.2)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"cost": -1}, "-1"),
        ({"cost": "-5MiB"}, "-5MiB"),
        ({"cost": "lots"}, "lots"),
        ({"cost": ""}, "cost|bytes"),
        ({"cost": 1.5}, "1.5"),
        ({"cost": True}, "True|bool"),
        ({"cost": 10**30}, "out of range"),
        ({"cost": "50%"}, "50%"),
        ({"priority": 7}, "Priority.HIGH"),
        ({"priority": "urgent"}, "urgent"),
        ({"priority": None}, "None"),
        ({"size": -1.0}, "-1"),
        ({"size": math.nan}, "nan"),
        ({"size": math.inf}, "inf"),
        ({"size": True}, "True"),
    ],
)
def test_bad_arguments_are_named_and_hold_nothing(
    world: Callable[..., World], kwargs: dict[str, Any], said: str
) -> None:
    """Every way in, whether or not it would have had to wait."""
    w = world()
    for held in (None, "900MiB"):
        if held is not None:
            w.controller.acquire_nowait("held", cost=held)
        before = w.controller.statistics()
        with pytest.raises(ConfigError, match=said):
            w.controller.try_acquire("job", **kwargs)
        with pytest.raises(ConfigError, match=said):
            w.controller.acquire_sync("job", **kwargs)
        after = w.controller.statistics()
        assert (after.reserved, after.in_flight, after.queued) == (before.reserved, before.in_flight, 0)


@pytest.mark.parametrize("cost", [2**40, 2**63 - 1, "1000000TiB"])
def test_absurd_costs_are_too_large(world: Callable[..., World], cost: int | str) -> None:
    """413, with the numbers, and nothing held."""
    w = world()
    with pytest.raises(AdmissionRejected) as caught:
        w.controller.acquire_nowait("job", cost=cost)
    assert caught.value.status_code == 413
    assert w.controller.statistics().reserved == 0


@pytest.mark.parametrize("size", [5e-324, 1e15, 1e300, 1.7e308])
def test_absurd_sizes_hold_nobody_up(world: Callable[..., World], size: float) -> None:
    """Sizes come from clients: one that claims 1e300 bytes is served or told 503, and the next one is served."""
    w = world()
    for length in (1, 2, 3, 5, 8, 1, 2, 3):
        permit = w.controller.acquire_nowait("upload", size=float(length * MIB))
        w.memory.used += 2 * length * MIB
        w.controller.sample()
        w.memory.used -= 2 * length * MIB
        permit.record()
        w.controller.sample()
    for _ in range(3):
        try:
            permit = w.controller.acquire_nowait("upload", size=size)
        except AdmissionRejected as error:
            assert error.status_code == 503  # noqa: PT017 - it may as well be admitted
        else:
            assert permit.reserved <= 900 * MIB
            w.controller.sample()
            permit.record()
        w.controller.sample()
    small = w.controller.acquire_nowait("upload", size=float(2 * MIB))
    assert isinstance(small, Permit)
    assert small.reserved < 200 * MIB
    assert small.priority is Priority.NORMAL
