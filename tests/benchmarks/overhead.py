"""What the middleware costs a request that does nothing: aiohttp plain, with a middleware that does nothing, guarded.

Each round runs the three in fresh processes, one after the other, so that a machine that changes its speed does so for
all of them. Counted is processor time of server and client together, per request, over keep-alive connections. To
reach: guarded at least 92 % as good as the middleware that does nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 20
REQUESTS = 5000
CONNECTIONS = 10

PROGRAM = f"""
import asyncio, sys, time
from aiohttp import web

mode = sys.argv[1]

async def hello(request):
    return web.Response(text="hi")

@web.middleware
async def nothing(request, handler):
    return await handler(request)

async def main():
    app = web.Application()
    app.router.add_get("/", hello)
    if mode == "no-op":
        app.middlewares.append(nothing)
    if mode == "guarded":
        from asyncmem.middleware.aiohttp import setup
        setup(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]

    async def ask():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range({REQUESTS // CONNECTIONS}):
            writer.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            await reader.readuntil(b"hi")
        writer.close()

    await asyncio.gather(*(ask() for _ in range({CONNECTIONS})))
    begin = time.process_time()
    await asyncio.gather(*(ask() for _ in range({CONNECTIONS})))
    print((time.process_time() - begin) / {REQUESTS} * 1e6)
    await runner.cleanup()

asyncio.run(main())
"""


def _microseconds(mode: str) -> float:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> dict[str, object]:
    """Measure, print a table, return the figures."""
    modes = ("plain", "no-op", "guarded")
    rounds = [{mode: _microseconds(mode) for mode in modes} for _ in range(ROUNDS)]
    ratios = [entry["no-op"] / entry["guarded"] for entry in rounds]
    figures: dict[str, object] = {
        f"{mode}_us_per_request": statistics.median(entry[mode] for entry in rounds) for mode in modes
    }
    figures["guarded_as_good_as_no_op"] = statistics.median(ratios)
    figures["spread"] = [min(ratios), max(ratios)]
    for name, value in figures.items():
        print(f"{name:>28}  {value}")
    return figures
