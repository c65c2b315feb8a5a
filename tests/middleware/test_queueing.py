"""Requests that wait for memory: clients that go away, and what waiting itself may take."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from asyncmem.admission import current_permit
from asyncmem.middleware.aiohttp import admission
from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.asyncio


async def test_a_client_that_left_the_queue_is_not_served(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """Its handler never starts, and its permit comes back."""
    b = bench()
    b.hold_all()
    client = await client_of(b)
    first, second = (asyncio.ensure_future(client.get("/hold")) for _ in range(2))
    await b.until(lambda: b.statistics.queued == 1)
    second.cancel()
    await b.until(lambda: all_have_gone(b))
    b.go_on.set()
    assert (await first).status == 200
    await b.until(lambda: b.in_flight == 0)
    assert len(b.permits) == 1


async def sampled(b: Any, condition: Callable[[], bool], seconds: float = 60.0) -> int:
    """Take a sample every 20 ms, as a watcher would, until the condition holds; returns how many that took."""
    samples = 0
    async with asyncio.timeout(seconds):
        while not condition():
            b.runtime.admission.sample()
            samples += 1
            await asyncio.sleep(0.02)
    return samples


def all_have_gone(b: Any) -> bool:
    """Whether the server has noticed that none of those that wait is there any more."""
    return all(waiter.is_abandoned() for waiter in b.runtime.admission._gate.queue)


async def connection(b: Any, head: str, body: bytes = b"") -> asyncio.StreamWriter:
    """A client that sends a request and never reads."""
    _, writer = await asyncio.open_connection("127.0.0.1", b.port)
    writer.write(f"{head}\r\nHost: x\r\n\r\n".encode() + body)
    return writer


async def test_the_place_of_a_client_that_went_away_is_given_up(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """Within some samples, though nothing is released; bytes that it took by waiting come back too."""
    b = bench()
    b.hold_all()
    client = await client_of(b)
    held = asyncio.ensure_future(client.get("/hold"))
    await b.entered.wait()
    writer = await connection(b, "POST /hold HTTP/1.1\r\nContent-Length: 100000", bytes(1000))
    await b.until(lambda: b.statistics.queued == 1)
    assert 100_000 <= b.statistics.queued_bytes < 200_000
    writer.transport.abort()
    assert await sampled(b, lambda: not b.statistics.queued) <= 25
    assert b.statistics.queued_bytes == 0
    assert b.statistics.rejected == {"abandoned": 1}
    b.go_on.set()
    assert (await held).status == 200
    await b.until(lambda: b.in_flight == 0)
    assert (b.statistics.reserved, len(b.permits)) == (0, 1)


async def test_a_queue_full_of_the_dead_lets_the_living_in(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """At once, and not only when somebody looks."""
    b = bench(max_queue=20)
    b.hold_all()
    client = await client_of(b)
    held = asyncio.ensure_future(client.get("/hold"))
    await b.entered.wait()
    writers = [await connection(b, "GET /hold HTTP/1.1") for _ in range(20)]
    await b.until(lambda: b.statistics.queued == 20)
    assert (await client.get("/hold")).status == 429
    for writer in writers:
        writer.transport.abort()
    await b.until(lambda: all_have_gone(b))
    b.runtime.admission._waiting._sweep_at = -math.inf  # however long the search took that came too early
    living = asyncio.ensure_future(client.get("/hold"))
    await b.until(lambda: b.statistics.queued == 1)
    b.go_on.set()
    assert [(await held).status, (await living).status] == [200, 200]
    await b.until(lambda: b.in_flight == 0)
    assert b.statistics.reserved == 0


async def test_waiting_itself_may_take_so_much_and_no_more(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """Uploads that wait unread hold buffers: of 1000 MiB an eighth may be held so, and then it is 429.

    Counted are the waiters' own figures; the real buffers are bounded by the server's.
    """
    b = bench(max_queue=100_000)
    b.hold_all()
    client = await client_of(b)
    held = asyncio.ensure_future(client.get("/hold"))
    await b.entered.wait()
    head = "POST /hold HTTP/1.1\r\nContent-Length: 10000000"
    writers = [await connection(b, head) for _ in range(320)]

    def refused() -> int:
        return int(b.statistics.rejected.get("queue_full", 0))

    await b.until(lambda: b.statistics.queued + refused() == 320)
    assert 112 * MIB < b.statistics.queued_bytes <= 125 * MIB
    assert refused() > 0
    response = await client.post("/hold", data=bytes(1_000_000))
    assert response.status == 429
    for writer in writers:
        writer.transport.abort()
    await sampled(b, lambda: not b.statistics.queued)
    assert b.statistics.queued_bytes == 0
    b.go_on.set()
    await held
    await b.until(lambda: b.in_flight == 0)
    assert b.statistics.reserved == 0


async def test_the_length_of_the_body_is_the_size(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """Costs are learned per size with nothing declared; a length that is not known has none."""
    b = bench()
    sizes: list[float] = []

    async def work(request: web.Request) -> web.Response:
        permit = current_permit.get()
        assert permit is not None
        sizes.append(permit.size)
        return web.Response(text=str(len(await request.read())))

    @admission(size=lambda request: float(request.query["n"]))
    async def items(request: web.Request) -> web.Response:
        return await work(request)

    async def stream() -> AsyncIterator[bytes]:
        yield b"of no known length"

    b.app.router.add_post("/", work)
    b.app.router.add_post("/items", items)
    b.guard()
    client = await client_of(b)
    await client.post("/", data=bytes(1234))
    await client.post("/", data=stream())
    await client.post("/")
    for number in ("12", "nan", "-1", "inf"):
        assert (await client.post("/items", params={"n": number}, data=bytes(99))).status == 200
    assert sizes == [1234, 0, 0, 12, 0, 0, 0]
