"""A burst under a real memory cgroup: the kernel kills the bare app, and the guarded one serves all of it."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 256 * 1024 * 1024
REQUESTS, MIB, SECONDS = 60, 20, 0.2
QUIET = 300
"""More than the cost model remembers, so that the first, which took fresh memory, is forgotten."""

pytestmark = pytest.mark.asyncio


async def burst(app: Any, session: aiohttp.ClientSession, requests: int, seconds: float = SECONDS) -> Counter[str]:
    """Send so many requests at once; returns how often each outcome was seen."""

    async def one() -> str:
        query = {"mib": str(MIB), "seconds": str(seconds)}
        try:
            async with session.get(f"{app.base}/allocate", params=query) as response:
                await response.read()
                return str(response.status)
        except aiohttp.ClientError as error:
            return type(error).__name__

    return Counter(await asyncio.gather(*(one() for _ in range(requests))))


async def test_without_the_middleware_the_kernel_kills(
    memory_cgroup: Any, serve: Callable[..., Any], session: aiohttp.ClientSession
) -> None:
    """1200 MiB at once into 256: the process is killed and the requests in flight are lost."""
    app = serve("allocating_app.py", LIMIT // 2**20, "bare")
    await app.until_alive(session)
    outcomes = await burst(app, session, REQUESTS)
    returncode = await asyncio.to_thread(app.process.wait, 30)
    assert returncode == -signal.SIGKILL
    assert memory_cgroup.oom_kills >= 1
    assert outcomes["200"] < REQUESTS / 2


async def test_with_the_middleware_the_same_burst_is_served(
    memory_cgroup: Any, serve: Callable[..., Any], session: aiohttp.ClientSession
) -> None:
    """Nothing is told to it but the limit that it finds; every request is answered, and every byte comes back."""
    app = serve("allocating_app.py", LIMIT // 2**20, "guarded")
    await app.until_alive(session)
    for _ in range(2):  # the first teaches, the second runs on what was learned
        assert await burst(app, session, REQUESTS) == {"200": REQUESTS}
    async with session.get(f"{app.base}/statistics") as response:
        statistics = await response.json()
    assert (statistics["reserved"], statistics["in_flight"]) == (0, 0)
    assert statistics["admitted"] == 2 * REQUESTS
    assert statistics["capacity"] == LIMIT - LIMIT // 8
    learned = statistics["learned"]["GET /allocate"]
    # The margin is a quarter. More comes of tasks that were let in before anything was known: they had reserved more
    # than those beside them, and so are taken to have used more.
    assert MIB * 1024 * 1024 <= learned < 3 * MIB * 1024 * 1024
    assert await app.end() == 0
    assert memory_cgroup.oom_kills == 0


async def test_a_burst_after_quiet_traffic_is_served_too(
    memory_cgroup: Any, serve: Callable[..., Any], session: aiohttp.ClientSession
) -> None:
    """One at a time, each request reuses what the allocator kept of the last and seems to cost nothing; it does not."""
    app = serve("allocating_app.py", LIMIT // 2**20, "guarded")
    await app.until_alive(session)
    for _ in range(QUIET):
        assert await burst(app, session, 1, seconds=0.015) == {"200": 1}
    assert await burst(app, session, REQUESTS) == {"200": REQUESTS}
    assert memory_cgroup.oom_kills == 0
