"""Requests that are cancelled because memory has run short, on memory that is set by hand.

Under a real limit: `tests/survival/test_emergency_http.py`.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from asyncmem.middleware.aiohttp import admission
from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio


class Held:
    """Stands for memory that a handler holds."""


class Greedy:
    """An app with handlers that hold memory until they are ended, and one request beside them."""

    def __init__(self, b: Any) -> None:
        self.b = b
        self.held: list[weakref.ref[Held]] = []
        self.kept: list[BaseException] = []
        self.running: set[str] = set()
        for method in ("GET", "POST"):
            b.app.router.add_route(method, "/greedy", self.greedy)
        b.app.router.add_post("/declared", self.declared)
        b.app.router.add_get("/precious", self.precious)
        b.app.router.add_get("/begun", self.begun)
        b.app.router.add_get("/prepared", self.prepared)
        b.app.router.add_get("/hold", b.hold)
        b.guard(cost="200MiB")

    async def greedy(self, request: web.Request) -> web.Response:
        """Hold something for ever; its error is kept by somebody, traceback and all."""
        held = Held()
        self.held.append(weakref.ref(held))
        self.running.add(request.path)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            self.kept.append(error)
            raise
        finally:
            self.running.discard(request.path)
        return web.Response()

    @admission(cancellable=True)
    async def declared(self, request: web.Request) -> web.Response:
        """The same, declared to be safe to repeat."""
        return await self.greedy(request)

    @admission(cancellable=False)
    async def precious(self, request: web.Request) -> web.Response:
        """The same, declared not to be."""
        self.running.add(request.path)
        await self.b.go_on.wait()
        return web.Response()

    async def begun(self, request: web.Request) -> web.StreamResponse:
        """The same, after the answer has begun."""
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x")
        return await self.greedy(request)

    async def prepared(self, request: web.Request) -> web.StreamResponse:
        """The same, when the answer was prepared and nothing of its body written."""
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        return await self.greedy(request)

    async def run_short(self) -> None:
        """Fill the memory until somebody is told to end, and empty it again; ten samples at most."""
        admission_ = self.b.runtime.admission
        self.b.memory.used = 500 * MIB
        admission_.sample()
        self.b.memory.used = 990 * MIB
        for _ in range(10):
            admission_.sample()
            await asyncio.sleep(0.025)
        self.b.memory.used = 100 * MIB

    async def beside(self, client: Any) -> asyncio.Future[Any]:
        """A POST that waits, so that nobody is alone."""
        self.b.entered.clear()
        held: asyncio.Future[Any] = asyncio.ensure_future(client.get("/precious"))
        await self.b.until(lambda: "/precious" in self.running)
        return held


@pytest.fixture
def greedy(bench: Callable[..., Any]) -> Greedy:
    """An app on 1000 MiB with a guard band of 100."""
    return Greedy(bench(guard_band="100MiB"))


async def test_a_get_gets_503_and_its_memory_is_free(greedy: Greedy, client_of: Callable[..., Any]) -> None:
    """Though somebody keeps the error with its traceback. The connection lives, and so does the other request."""
    b, client = greedy.b, await client_of(greedy.b)
    beside = await greedy.beside(client)
    request = asyncio.ensure_future(client.get("/greedy"))
    await b.until(lambda: "/greedy" in greedy.running)
    await greedy.run_short()
    response = await request
    assert response.status == 503
    assert "Retry-After" in response.headers
    assert (await response.json(content_type=None))["reason"] == "evicted"
    assert len(greedy.kept) == 1
    assert greedy.held[0]() is None, "the kept traceback holds the memory"
    assert not beside.done()
    b.go_on.set()
    assert (await beside).status == 200
    await b.until(lambda: b.in_flight == 0)
    state = b.statistics
    assert (state.evicted, state.reserved, state.rejected) == (1, 0, {"evicted": 1})
    assert (await client.get("/livez")).status == 200


async def test_a_post_is_not_cancelled_unless_it_is_declared(greedy: Greedy, client_of: Callable[..., Any]) -> None:
    """Nor a GET that is declared not to be: a repeat might do harm."""
    b, client = greedy.b, await client_of(greedy.b)
    beside = await greedy.beside(client)
    post = asyncio.ensure_future(client.post("/greedy"))
    await b.until(lambda: "/greedy" in greedy.running)
    await greedy.run_short()
    assert not post.done()
    assert b.statistics.evicted == 0
    declared = asyncio.ensure_future(client.post("/declared"))
    await b.until(lambda: "/declared" in greedy.running)
    await greedy.run_short()
    assert (await declared).status == 503
    assert not post.done()
    assert not beside.done()
    post.cancel()
    b.go_on.set()
    await beside


@pytest.mark.parametrize("path", ["/begun", "/prepared"])
async def test_an_answer_that_had_begun_is_broken_off(greedy: Greedy, client_of: Callable[..., Any], path: str) -> None:
    """The client sees that it is broken, and not a short answer that looks whole; also when only its head was sent."""
    b, client = greedy.b, await client_of(greedy.b)
    beside = await greedy.beside(client)
    response = await client.get(path)
    await b.until(lambda: path in greedy.running)
    assert response.status == 200
    await greedy.run_short()
    with pytest.raises(aiohttp.ClientError):
        await response.read()
    b.go_on.set()
    await beside
    await b.until(lambda: b.in_flight == 0)
    assert b.statistics.evicted == 1


async def test_a_request_that_ended_meanwhile_is_left_alone(greedy: Greedy, client_of: Callable[..., Any]) -> None:
    """Told to end when its answer was on its way: the next one on that connection is not cancelled for it."""
    b, client = greedy.b, await client_of(greedy.b)
    first = asyncio.ensure_future(client.get("/hold"))
    await b.entered.wait()
    permit, canceller = b.permits[0], b.permits[0].canceller
    b.go_on.set()
    assert (await first).status == 200
    canceller.cancel(permit)
    assert (await client.get("/hold")).status == 200
    canceller.cancel(permit)
    canceller.cancel(b.permits[1])
    await asyncio.sleep(0)
    assert (await client.get("/hold")).status == 200


async def test_evicted_behind_a_client_that_went_away(greedy: Greedy, client_of: Callable[..., Any]) -> None:
    """There is nobody to answer, and every byte comes back."""
    b, client = greedy.b, await client_of(greedy.b)
    beside = await greedy.beside(client)
    request = asyncio.ensure_future(client.get("/greedy"))
    await b.until(lambda: "/greedy" in greedy.running)
    request.cancel()
    await asyncio.sleep(0.05)
    assert b.in_flight == 2
    await greedy.run_short()
    b.go_on.set()
    await beside
    await b.until(lambda: b.in_flight == 0)
    assert b.statistics.reserved == 0
