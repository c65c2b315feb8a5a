"""While pressure is high, work of low priority is refused at once: politely, and never while nothing is in flight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from asyncmem.admission import Priority, current_permit
from asyncmem.errors import AdmissionRejected, RejectionReason


@pytest.mark.anyio
@pytest.mark.parametrize("how", [{}, {"cost": "10MiB"}, {"size": 3.0}])
@pytest.mark.parametrize("priority", [Priority.LOW, 0])
async def test_low_priority_is_refused_at_once(
    world: Callable[..., Any], how: dict[str, Any], priority: Priority
) -> None:
    """By every way in, with a reason of its own, 503 and a time to come back."""
    controller = world().controller
    running = controller.acquire_nowait("work")
    controller.is_shedding = True
    for ask in (controller.try_acquire, controller.acquire_nowait, controller.acquire_sync):
        with pytest.raises(AdmissionRejected, match="'report' has low priority, and such work is refused") as caught:
            ask("report", priority=priority, **how)
        assert (caught.value.reason, caught.value.status_code) == (RejectionReason.PRESSURE, 503)
        assert caught.value.retry_after is not None
    with pytest.raises(AdmissionRejected):
        await controller.acquire("report", priority=priority, **how)
    statistics = controller.statistics()
    assert (statistics.rejected, statistics.rejected_idle) == ({"pressure": 4}, 0)
    assert (statistics.in_flight, statistics.queued) == (1, 0)
    running.record()


def test_other_priorities_are_not(world: Callable[..., Any]) -> None:
    """And when pressure is over, low ones are served again."""
    controller = world().controller
    running = controller.acquire_nowait("work")
    controller.is_shedding = True
    for priority in (Priority.NORMAL, Priority.HIGH):
        controller.acquire_nowait("report", priority=priority).record()
    controller.is_shedding = False
    controller.acquire_nowait("report", priority=Priority.LOW).record()
    running.record()
    assert controller.statistics().rejected == {}


def test_nothing_is_shed_while_nothing_is_in_flight(world: Callable[..., Any]) -> None:
    """Nothing would ever be given back: one runs, and only the next is refused."""
    controller = world().controller
    controller.is_shedding = True
    with pytest.raises(AdmissionRejected), controller_held(controller, "report", Priority.LOW):
        controller.acquire_nowait("report", priority=Priority.LOW)
    controller.acquire_nowait("report", priority=Priority.LOW).record()
    assert controller.statistics().rejected_idle == 0


def test_part_of_work_that_was_let_in_is_not_shed(world: Callable[..., Any]) -> None:
    """It holds a permit already, and what it has done would be lost; once that has ended it is like any other."""
    controller = world().controller
    controller.is_shedding = True
    other, outer = controller.acquire_nowait("other"), controller.acquire_nowait("outer")
    token = current_permit.set(outer)
    try:
        controller.acquire_nowait("inner", priority=Priority.LOW).record()
        outer.record()
        with pytest.raises(AdmissionRejected):
            controller.acquire_nowait("inner", priority=Priority.LOW)
    finally:
        current_permit.reset(token)
        other.record()


class controller_held:  # noqa: N801 - reads as a block
    """One permit for a block."""

    def __init__(self, controller: Any, task_class: str, priority: Priority) -> None:
        self._permit = controller.acquire_nowait(task_class, priority=priority)

    def __enter__(self) -> None:
        """It is held."""

    def __exit__(self, *_error: object) -> None:
        """Give it back."""
        self._permit.record()


def test_while_it_drains_only_work_that_was_let_in_goes_on(world: Callable[..., Any]) -> None:
    """What it asks for it gets, as before; all else is refused as when all is closed, whatever pressure does."""
    controller = world().controller
    outer = controller.acquire_nowait("outer")
    controller.drain()
    assert controller.is_draining
    controller.is_shedding = False
    for priority in Priority:
        with pytest.raises(AdmissionRejected) as caught:
            controller.acquire_nowait("another", priority=priority)
        assert caught.value.reason is RejectionReason.CLOSED
    token = current_permit.set(outer)
    try:
        controller.acquire_nowait("inner", cost="10MiB").record()
        controller.close()
        with pytest.raises(AdmissionRejected):
            controller.acquire_nowait("inner")
    finally:
        current_permit.reset(token)
    outer.record()


@pytest.mark.anyio
async def test_those_that_wait_are_refused_when_it_drains(world: Callable[..., Any]) -> None:
    """They were not let in."""
    controller = world().controller
    held = controller.acquire_nowait("job", cost="900MiB")
    refused: list[RejectionReason] = []

    async def wait() -> None:
        with pytest.raises(AdmissionRejected) as caught:
            await controller.acquire("job", cost="900MiB")
        refused.append(caught.value.reason)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        controller.drain()
    assert refused == [RejectionReason.CLOSED]
    held.record()
    assert controller.statistics().reserved == 0
