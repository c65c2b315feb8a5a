"""A service with a leak, which ends itself in order before the kernel would: it drains, and its exit code says why.

    python examples/graceful_shutdown.py; echo "exit code: $?"        # 75

The leak takes 10 MiB ten times a second, from 256 MiB below the limit on. First the cache is cleared, because it is
`Shrinkable`; that wins some time. When memory has been inside the guard band for half a second, new requests are
refused, the slow one that is in flight is finished, and the process exits. Whoever supervises it starts another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from asyncmem import MemoryConfig, PressureLevel
from asyncmem.middleware.aiohttp import RUNTIME, add_health_routes, admission, setup, shutdown_on_critical
from asyncmem.sampling import default_sampler

MIB = 1024 * 1024
leaked: list[bytearray] = []
exporting, closing = asyncio.Event(), asyncio.Event()


class Thumbnails:
    """A cache that says what it can spare; asyncmem asks when memory gets short, from a thread of its own."""

    name = "thumbnails"
    essential = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures = [bytearray(b"x") * MIB for _ in range(50)]

    def shrink(self, level: PressureLevel) -> int:
        """Keep half at MEDIUM and nothing above; at LOW pressure is over."""
        with self._lock:
            keep = {"low": len(self._pictures), "medium": len(self._pictures) // 2}.get(level, 0)
            given = len(self._pictures) - keep
            del self._pictures[keep:]
        print(f"{level} pressure: the cache gives back {given} MiB", flush=True)
        return given * MIB


@admission(cancellable=False)
async def export(_request: web.Request) -> web.Response:
    """Take until the shutdown has begun, and a little longer."""
    exporting.set()
    await closing.wait()
    await asyncio.sleep(0.2)
    return web.Response(text="exported")


async def leak() -> None:
    """Keep what nobody needs."""
    await exporting.wait()
    while True:
        leaked.append(bytearray(b"x") * (10 * MIB))
        await asyncio.sleep(0.1)


async def clients(app: web.Application, base: str) -> None:
    """One client is served slowly; another one comes when the shutdown has begun."""
    async with aiohttp.ClientSession(base) as session:
        while True:  # the socket is opened after this task has begun
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.get("/livez"):
                    break
            await asyncio.sleep(0.02)
        slow = asyncio.create_task(session.get("/export"))
        while not app[RUNTIME].admission.is_draining:  # noqa: ASYNC110 - a client would not be told either
            await asyncio.sleep(0.02)
        async with session.get("/export") as refused:
            print(f"a new request: {refused.status}, Retry-After {refused.headers['Retry-After']}", flush=True)
        async with session.get("/readyz") as probe:
            print(f"the probe: {probe.status}", flush=True)
        closing.set()
        async with await slow as served:
            print(f"the one in flight: {served.status}, {await served.text()}", flush=True)


def create_app(port: int) -> web.Application:
    """Build the app: `setup` guards it, `shutdown_on_critical` has it end when nothing else helps."""
    app = web.Application()
    app.router.add_get("/export", export)
    memory = setup(app, MemoryConfig(limit=default_sampler().working_set() + 256 * MIB, guard_band="64MiB"))
    add_health_routes(app)
    shutdown_on_critical(app, after=0.5, drain=10.0)
    thumbnails = Thumbnails()
    memory.reclaimers.add(thumbnails)

    async def live(app: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (leak(), clients(app, f"http://127.0.0.1:{port}"))]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print(f"cleaned up, the cache {thumbnails.name!r} too", flush=True)

    app.cleanup_ctx.append(live)
    return app


if __name__ == "__main__":
    at = int(sys.argv[1]) if len(sys.argv) > 1 else 8082
    web.run_app(create_app(at), host="127.0.0.1", port=at, print=None)
