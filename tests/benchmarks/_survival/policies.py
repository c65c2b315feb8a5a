"""The policies that are compared, as aiohttp middlewares: `install` puts one in front of an application.

``none``; ``static-N``, a semaphore around the handler; ``rss-0.8``, which refuses above 80 % of the limit;
``pause-0.8``, which starts nobody above 80 % as dask's workers do; ``gradient`` and ``vegas`` (`latency_limits`);
``bytes-fixed``, a byte semaphore that takes every request for the mean; ``asyncmem`` and ``asyncmem-warm`` with no
setting of their own; ``clairvoyant`` (`clairvoyant`), which knows what no policy can know.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web

from tests.benchmarks._survival.clairvoyant import Clairvoyant, usable
from tests.benchmarks._survival.latency_limits import Gradient, Limit, Vegas
from tests.benchmarks._survival.memory import LIVE, CgroupMemory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.typedefs import Handler, Middleware

    from tests.benchmarks._survival.values import ServerSettings

FREE: Final = frozenset({"/livez", "/metrics/statistics"})
"""Paths that no policy is asked about."""
STATIC: Final = (1, 2, 4, 6, 8, 16, 32, 64)
POLICIES: Final = (
    "none",
    *(f"static-{slots}" for slots in STATIC),
    "rss-0.8",
    "pause-0.8",
    "gradient",
    "vegas",
    "bytes-fixed",
    "clairvoyant",
    "asyncmem",
    "asyncmem-warm",
)
THRESHOLD: Final = 0.8
POLL_SECONDS: Final = 0.1
"""Period in which dask's workers look at their memory (``distributed.worker.memory.monitor-interval``)."""


class Policy(Protocol):
    """Handles a request, with its handler behind it."""

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer the request."""


class Static:
    """So many requests at a time; the others wait in order of arrival."""

    def __init__(self, slots: int) -> None:
        self._slots = asyncio.Semaphore(slots)

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Wait for a slot."""
        async with self._slots:
            return await handler(request)


class Refusing:
    """Refuses while the cgroup uses more than a share of its limit."""

    def __init__(self, memory: CgroupMemory) -> None:
        self._memory = memory

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Look once, at arrival."""
        if self._memory.usage > THRESHOLD * self._memory.limit:
            return web.Response(status=503)
        return await handler(request)


class Pausing:
    """Starts nobody while this process's RSS is above a share of the limit; looks again every 100 ms."""

    def __init__(self, memory: CgroupMemory) -> None:
        self._memory = memory
        self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        self._page = os.sysconf("SC_PAGE_SIZE")

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Wait for memory, then start."""
        while int(os.pread(self._statm, 128, 0).split()[1]) * self._page > THRESHOLD * self._memory.limit:  # noqa: ASYNC110 - dask polls
            await asyncio.sleep(POLL_SECONDS)
        return await handler(request)


class Limited:
    """As many at a time as a limit says that learns from latency; the others are refused."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._in_flight = 0

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse above the limit; else measure."""
        if self._in_flight >= int(self._limit.value):
            return web.Response(status=503)
        loop = asyncio.get_running_loop()
        self._in_flight += 1
        in_flight, begin = self._in_flight, loop.time()
        try:
            return await handler(request)
        finally:
            self._in_flight -= 1
            self._limit.update(loop.time(), loop.time() - begin, in_flight)


def install(app: web.Application, settings: ServerSettings) -> None:
    """Put a policy in front of an application."""
    name = settings.policy
    if name.startswith("asyncmem"):
        from asyncmem.middleware.aiohttp import setup  # noqa: PLC0415 - the others run without it, at its size

        setup(app)
        return
    memory = CgroupMemory(Path(settings.cgroup))

    async def start(app: web.Application) -> AsyncIterator[None]:
        # Here and not before: what the process uses when it is about to serve is known only now.
        app[_CHOSEN].append(_make(name, settings, memory, app))
        yield
        memory.close()

    if name != "none":
        app[_CHOSEN] = []
        app.middlewares.append(_ask(app[_CHOSEN]))
        app.cleanup_ctx.append(start)


def report(app: web.Application) -> object:
    """What the runtime of asyncmem has to say of itself; None for other policies."""
    for key, value in app.items():
        if "asyncmem_runtime" in str(key):
            return value.statistics()
    return None


_CHOSEN: Final = web.AppKey("chosen", list[Policy])


def _ask(chosen: list[Policy]) -> Middleware:
    @web.middleware
    async def ask(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in FREE:
            return await handler(request)
        return await chosen[0](request, handler)

    return ask


def _make(name: str, settings: ServerSettings, memory: CgroupMemory, app: web.Application) -> Policy:
    if name.startswith("static-"):
        return Static(int(name.removeprefix("static-")))
    if name == "bytes-fixed":
        return Static(max(1, usable(settings, memory) // settings.mean_cost))
    if name == "clairvoyant":
        return Clairvoyant(settings, memory, app[LIVE])
    if name == "rss-0.8":
        return Refusing(memory)
    if name == "pause-0.8":
        return Pausing(memory)
    return Limited(Gradient() if name == "gradient" else Vegas())
