"""A handler that takes more than there is, under a real memory cgroup: only its request fails."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio

LIMIT = 320
"""MiB; 40 of them are the guard band."""
TOO_MUCH = 1000
"""MiB that the handler would take."""


async def small_ones(base: str, session: aiohttp.ClientSession, until: asyncio.Task[Any]) -> list[int]:
    """Ask for little, again and again, until the task is done; returns the statuses."""
    statuses: list[int] = []
    while not until.done():
        async with session.get(f"{base}/small") as response:
            await response.read()
            statuses.append(response.status)
        await asyncio.sleep(0.01)
    return statuses


@pytest.mark.parametrize(("method", "path"), [("GET", "/greedy"), ("POST", "/repeatable"), ("GET", "/begun")])
async def test_only_the_greedy_request_fails(
    memory_cgroup: Any, serve: Callable[..., Any], session: aiohttp.ClientSession, method: str, path: str
) -> None:
    """It gets 503, or a broken connection where its answer had begun; others are served, and the process lives."""
    app = serve("hungry_app.py", LIMIT)
    await app.until_alive(session)

    async def ask() -> str:
        try:
            async with session.request(method, f"{app.base}{path}", params={"mib": str(TOO_MUCH)}) as response:
                await response.read()
                return str(response.status)
        except aiohttp.ClientError as error:
            return type(error).__name__

    for _ in range(2):  # again, and as it was learned the first time
        greedy = asyncio.create_task(ask())
        statuses = await small_ones(app.base, session, greedy)
        outcome = await greedy
        assert outcome in ({"ClientPayloadError", "503"} if path == "/begun" else {"503"})
        assert statuses
        assert set(statuses) == {200}
        assert memory_cgroup.oom_kills == 0
    async with session.get(f"{app.base}/small") as response:
        assert response.status == 200
    statistics = await app.statistics(session)
    assert statistics["evicted"] >= 1
    assert (statistics["reserved"], statistics["in_flight"]) == (0, 0)
    assert statistics["rejected_idle"] == 0
    assert await app.end() == 0
    assert memory_cgroup.oom_kills == 0


async def test_what_may_not_be_repeated_is_not_cancelled(
    memory_cgroup: Any, serve: Callable[..., Any], session: aiohttp.ClientSession
) -> None:
    """A POST within the limit but inside the guard band goes on to its end; repeatable ones beside it make room."""
    app = serve("hungry_app.py", LIMIT)
    await app.until_alive(session)
    before = (await app.statistics(session))["working_set"] // 2**20
    fits = LIMIT - before - 30

    async def ask(method: str, mib: int) -> int:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.request(method, f"{app.base}/greedy", params={"mib": str(mib)}) as response:
                await response.read()
                return response.status
        return 0

    post = asyncio.create_task(ask("POST", fits))
    statuses = await small_ones(app.base, session, post)
    assert await post == 200
    assert set(statuses) <= {200, 503}
    assert memory_cgroup.oom_kills == 0
    assert await app.end() == 0
