"""An app that can be made to hold memory for good, and shuts itself down for it; started by the tests.

python critical_app.py PORT DRAIN CLOSING

``POST /fill`` has it hold memory up into the guard band, ``GET /slow`` answers when ``POST /go`` came (or never).
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

from asyncmem import MemoryConfig
from asyncmem.middleware.aiohttp import RUNTIME, add_health_routes, admission, setup, shutdown_on_critical
from asyncmem.sampling import default_sampler

MIB = 1024 * 1024
LIMIT = default_sampler().working_set() + 200 * MIB
GUARD = 40 * MIB
held: list[bytearray] = []
go_on = asyncio.Event()


async def fill(request: web.Request) -> web.Response:
    """Hold memory until ten MiB are left."""
    used = request.app[RUNTIME].limits.binding().meter.used()
    held.append(bytearray(b"x") * (LIMIT - 10 * MIB - used))
    return web.Response()


@admission(cancellable=False)
async def slow(_request: web.Request) -> web.Response:
    """Answer when told."""
    await go_on.wait()
    return web.Response(text="done")


async def release(_request: web.Request) -> web.Response:
    """Tell."""
    go_on.set()
    return web.Response()


async def statistics(request: web.Request) -> web.Response:
    """What is in flight."""
    memory = request.app[RUNTIME]
    return web.json_response(
        {"in_flight": memory.statistics().admission.in_flight, "closed": memory.admission.is_draining}
    )


async def cleaned_up(_app: web.Application) -> None:
    """Say that the application ended in order."""
    print("cleaned up", flush=True)  # noqa: T201 - the tests read it


if __name__ == "__main__":
    port, drain, closing = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    app = web.Application()
    app.router.add_post("/fill", fill)
    app.router.add_post("/go", release)
    app.router.add_get("/statistics", statistics)
    app.router.add_get("/slow", slow)
    app.on_cleanup.append(cleaned_up)
    setup(
        app,
        MemoryConfig(limit=LIMIT, guard_band=GUARD, interval=0.1),
        cost="1KiB",
        exempt=["/fill", "/go", "/statistics", "/readyz"],
    )
    add_health_routes(app)
    shutdown_on_critical(app, after=0.5, drain=drain, closing=closing)
    web.run_app(app, host="127.0.0.1", port=port, print=None, shutdown_timeout=60.0)
