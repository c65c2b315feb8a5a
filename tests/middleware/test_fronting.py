"""In front of everything: both ways in behave alike, and a refusal comes before the client sends its body."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import AbstractRoute

from asyncmem.admission import current_permit
from asyncmem.middleware.aiohttp import RUNTIME, admission, setup

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aiohttp.typedefs import Handler

pytestmark = pytest.mark.asyncio

WAYS = pytest.mark.parametrize("another_middleware", [False, True], ids=["alone", "in a chain"])


@web.middleware
async def another(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Another middleware, so that the chain of them has to run."""
    response = await handler(request)
    response.headers["X-Another"] = "yes"
    return response


async def talk(port: int, head: str, body: bytes = b"", *, seconds: float = 60.0) -> tuple[list[str], float]:
    """Send a request as it is, its body only after ``100 Continue``; returns the status lines and the seconds."""
    begin = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines: list[str] = []
    try:
        async with asyncio.timeout(seconds):
            writer.write(f"{head}\r\nHost: x\r\n".encode() + b"Connection: close\r\n\r\n")
            while line := await reader.readline():
                if line.startswith(b"HTTP/1.1"):
                    lines.append(line.decode().split()[1])
                    if lines[-1] != "100":
                        break
                    writer.write(body)
    finally:
        writer.close()
    return lines, time.monotonic() - begin


@WAYS
async def test_everything_that_is_routed_is_guarded_once(
    bench: Callable[..., Any], client_of: Callable[..., Any], another_middleware: bool, tmp_path: Path
) -> None:
    """Functions, methods, views, sub-applications at any depth, static files; each under one permit, declarations held.

    Exempt routes and routes that do not exist are under none, and HTTP exceptions are answers.
    """
    b = bench()
    seen: dict[str, tuple[int, int]] = {}

    def note(request: web.Request) -> web.Response:
        permit = current_permit.get()
        seen[request.path] = b.in_flight, 0 if permit is None else permit.reserved
        assert request.config_dict[RUNTIME] is b.runtime
        return web.Response(text="fine")

    async def plain(request: web.Request) -> web.Response:
        return note(request)

    @admission(cost="7MiB")
    async def declared(request: web.Request) -> web.Response:
        return note(request)

    class Shelf:
        async def method(self, request: web.Request) -> web.Response:
            return note(request)

    @admission(cost="9MiB")
    class View(web.View):
        async def get(self) -> web.Response:
            return note(self.request)

        async def post(self) -> web.Response:
            assert await self.request.read() == b"body"
            return note(self.request)

    async def moved(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/plain")

    (tmp_path / "file.txt").write_text("from a file")
    inner, sub = web.Application(), web.Application()
    inner.router.add_get("/deep", plain)
    sub.router.add_get("/one", declared)
    sub.add_subapp("/inner", inner)
    b.app.add_routes(
        [
            web.get("/plain", plain),
            web.get("/declared", declared),
            web.get("/method", Shelf().method),
            web.view("/view", View),
            web.get("/moved", moved),
            web.get("/metrics", plain),
            web.route("*", "/any", plain),
            web.static("/static", tmp_path),
        ]
    )
    b.app.add_subapp("/sub", sub)
    b.guard(cost="5MiB")
    if another_middleware:
        b.app.middlewares.append(another)
    client = await client_of(b)
    mib = 2**20
    for path, expected in {
        "/plain": (1, 5 * mib),
        "/declared": (1, 7 * mib),
        "/method": (1, 5 * mib),
        "/view": (1, 9 * mib),
        "/any": (1, 5 * mib),
        "/sub/one": (1, 7 * mib),
        "/sub/inner/deep": (1, 5 * mib),
        "/metrics": (0, 0),
    }.items():
        response = await client.get(path)
        assert (response.status, await response.text(), seen.pop(path)) == (200, "fine", expected), path
        assert ("X-Another" in response.headers) == another_middleware
        await b.until(lambda: b.in_flight == 0)
    assert (await client.post("/view", data=b"body")).status == 200
    assert (await client.head("/plain")).status == 200
    assert (await client.get("/moved", allow_redirects=False)).status == 302
    assert await (await client.get("/static/file.txt")).text() == "from a file"
    admitted = b.statistics.admitted
    assert (await client.get("/nowhere")).status == 404
    assert (await client.delete("/plain")).status == 405
    assert b.statistics.admitted == admitted == 11
    await b.until(lambda: b.in_flight == 0)
    assert b.statistics.reserved == 0
    assert set(b.statistics.task_classes) >= {"GET /plain", "* /any", "GET /sub/inner/deep", "GET /static"}


async def test_exempt_routes_are_not_touched(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """Their handler is the very one that was given, and an app that stands alone runs without the chain."""
    b = bench()

    async def plain(request: web.Request) -> web.Response:
        return web.Response()

    b.app.router.add_get("/metrics", plain)
    b.app.router.add_get("/plain", plain)
    b.guard()
    client = await client_of(b)
    handlers = {route.resource.canonical: route.handler for route in b.app.router.routes() if route.method == "GET"}
    assert handlers["/metrics"] is plain
    assert handlers["/plain"] is not plain
    assert (await client.get("/plain")).status == 200
    assert b.statistics.admitted == 1


@WAYS
async def test_a_guarded_sub_application_of_one_that_is_not(
    bench: Callable[..., Any], client_of: Callable[..., Any], another_middleware: bool
) -> None:
    """Guards its own routes, once, and nothing of its parent."""
    b = bench(queue_timeout=2.0)
    parent, counts = web.Application(), {}

    async def count(request: web.Request) -> web.Response:
        counts[request.path] = b.in_flight
        return web.Response()

    b.app.router.add_get("/x", count)
    b.app.router.add_post("/x", count)
    b.guard()
    guarded, b.app = b.app, parent
    if another_middleware:
        parent.middlewares.append(another)
    parent.add_subapp("/sub", guarded)
    parent.router.add_get("/y", count)
    client = await client_of(b)
    for path in ("/sub/x", "/y"):
        assert (await client.get(path)).status == 200
    assert counts == {"/sub/x": 1, "/y": 0}
    assert (await client.post("/sub/x", data=b"x", expect100=True)).status == 200
    assert counts["/sub/x"] == 1


@WAYS
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_a_request_that_asks_first_is_served_under_one_permit(
    bench: Callable[..., Any], client_of: Callable[..., Any], another_middleware: bool, method: str
) -> None:
    """With ``Expect: 100-continue``: it does not wait behind itself, whatever its method."""
    b = bench(queue_timeout=1.0)
    counts = []

    async def read(request: web.Request) -> web.Response:
        counts.append((b.in_flight, len(await request.read())))
        return web.Response()

    b.app.router.add_route(method, "/", read)
    b.guard()
    if another_middleware:
        b.app.middlewares.append(another)
    await client_of(b)
    head = f"{method} / HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue"
    assert (await talk(b.port, head, b"body"))[0] == ["100", "200"]
    assert counts == [(1, 4)]
    await b.until(lambda: b.in_flight == 0)
    assert (b.statistics.reserved, b.statistics.rejected) == (0, {})


@WAYS
async def test_a_refusal_comes_before_the_body_is_asked_for(
    bench: Callable[..., Any], client_of: Callable[..., Any], another_middleware: bool
) -> None:
    """No ``100 Continue`` before 413 and 503: not a byte of the upload is sent."""
    b = bench(queue_timeout=0.05)
    b.hold_all()

    @admission(cost="2GiB")
    async def large(_request: web.Request) -> web.Response:
        raise AssertionError

    b.app.router.add_post("/large", large)
    if another_middleware:
        b.app.middlewares.append(another)
    client = await client_of(b)
    held = asyncio.ensure_future(client.get("/hold"))
    await b.entered.wait()
    for path, status in (("/large", "413"), ("/hold", "503")):
        head = f"POST {path} HTTP/1.1\r\nContent-Length: 1000000\r\nExpect: 100-continue"
        lines, seconds = await talk(b.port, head)
        assert lines == [status]
        assert seconds < 9, "as long as aiohttp reads on through a body"
    b.go_on.set()
    await held
    await b.until(lambda: b.in_flight == 0)
    assert b.statistics.reserved == 0


async def test_an_apps_own_answer_to_those_that_ask_is_kept(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """It is asked after admission has said yes; where it refuses, the permit comes back."""
    b = bench()
    asked: list[int] = []

    async def expect(request: web.Request) -> web.StreamResponse | None:
        asked.append(b.in_flight)
        if request.headers[hdrs.EXPECT] != "100-continue":
            raise web.HTTPExpectationFailed(text="what?")
        request.writer.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # type: ignore[union-attr]
        return None

    async def read(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    b.app.router.add_post("/", read, expect_handler=expect)
    b.guard()
    await client_of(b)
    head = "POST / HTTP/1.1\r\nContent-Length: 4\r\nExpect: "
    assert (await talk(b.port, head + "100-continue", b"body"))[0] == ["100", "200"]
    assert (await talk(b.port, head + "tea"))[0] == ["417"]
    assert asked == [1, 1]
    await b.until(lambda: b.in_flight == 0)
    assert b.statistics.reserved == 0


async def test_an_app_that_is_started_twice_is_guarded_once(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """Tests do that, with a runtime that they share."""
    b = bench()
    counts: list[int] = []

    async def count(request: web.Request) -> web.Response:
        await request.read()
        counts.append(b.in_flight)
        return web.Response()

    b.app.router.add_post("/", count)
    setup(b.app, runtime=b.runtime, cost="1MiB")
    b.runtime.start()
    try:
        for _ in range(2):
            client = await client_of(b)
            assert (await client.post("/", data=b"x", expect100=True)).status == 200
            assert (await client.post("/", data=b"x")).status == 200
    finally:
        await asyncio.to_thread(b.runtime.stop)
    assert counts == [1] * 4


async def test_the_connection_of_a_refused_upload_is_closed_soon(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """Of itself, aiohttp reads on through the body for up to ten seconds after an early answer: about one second here.

    The client reads the whole answer all the same, though it goes on sending.
    """
    b = bench(queue_timeout=0.05)
    b.hold_all()
    client = await client_of(b)
    held = asyncio.ensure_future(client.get("/hold"))
    await b.entered.wait()
    reader, writer = await asyncio.open_connection("127.0.0.1", b.port)
    writer.write(b"POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + bytes(65536))
    begin = time.monotonic()
    answer = b""
    async with asyncio.timeout(60):
        while part := await reader.read(65536):
            answer += part
            assert b"503" in answer.split(b"\r\n")[0]
            writer.write(bytes(4096))  # and on and on
    assert 0.5 < time.monotonic() - begin < 9
    assert answer.endswith(b"}")
    assert b"connection: close" in answer.lower()
    writer.close()
    b.go_on.set()
    await held


async def test_aiohttp_has_the_private_names_that_fronting_uses() -> None:
    """Where one is gone, requests go through the chain of middlewares, and this says so."""
    app = web.Application()
    assert hasattr(app, "_run_middlewares")
    assert app._subapps == []
    assert {"_run_middlewares", "_subapps"} <= web.Application.ATTRS
    assert {"_handler", "_expect_handler"} <= set(inspect.getsource(AbstractRoute).replace(".", " ").split())
    assert "self._run_middlewares" in inspect.getsource(web.Application._handle)
    assert "expect_handler" in inspect.getsource(web.Application._handle)
