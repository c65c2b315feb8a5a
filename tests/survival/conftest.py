"""An app in a process of its own, inside a real memory cgroup."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

DATA = Path(__file__).parents[1] / "data"


class Served:
    """An app that serves."""

    def __init__(self, process: Any, base: str) -> None:
        self.process = process
        self.base = base

    async def until_alive(self, session: aiohttp.ClientSession) -> None:
        """Ask until it answers; the process has thirty seconds to start."""
        end = time.monotonic() + 30
        while True:
            try:
                async with session.get(f"{self.base}/livez") as response:
                    response.raise_for_status()
                    return
            except aiohttp.ClientConnectionError:
                assert self.process.poll() is None, "the app ended before it served"
                assert time.monotonic() < end, "the app did not start in time"
                await asyncio.sleep(0.05)

    async def statistics(self, session: aiohttp.ClientSession) -> dict[str, Any]:
        """What admission holds and has done."""
        async with session.get(f"{self.base}/statistics") as response:
            found: dict[str, Any] = await response.json()
            return found

    async def end(self) -> int:
        """Tell it to stop; returns its exit status."""
        self.process.terminate()
        return int(await asyncio.to_thread(self.process.wait, 30))


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that opens as many connections as it is asked for."""
    timeout = aiohttp.ClientTimeout(total=90)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        yield session


@pytest.fixture
def serve(memory_cgroup: Any, free_tcp_port: int) -> Callable[..., Served]:
    """Starts an app of `tests/data` inside the cgroup, with a limit in MiB."""

    def start(app: str, limit: int, *arguments: str) -> Served:
        memory_cgroup.limit = limit * 1024 * 1024
        process = memory_cgroup.popen([sys.executable, str(DATA / app), str(free_tcp_port), *arguments])
        return Served(process, f"http://127.0.0.1:{free_tcp_port}")

    return start
