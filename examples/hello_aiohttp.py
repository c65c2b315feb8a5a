"""An aiohttp app under guard: one call to `setup`, and memory is reserved before each request runs.

    python examples/hello_aiohttp.py                # then, in another terminal:
    curl -s 'http://127.0.0.1:8081/thumbnail?megapixels=2'
    curl -s http://127.0.0.1:8081/statistics

The handler needs more memory the larger the picture. asyncmem finds the container's limit, learns what the route
costs, and lets as many requests run side by side as fit; the others wait their turn.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec
from aiohttp import web

from asyncmem.middleware.aiohttp import RUNTIME, add_health_routes, setup

BYTES_PER_PIXEL = 12
MOST_MEGAPIXELS = 16


async def hello(_request: web.Request) -> web.Response:
    """Cost next to nothing."""
    return web.Response(text="hello\n")


async def thumbnail(request: web.Request) -> web.Response:
    """Hold as much memory as a decoded picture would."""
    try:
        megapixels = float(request.query.get("megapixels", "1"))
    except ValueError:
        raise web.HTTPBadRequest(text="megapixels: expected a number\n") from None
    if not 0 < megapixels <= MOST_MEGAPIXELS:
        raise web.HTTPBadRequest(text=f"megapixels: expected more than 0 and at most {MOST_MEGAPIXELS}\n")
    picture = bytearray(int(megapixels * 1_000_000) * BYTES_PER_PIXEL)
    await asyncio.sleep(0.1)
    return web.json_response({"bytes": len(picture)})


async def statistics(request: web.Request) -> web.Response:
    """Show what admission knows and holds."""
    return web.Response(
        body=msgspec.json.format(msgspec.json.encode(request.app[RUNTIME].statistics().admission)),
        content_type="application/json",
    )


def create_app() -> web.Application:
    """Build the app; `setup` is all that asyncmem asks for."""
    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get("/thumbnail", thumbnail)
    app.router.add_get("/statistics", statistics)
    setup(app)
    add_health_routes(app)
    return app


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8081
    web.run_app(create_app(), host="127.0.0.1", port=port)
