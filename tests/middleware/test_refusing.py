"""What a refused request is told, over real sockets."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from asyncmem import Priority
from asyncmem.middleware.aiohttp import admission

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio


async def refused(b: Any, client: Any, **request: Any) -> Any:
    """The answer to a request beside one that holds all there is."""
    first = asyncio.ensure_future(client.get("/hold"))
    await b.entered.wait()
    response = await client.post("/hold", **request)
    await response.read()
    b.go_on.set()
    await first
    await b.until(lambda: b.in_flight == 0)
    return response


async def test_short_memory_is_a_503_problem(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """With Retry-After in seconds and milliseconds, and nothing said of the process's figures."""
    b = bench(queue_timeout=0.05)
    b.hold_all()
    response = await refused(b, await client_of(b))
    assert response.status == 503
    assert response.content_type == "application/problem+json"
    assert int(response.headers["Retry-After"]) >= 1
    assert int(response.headers["retry-after-ms"]) >= 1000
    problem = await response.json(content_type=None)
    assert problem["type"] == "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
    assert (problem["status"], problem["reason"]) == (503, "memory")
    assert "MiB" not in problem["detail"]


async def test_a_full_queue_is_a_429_problem(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """Of the type quota-exceeded."""
    b = bench(max_queue=1)
    b.hold_all()
    client = await client_of(b)
    first, second = (asyncio.ensure_future(client.get("/hold")) for _ in range(2))
    await b.until(lambda: b.statistics.queued == 1)
    response = await client.get("/hold")
    assert response.status == 429
    assert "Retry-After" in response.headers
    assert (await response.json(content_type=None))["type"].endswith("#quota-exceeded")
    b.go_on.set()
    assert [(await r).status for r in (first, second)] == [200, 200]


async def test_what_never_fits_is_a_413_without_retry(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """By a cost that depends on the request."""
    b = bench()
    b.go_on.set()
    b.app.router.add_post("/hold", b.hold)
    b.guard(cost=lambda request: 100 * (request.content_length or 0))
    client = await client_of(b)
    assert (await client.post("/hold", data=b"x" * 1000)).status == 200
    response = await client.post("/hold", data=io.BytesIO(b"x" * 10_000_000))
    assert response.status == 413
    assert "Retry-After" not in response.headers
    assert response.headers["Connection"] == "close"


async def test_a_handlers_own_declaration_goes_first(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """Cost, priority and deadline by decorator, over what `setup` says."""
    b = bench()
    b.go_on.set()

    @admission(cost="7MiB", priority=Priority.HIGH, deadline=0.05)
    async def special(request: web.Request) -> web.Response:
        return await b.hold(request)  # type: ignore[no-any-return]

    b.app.router.add_get("/special", special)
    b.app.router.add_get("/hold", b.hold)
    b.guard(cost="900MiB", priority=lambda _request: Priority.LOW)
    client = await client_of(b)
    assert (await client.get("/special")).status == 200
    assert (await client.get("/hold")).status == 200
    assert [(p.reserved, p.priority) for p in b.permits] == [
        (7 * 2**20, Priority.HIGH),
        (900 * 2**20, Priority.LOW),
    ]
    b.go_on.clear()
    b.entered.clear()
    held = asyncio.ensure_future(client.get("/hold"))
    await b.entered.wait()
    late = await client.get("/special")
    assert (await late.json(content_type=None))["reason"] == "deadline"
    b.go_on.set()
    await held


async def test_a_refusal_inside_a_handler_is_a_refusal(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """A guard of the handler's own that is refused gives the same answer as one in front of it, and no 500."""
    b = bench()

    async def work(request: web.Request) -> web.Response:
        async with b.runtime.guard("inside", cost="2000MiB"):
            return web.Response()

    b.app.router.add_get("/", work)
    b.guard()
    client = await client_of(b)
    response = await client.get("/")
    assert (response.status, (await response.json(content_type=None))["reason"]) == (413, "too_large")
    await b.until(lambda: b.in_flight == 0)


async def test_a_refusal_can_be_shaped(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """By a function of the request and the rejection."""
    b = bench(queue_timeout=0.05)
    b.hold_all(refusal=lambda _request, rejection: web.Response(status=rejection.status_code, text="busy"))
    response = await refused(b, await client_of(b), data=b"x")
    assert (response.status, await response.text()) == (503, "busy")


@pytest.mark.parametrize(
    ("worked_out", "status"), [(1.5 * 2**20, 200), (float("inf"), 200), (None, 200), ("3MiB", 200), (2**70, 413)]
)
async def test_a_cost_that_is_worked_out_may_be_odd(
    bench: Callable[..., Any], client_of: Callable[..., Any], worked_out: Any, status: int
) -> None:
    """A fraction is cut, what has no end is learned, and what a made-up length leads to is too large."""
    b = bench()
    b.go_on.set()
    b.app.router.add_get("/", b.hold)
    b.guard(cost=lambda _request: worked_out, priority=lambda _request: None)
    client = await client_of(b)
    assert (await client.get("/")).status == status
