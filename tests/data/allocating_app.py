"""An app whose handler allocates what it is asked for and holds it a moment; started by the survival tests.

python allocating_app.py PORT guarded|bare
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

from asyncmem.middleware.aiohttp import RUNTIME, add_health_routes, setup


async def allocate(request: web.Request) -> web.Response:
    """Ask a database, say, and then touch so many MiB for so many seconds: the memory comes after the decision."""
    await asyncio.sleep(0.02)
    block = bytearray(int(request.query["mib"]) * 1024 * 1024)
    await asyncio.sleep(float(request.query["seconds"]))
    return web.json_response({"bytes": len(block)})


async def statistics(request: web.Request) -> web.Response:
    """What admission holds and has learned."""
    found = request.app[RUNTIME].statistics().admission
    return web.json_response(
        {
            "reserved": found.reserved,
            "in_flight": found.in_flight,
            "admitted": found.admitted,
            "capacity": found.capacity,
            "learned": {name: known.cost for name, known in found.task_classes.items()},
        }
    )


async def livez(_request: web.Request) -> web.Response:
    """Alive."""
    return web.Response()


def main() -> None:
    """Serve until told to stop, or killed."""
    app = web.Application()
    app.router.add_get("/allocate", allocate)
    if sys.argv[2] == "guarded":
        setup(app, exempt=("/livez", "/readyz", "/statistics"))
        app.router.add_get("/statistics", statistics)
        add_health_routes(app)
    else:
        app.router.add_get("/livez", livez)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=lambda *_: None)


if __name__ == "__main__":
    main()
