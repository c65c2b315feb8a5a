"""What an application notices of pressure: low priority is shed, actions and `on_critical` go through `setup`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from asyncmem import ConfigError, MemoryConfig, Priority
from asyncmem.events import PressureLevel
from asyncmem.middleware.aiohttp import setup
from asyncmem.reclaim import PressureActions


@pytest.mark.asyncio
async def test_low_priority_is_answered_at_once(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """503 with a time to come back, and the connection may stay; others are served, and so is this one when alone."""
    b = bench()
    b.app.router.add_get("/hold", b.hold)
    b.guard(priority=lambda request: Priority.LOW if "low" in request.query else Priority.NORMAL)
    client = await client_of(b)
    held = asyncio.ensure_future(client.get("/hold"))
    await b.entered.wait()
    b.runtime.admission.is_shedding = True
    async with client.get("/hold?low") as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert response.headers.get("Connection") != "close"
        assert (await response.json())["reason"] == "pressure"
    b.go_on.set()
    async with client.get("/hold") as response:
        assert response.status == 200
    await held
    await b.until(lambda: b.in_flight == 0)
    async with client.get("/hold?low") as response:
        assert response.status == 200
    assert b.statistics.rejected_idle == 0


def test_setup_takes_actions_and_on_critical() -> None:
    """For the runtime that it makes; one that is given has its actions already."""
    config = MemoryConfig(limit="64GiB")
    memory = setup(web.Application(), config, actions=PressureActions(high=()), on_critical=print)
    assert memory._response._actions.of(PressureLevel.HIGH) == ()
    assert [hook.function for hook in memory._response.critical._hooks] == [print]
    setup(web.Application(), runtime=memory, on_critical=repr)  # type: ignore[arg-type]
    assert [hook.function for hook in memory._response.critical._hooks] == [print, repr]
    with pytest.raises(ConfigError, match="got both actions and runtime"):
        setup(web.Application(), runtime=memory, actions=PressureActions())
