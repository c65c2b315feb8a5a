"""How long a request's permit lasts, over real sockets: until the answer is sent or the handler really ended.

Not here: how requests are refused (`test_refusing`), queue (`test_queueing`) and are cancelled (`test_evicting`).
"""

from __future__ import annotations

import asyncio
import collections
import gc
import weakref
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio


async def test_a_request_holds_a_permit_while_it_runs(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """Under the name of its route, not of its path; recorded when it is done."""
    b = bench()
    b.app.router.add_get("/items/{id}", b.hold)
    b.guard()
    client = await client_of(b)
    request = asyncio.ensure_future(client.get("/items/7"))
    await b.entered.wait()
    assert b.in_flight == 1
    assert b.permits[0].task_class == "GET /items/{id}"
    b.go_on.set()
    assert (await request).status == 200
    await b.until(lambda: b.in_flight == 0)
    assert b.statistics.admitted == 1
    assert list(b.statistics.task_classes) == ["GET /items/{id}"]


async def test_requests_wait_for_memory_and_are_served_in_order(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """Ten of 400 MiB under 900: two at a time."""
    b = bench()
    most = 0

    async def work(request: web.Request) -> web.Response:
        nonlocal most
        most = max(most, b.in_flight)
        await asyncio.sleep(0)
        return web.Response()

    b.app.router.add_get("/", work)
    b.guard(cost="400MiB")
    client = await client_of(b)
    responses = await asyncio.gather(*(client.get("/") for _ in range(10)))
    assert [response.status for response in responses] == [200] * 10
    assert most <= 2
    await b.until(lambda: b.in_flight == 0)


async def test_a_handler_that_raises_gives_back_and_teaches_nothing(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """500 to the client; an HTTP exception such as 404 is an answer and does teach."""
    b = bench()

    async def work(outcome: Exception) -> web.Response:
        b.memory.used += 50 * MIB
        for _ in range(3):
            await asyncio.sleep(0.005)
            b.runtime.admission.sample()
        b.memory.used -= 50 * MIB
        raise outcome

    async def fail(request: web.Request) -> web.Response:
        return await work(ValueError("broken"))

    async def answer(request: web.Request) -> web.Response:
        return await work(web.HTTPNotFound())

    b.app.router.add_get("/fail", fail)
    b.app.router.add_get("/answer", answer)
    b.guard()
    client = await client_of(b)
    assert (await client.get("/fail")).status == 500
    assert (await client.get("/answer")).status == 404
    await b.until(lambda: b.in_flight == 0)

    def taught() -> dict[str, int]:
        b.runtime.admission.sample()
        return {name: known.samples for name, known in b.statistics.task_classes.items()}

    await b.until(lambda: taught() == {"GET /fail": 0, "GET /answer": 1})


async def test_after_a_disconnect_the_permit_stays_until_the_handler_ends(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """The handler runs on, as aiohttp lets it, and its memory with it."""
    b = bench()
    b.app.router.add_get("/hold", b.hold)
    b.guard()
    client = await client_of(b)
    request = asyncio.ensure_future(client.get("/hold"))
    await b.entered.wait()
    request.cancel()
    await b.until(lambda: b.requests[0].transport is None)
    assert b.in_flight == 1
    b.go_on.set()
    await b.until(lambda: b.in_flight == 0)


async def test_the_permit_lasts_until_the_answer_is_sent(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """A slow reader of 32 MiB holds its permit after the handler has returned; then it reads, and the permit ends."""
    b = bench()
    returned = asyncio.Event()

    async def large(request: web.Request) -> web.Response:
        returned.set()
        return web.Response(body=bytes(32 * 2**20))

    b.app.router.add_get("/large", large)
    b.guard(cost="32MiB")
    await client_of(b)
    reader, writer = await asyncio.open_connection("127.0.0.1", b.port, limit=2**12)
    writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await returned.wait()
    await asyncio.sleep(0.1)
    assert b.in_flight == 1
    while await reader.read(2**20):
        pass
    await b.until(lambda: b.in_flight == 0)
    writer.close()


async def test_streamed_answers_hold_to_the_last_byte(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """And a file is sent under its permit too."""
    b = bench()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        b.entered.set()
        await b.go_on.wait()
        await response.write(b"last")
        return response

    async def file(request: web.Request) -> web.FileResponse:
        return web.FileResponse(__file__)

    b.app.router.add_get("/stream", stream)
    b.app.router.add_get("/file", file)
    b.guard()
    client = await client_of(b)
    response = await client.get("/stream")
    await b.entered.wait()
    assert b.in_flight == 1
    b.go_on.set()
    assert await response.read() == b"firstlast"
    assert (await client.get("/file")).status == 200
    await b.until(lambda: b.in_flight == 0)


async def test_a_websocket_holds_its_permit_while_it_is_open(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """And gives it back when it closes."""
    b = bench()

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(str(b.in_flight) + str(message.data))
        return socket

    b.app.router.add_get("/ws", echo)
    b.guard()
    client = await client_of(b)
    async with client.ws_connect("/ws") as socket:
        await socket.send_str("!")
        assert await socket.receive_str() == "1!"
    await b.until(lambda: b.in_flight == 0)


async def test_aiohttp_runs_each_request_in_a_task_of_its_own(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """The contract that permits end by: two requests of one connection, two tasks, and the task ends after the body."""
    b = bench()
    tasks: list[asyncio.Task[Any] | None] = []

    async def which(request: web.Request) -> web.Response:
        tasks.append(asyncio.current_task())
        return web.Response()

    b.app.router.add_get("/", which)
    b.guard()
    client = await client_of(b)
    await client.get("/")
    await client.get("/")
    assert tasks[0] is not tasks[1]


async def test_ten_thousand_requests_lose_no_permit(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """Some are refused, some raise, some are cut off: in the end nothing is reserved."""
    b = bench(max_queue=20, queue_timeout=0.2)

    async def mixed(request: web.Request) -> web.Response:
        number = int(request.query["n"])
        await asyncio.sleep(0)
        if number % 5 == 0:
            raise ValueError("every fifth")
        return web.Response(text="x" * (number % 3))

    b.app.router.add_get("/", mixed)
    b.guard(cost="200MiB")
    client = await client_of(b)
    ends: collections.Counter[int | str] = collections.Counter()

    async def one(number: int) -> None:
        request = asyncio.ensure_future(client.get("/", params={"n": str(number)}))
        if number % 7 == 0:
            await asyncio.sleep(0.001)
            request.cancel()
        try:
            response = await request
            await response.read()
            ends[response.status] += 1
        except (asyncio.CancelledError, aiohttp.ClientError):
            ends["cut off"] += 1

    for start in range(0, 10_000, 500):
        await asyncio.gather(*(one(number) for number in range(start, start + 500)))
    await b.until(lambda: b.in_flight == 0)
    statistics = b.statistics
    assert (statistics.reserved, statistics.queued) == (0, 0)
    refused = ends[429] + ends[503]
    assert min(ends[200], ends[500], refused, ends["cut off"]) > 0, ends
    assert ends[200] + ends[500] + refused + ends["cut off"] == 10_000, ends
    assert ends[200] + ends[500] <= statistics.admitted <= 10_000 - refused


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/small", "/large", "/wrong"])
async def test_an_answer_is_freed_when_it_was_sent(
    bench: Callable[..., Any], client_of: Callable[..., Any], method: str, path: str
) -> None:
    """At once, and not when the collector comes: a cycle through the permit kept 36 answers of 12 MiB."""
    b = bench()
    tasks: list[weakref.ref[Any]] = []

    async def answer(request: web.Request) -> web.Response:
        tasks.append(weakref.ref(asyncio.current_task()))  # its result is the answer
        if request.path == "/wrong":
            raise web.HTTPBadRequest
        return web.Response(body=bytes(MIB if request.path == "/large" else 10))

    b.app.router.add_route("*", path, answer)
    b.guard()
    client = await client_of(b)
    gc.disable()
    try:
        for _ in range(3):
            async with client.request(method, path, headers={"Connection": "close"}) as response:
                await response.read()
        await b.until(lambda: b.in_flight == 0)
        assert len(tasks) == 3
        await b.until(lambda: not any(task() is not None for task in tasks))
    finally:
        gc.enable()
