"""What admission says of itself to whoever is alerted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from asyncmem.errors import AdmissionRejected
from asyncmem.events import AdmissionAction
from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.admission.conftest import World


def test_at_rest_nobody_is_responsible(world: Callable[..., World]) -> None:
    """Work is let in as it comes, and what is in use is all there is."""
    w = world()
    outlook = w.controller.outlook()
    assert (outlook.action, outlook.task_class, outlook.task_class_share) == (AdmissionAction.ADMITTING, None, None)
    assert (outlook.demand, outlook.exceeds_limit) == (100 * MIB, False)
    assert outlook.headroom == w.controller.statistics().headroom


def test_the_class_that_holds_most_is_named(world: Callable[..., World]) -> None:
    """With its share of what is promised."""
    w = world()
    for name, cost in (("small", 50), ("large", 300), ("small", 50)):
        w.controller.acquire_nowait(name, cost=cost * MIB)
    w.controller.sample()
    outlook = w.controller.outlook()
    assert (outlook.task_class, outlook.task_class_share) == ("large", 0.75)
    assert (outlook.reserved, outlook.in_flight, outlook.demand) == (400 * MIB, 3, 500 * MIB)


@pytest.mark.anyio
async def test_what_waits_counts_as_demand(world: Callable[..., World]) -> None:
    """Without admission all of it would have been let in, and the limit passed."""
    w = world()
    held = w.controller.acquire_nowait("job", cost="800MiB")
    assert w.controller.outlook().action is AdmissionAction.ADMITTING

    async def wait() -> None:
        (await w.controller.acquire("job", cost="300MiB")).record()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        outlook = w.controller.outlook()
        held.record()
    assert (outlook.action, outlook.queued) == (AdmissionAction.QUEUEING, 1)
    assert (outlook.demand, outlook.exceeds_limit) == (1200 * MIB, True)


def test_refusals_count_for_a_while(world: Callable[..., World]) -> None:
    """Ten seconds after the last one, work is let in as it comes."""
    w = world()
    held = w.controller.acquire_nowait("job", cost="800MiB")
    with pytest.raises(AdmissionRejected):
        w.controller.acquire_sync("job", cost="300MiB", deadline=0.001)
    assert w.controller.outlook().action is AdmissionAction.SHEDDING
    assert w.controller.outlook().rejected == 1
    held.record()
    w.clock.advance(9)
    assert w.controller.outlook().action is AdmissionAction.SHEDDING
    w.clock.advance(2)
    assert w.controller.outlook().action is AdmissionAction.ADMITTING
