"""An app with handlers that take more than there is, in small awaited steps; started by the survival tests.

python hungry_app.py PORT
"""

from __future__ import annotations

import asyncio
import gc
import sys

from aiohttp import web

from asyncmem.middleware.aiohttp import RUNTIME, add_health_routes, admission, setup

MIB = 1024 * 1024
STEP = 2 * MIB


async def devour(mib: int) -> int:
    """Take so many MiB in steps of 2, each awaited, and hold them; returns the bytes held."""
    held = []
    for _ in range(0, mib * MIB, STEP):
        held.append(bytearray(b"x") * STEP)
        await asyncio.sleep(0.004)
    return sum(map(len, held))


async def greedy(request: web.Request) -> web.Response:
    """Take what the query says, and answer."""
    return web.Response(text=str(await devour(int(request.query["mib"]))))


@admission(cancellable=True)
async def repeatable(request: web.Request) -> web.Response:
    """The same, declared to be safe to repeat."""
    return await greedy(request)


async def begun(request: web.Request) -> web.StreamResponse:
    """The same, after the answer has begun."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"x")
    await devour(int(request.query["mib"]))
    return response


async def small(request: web.Request) -> web.Response:
    """Take little, for a moment."""
    block = bytearray(MIB)
    await asyncio.sleep(0.01)
    return web.Response(text=str(len(block)))


async def tiny(_request: web.Request) -> web.Response:
    """Take next to nothing, for a moment."""
    block = bytearray(16 * 1024)
    await asyncio.sleep(0.01)
    return web.Response(text=str(len(block)))


async def statistics(request: web.Request) -> web.Response:
    """What admission holds and has done, the working set, and how many blocks Python has in use."""
    gc.collect()
    found = request.app[RUNTIME].statistics().admission
    return web.json_response(
        {
            "reserved": found.reserved,
            "in_flight": found.in_flight,
            "queued": found.queued,
            "admitted": found.admitted,
            "evicted": found.evicted,
            "rejected": found.rejected,
            "rejected_idle": found.rejected_idle,
            "working_set": request.app[RUNTIME].monitor.capture_snapshot().working_set,
            "blocks": sys.getallocatedblocks(),
        }
    )


def main() -> None:
    """Serve until told to stop, or killed."""
    app = web.Application()
    app.router.add_get("/greedy", greedy)
    app.router.add_post("/greedy", greedy)
    app.router.add_post("/repeatable", repeatable)
    app.router.add_get("/begun", begun)
    app.router.add_get("/small", small)
    app.router.add_get("/tiny", tiny)
    setup(app, exempt=("/livez", "/readyz", "/statistics"))
    app.router.add_get("/statistics", statistics)
    add_health_routes(app)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=lambda *_: None, access_log=None, backlog=16384)


if __name__ == "__main__":
    main()
