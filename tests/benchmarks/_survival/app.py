"""The server under test: an aiohttp application with one of the policies, started inside the cgroup by `runner`.

python -m tests.benchmarks._survival.app SETTINGS_AS_JSON

It writes its port on standard output once it serves. Handlers wait for something first, as for a database, and touch
their memory then: so it comes after the decision to admit them. The statistics lie below ``/metrics``, which asyncmem
leaves alone by default; no policy is asked about that path or about ``/livez``.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
import sys
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec
from aiohttp import web

from tests.benchmarks._survival.memory import LIVE, Live
from tests.benchmarks._survival.policies import FREE, install, report
from tests.benchmarks._survival.values import MIB, WORK_HEADER, ServerSettings, Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.typedefs import Handler, Middleware

ROUTES: Final = ("/light", "/medium", "/heavy", "/work", "/upload", "/download", "/inner")
"""Routes that all do the same, as their header says: a route is what costs are learned by."""
PAGE: Final = 4096
MAPPED: Final = 32 * MIB
OBJECT: Final = (600, 2400)
"""Sizes of small objects in bytes: above 512, so that the C library's heap holds them and not Python's own."""
CLIENT: Final = web.AppKey("client", aiohttp.ClientSession)
SETTINGS: Final = web.AppKey("settings", ServerSettings)
REFUSALS: Final = frozenset({413, 429, 503})


class Observer:
    """Counts refusals, and those of them at a moment when no request was past the policy."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.refused: Counter[int] = Counter()
        self.idle_sheds = 0

    def outside(self) -> Middleware:
        """The middleware before the policy: sees what it answers."""

        @web.middleware
        async def see(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            if response.status in REFUSALS and request.path not in FREE:
                self.refused[response.status] += 1
                self.idle_sheds += self.in_flight == 0
            return response

        return see

    def inside(self) -> Middleware:
        """The middleware behind the policy: counts what it has let in, until the request's task ends."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            task = asyncio.current_task()
            assert task is not None
            if request.path not in FREE:
                self.in_flight += 1
                task.add_done_callback(self._left)
            return await handler(request)

        return count

    def _left(self, _task: object) -> None:
        self.in_flight -= 1


OBSERVER: Final = web.AppKey("observer", Observer)


def touched(size: int) -> bytearray | mmap.mmap:
    """So many bytes, each page of them written to.

    The C library maps a block of its own for what is above 32 MiB, always. That is done here directly, with all pages
    faulted in by one call: the same memory for two thirds of the processor time, which is scarce in the large shapes.
    """
    if size <= MAPPED:
        block = bytearray(size)
        block[::PAGE] = b"\x01" * len(range(0, size, PAGE))
        return block
    mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    mapped[::PAGE] = b"\x01" * len(range(0, size, PAGE))
    return mapped


async def work(request: web.Request) -> web.Response:
    """Read the body, wait, take the memory in steps, hold it, free it, answer."""
    order = msgspec.json.decode(request.headers[WORK_HEADER], type=Work)
    if request.can_read_body:
        await request.read()
    await asyncio.sleep(order.pause)
    with request.app[LIVE].holding() as held:
        blocks = []
        for _ in range(order.steps):
            blocks.append(touched(order.memory // order.steps))
            held.add(order.memory // order.steps)
            await asyncio.sleep(order.hold / order.steps)
        if order.stall is not None and order.stall[0] <= time.monotonic() < order.stall[1]:
            await asyncio.sleep(order.stall[1] - time.monotonic())
        status = 200 if order.inner is None else await _call_itself(request, order.inner)
        del blocks
    return web.Response(status=status, body=b"\x01" * order.answer)


async def objects(request: web.Request) -> web.Response:
    """The same with many small objects, of which a few outlive the request: the heap gets holes and keeps its size."""
    order = msgspec.json.decode(request.headers[WORK_HEADER], type=Work)
    await asyncio.sleep(order.pause)
    low, high = OBJECT
    count = order.memory // ((low + high) // 2)
    with request.app[LIVE].holding() as held:
        found = [bytes(low + (index * 613) % (high - low)) for index in range(count)]
        held.add(order.memory)
        await asyncio.sleep(order.hold)
        request.app[LIVE].pinned.extend(found[::97])
        del found
    return web.Response()


async def _call_itself(request: web.Request, order: Work) -> int:
    """Call a route of this service over HTTP, as some do; a refusal there is a refusal here."""
    headers = {WORK_HEADER: msgspec.json.encode(order).decode()}
    async with request.app[CLIENT].get(f"http://{request.host}/inner", headers=headers) as response:
        await response.read()
        return response.status


async def livez(_request: web.Request) -> web.Response:
    """Alive."""
    return web.Response()


async def statistics(request: web.Request) -> web.Response:
    """Which policy runs, and what it did."""
    observer = request.app[OBSERVER]
    found = {
        "policy": request.app[SETTINGS].policy,
        "refused": {str(status): count for status, count in observer.refused.items()},
        "idle_sheds": observer.idle_sheds,
        "in_flight": observer.in_flight,
        "runtime": report(request.app),
    }
    return web.Response(body=msgspec.json.encode(found, enc_hook=str), content_type="application/json")


async def _client(app: web.Application) -> AsyncIterator[None]:
    """A client for calls to itself, as long as the app runs."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app[CLIENT] = session
        yield


async def _cache(app: web.Application) -> AsyncIterator[None]:
    """A cache that grows for three seconds and is dropped then, again and again: no leak."""
    task = asyncio.ensure_future(_grow_and_drop(app[SETTINGS].sawtooth, app[LIVE]))
    yield
    task.cancel()


async def _grow_and_drop(size: int, live: Live, parts: int = 30, period: float = 0.1) -> None:
    while True:
        live.cache.clear()
        for _ in range(parts):
            live.cache.append(touched(size // parts))
            await asyncio.sleep(period)


def build(settings: ServerSettings) -> web.Application:
    """The application, with its policy between the two observers."""
    app = web.Application(client_max_size=2**30)
    observer = Observer()
    app[SETTINGS], app[OBSERVER], app[LIVE] = settings, observer, Live(pinned=deque(maxlen=20_000))
    for route in ROUTES:
        app.router.add_route("*", route, work)
    app.router.add_get("/outer", work)
    app.router.add_get("/objects", objects)
    app.router.add_get("/livez", livez)
    app.router.add_get("/metrics/statistics", statistics)
    install(app, settings)
    app.middlewares.insert(0, observer.outside())
    app.middlewares.append(observer.inside())
    app.cleanup_ctx.append(_client)
    if settings.sawtooth:
        app.cleanup_ctx.append(_cache)
    return app


def main() -> None:
    """Serve until told to stop, or killed."""
    settings = msgspec.json.decode(sys.argv[1], type=ServerSettings)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        web.run_app(
            build(settings),
            sock=listener,
            access_log=None,
            shutdown_timeout=0.5,
            print=lambda *_: print(port, flush=True),
        )


if __name__ == "__main__":
    main()
