"""A guarded app on memory that is set by hand."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from asyncmem import MemoryConfig, MemoryRuntime, Permit
from asyncmem.admission import AdmissionStatistics, current_permit
from asyncmem.middleware.aiohttp import add_health_routes, setup
from asyncmem.testing import SyntheticLimits, SyntheticSampler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class Bench:
    """A runtime on 1000 MiB, an app under it, and a handler that waits until it is told."""

    def __init__(self, **settings: object) -> None:
        self.memory = SyntheticSampler("100MiB")
        self.limits = SyntheticLimits(self.memory, "1000MiB")
        config = MemoryConfig(**{"monitoring": False, "guard_band": 0, "log_alerts": False} | settings)  # type: ignore[arg-type]
        self.runtime = MemoryRuntime(
            config,
            sampler=self.memory,
            machine=self.memory,
            limits=self.limits,
        )
        self.app = web.Application()
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.permits: list[Permit] = []
        self.requests: list[web.Request] = []
        self.port = 0

    async def hold(self, request: web.Request) -> web.Response:
        """Work under the permit until `go_on`."""
        permit = current_permit.get()
        assert permit is not None
        self.permits.append(permit)
        self.requests.append(request)
        self.entered.set()
        await self.go_on.wait()
        return web.Response(text="done")

    def guard(self, **options: object) -> None:
        """Put the middleware in front, and let the runtime live with the app."""
        setup(self.app, runtime=self.runtime, **options)  # type: ignore[arg-type]
        add_health_routes(self.app)

        async def running(app: web.Application) -> AsyncIterator[None]:
            self.runtime.start()
            yield
            await asyncio.to_thread(self.runtime.stop)

        self.app.cleanup_ctx.append(running)

    def hold_all(self, **options: object) -> None:
        """One route whose handler takes all memory and waits, for GET and POST."""
        self.app.router.add_get("/hold", self.hold)
        self.app.router.add_post("/hold", self.hold)
        self.guard(**({"cost": "900MiB"} | options))

    @property
    def statistics(self) -> AdmissionStatistics:
        """What admission holds and has done."""
        return self.runtime.admission.statistics()

    @property
    def in_flight(self) -> int:
        """Permits that are out."""
        return self.runtime.admission.statistics().in_flight

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop run until the condition holds; ten seconds at most."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - whatever the condition is, nothing announces it
                await asyncio.sleep(0)


@pytest.fixture
def bench() -> Callable[..., Bench]:
    """Makes a bench with the settings given."""
    return Bench


@pytest_asyncio.fixture
async def client_of() -> AsyncIterator[Callable[[Bench], Awaitable[aiohttp.ClientSession]]]:
    """Serves a bench's app as `web.run_app` would, and gives a client of it.

    Not aiohttp's own test server, which cancels handlers when their client goes away, as servers by default do not.
    """
    async with AsyncExitStack() as stack:

        async def start(bench: Bench) -> aiohttp.ClientSession:
            runner = web.AppRunner(bench.app, shutdown_timeout=5.0, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            bench.port = runner.addresses[0][1]
            session = aiohttp.ClientSession(f"http://127.0.0.1:{bench.port}", connector=aiohttp.TCPConnector(limit=0))
            return await stack.enter_async_context(session)

        yield start
