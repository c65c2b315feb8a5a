"""The aiohttp adapter over real sockets: who is admitted, what a refusal looks like, that every permit comes back."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from asyncmem import AlertLevel, ConfigError, MemoryConfig, Priority
from asyncmem.middleware.aiohttp import RUNTIME, admission, memory_middleware, setup

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
    assert b.runtime.admission.statistics().task_classes["GET /items/{id}"].samples == 1


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


def hold_all(b: Any, **options: Any) -> None:
    """An app whose one handler takes all memory."""
    b.app.router.add_get("/hold", b.hold)
    b.app.router.add_post("/hold", b.hold)
    b.guard(cost="900MiB", **options)


async def test_short_memory_is_a_503_problem(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """With Retry-After in seconds and milliseconds, and nothing said of the process's figures."""
    b = bench(queue_timeout=0.05)
    hold_all(b)
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
    hold_all(b)
    client = await client_of(b)
    first, second = (asyncio.ensure_future(client.get("/hold")) for _ in range(2))
    await b.until(lambda: b.runtime.admission.statistics().queued == 1)
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


async def test_health_needs_no_memory(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """Exempt routes are answered while everything is taken, and 404 costs nothing."""
    b = bench()
    hold_all(b)
    client = await client_of(b)
    held = asyncio.ensure_future(client.get("/hold"))
    await b.entered.wait()
    for path, status in (("/livez", 200), ("/readyz", 200), ("/healthz", 200), ("/nowhere", 404)):
        assert (await client.get(path)).status == status
    assert (await client.put("/hold")).status == 405
    b.go_on.set()
    await held


async def test_a_handler_that_raises_gives_back_and_teaches_nothing(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """500 to the client; an HTTP exception such as 404 is an answer and does teach."""
    b = bench()

    async def fail(request: web.Request) -> web.Response:
        raise ValueError("broken")

    async def answer(request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    b.app.router.add_get("/fail", fail)
    b.app.router.add_get("/answer", answer)
    b.guard()
    client = await client_of(b)
    assert (await client.get("/fail")).status == 500
    assert (await client.get("/answer")).status == 404
    await b.until(lambda: b.in_flight == 0)
    assert list(b.runtime.admission.statistics().task_classes) == ["GET /answer"]


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
    await asyncio.sleep(0.05)
    assert b.in_flight == 1
    b.go_on.set()
    await b.until(lambda: b.in_flight == 0)


async def test_a_client_that_left_the_queue_is_not_served(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """Its handler never starts, and its permit comes back."""
    b = bench()
    hold_all(b)
    client = await client_of(b)
    first, second = (asyncio.ensure_future(client.get("/hold")) for _ in range(2))
    await b.until(lambda: b.runtime.admission.statistics().queued == 1)
    second.cancel()
    await asyncio.sleep(0.05)
    b.go_on.set()
    assert (await first).status == 200
    await b.until(lambda: b.in_flight == 0)
    assert len(b.permits) == 1


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


async def test_sub_applications_are_guarded_with_their_parent(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """And find the runtime through `config_dict`."""
    b = bench()
    b.go_on.set()
    sub = web.Application()

    async def inner(request: web.Request) -> web.Response:
        assert request.config_dict[RUNTIME] is b.runtime
        return await b.hold(request)  # type: ignore[no-any-return]

    sub.router.add_get("/inner", inner)
    b.app.add_subapp("/sub", sub)
    b.guard()
    client = await client_of(b)
    assert (await client.get("/sub/inner")).status == 200
    assert b.permits[0].task_class == "GET /sub/inner"


async def test_shutting_down_refuses_those_that_wait(bench: Callable[..., Any], aiohttp_server: Any) -> None:
    """The queue is answered with 503 at once, work in flight ends, and every permit is back."""
    b = bench()
    b.app.router.add_get("/hold", b.hold)
    setup(b.app, MemoryConfig(limit="1GiB", log_alerts=False), cost="900MiB")
    runtime = b.app[RUNTIME]
    server = await aiohttp_server(b.app, shutdown_timeout=5.0)
    async with aiohttp.ClientSession() as session:
        first, second = (asyncio.ensure_future(session.get(server.make_url("/hold"))) for _ in range(2))
        await b.until(lambda: runtime.admission.statistics().queued == 1)
        stopping = asyncio.ensure_future(server.close())
        assert (await second).status == 503
        assert not runtime.is_running
        b.go_on.set()
        assert (await first).status == 200
        await stopping
    assert runtime.admission.statistics().in_flight == 0
    assert not runtime.is_running


async def test_an_app_owns_its_runtime(aiohttp_client: Any) -> None:
    """With `setup` alone it starts and stops with the app, though aiohttp does that from different tasks."""
    app = web.Application()
    memory = setup(app, MemoryConfig(limit="4GiB", log_alerts=False))

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=str(request.app[RUNTIME] is memory))

    app.router.add_get("/", hello)
    client = await aiohttp_client(app)
    assert await (await client.get("/")).text() == "True"
    assert memory.is_running
    await client.close()
    assert not memory.is_running


async def test_an_app_whose_runtime_cannot_start_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason itself, and without a task that stays behind."""
    app = web.Application()
    memory = setup(app, MemoryConfig(limit="4GiB", log_alerts=False))

    def start() -> None:
        raise OSError("no memory can be read")

    monkeypatch.setattr(memory, "start", start)
    before = asyncio.all_tasks()
    runner = web.AppRunner(app)
    with pytest.raises(OSError, match="no memory can be read"):
        await runner.setup()
    await runner.cleanup()
    assert asyncio.all_tasks() == before
    assert not memory.is_running


async def test_exempting_the_root_exempts_nothing_below_it(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """The root's own page needs no permit, everything else does; a slash at the end of a path changes nothing."""
    b = bench()
    b.go_on.set()

    async def open_to_all(request: web.Request) -> web.Response:
        return web.Response(text=str(b.in_flight))

    for path in ("/", "/static/x", "/guarded"):
        b.app.router.add_get(path, open_to_all)
    b.guard(exempt=["/", "/static/"])
    client = await client_of(b)
    answers = [await (await client.get(path)).text() for path in ("/", "/static/x", "/guarded")]
    assert answers == ["0", "0", "1"]


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


async def test_an_app_beyond_its_limit_serves_all_the_same(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """A real process under a limit of 1 MiB: it warns, raises a CRITICAL alert, and serves one request at a time."""
    b = bench()
    side_by_side = 0

    async def work(request: web.Request) -> web.Response:
        nonlocal side_by_side
        side_by_side = max(side_by_side, b.app[RUNTIME].statistics().admission.in_flight)
        await asyncio.sleep(0)
        return web.Response()

    b.app.router.add_get("/", work)
    with capture_logs() as logs:
        memory = setup(b.app, MemoryConfig(limit="1MiB"))
        client = await client_of(b)
        responses = await asyncio.gather(*(client.get("/") for _ in range(20)))
    assert {response.status for response in responses} == {200}
    assert side_by_side == 1
    assert [alert.level for alert in memory.alerts.active] == [AlertLevel.CRITICAL]
    assert "memory_limit_too_small" in {log["event"] for log in logs}


async def test_a_refusal_can_be_shaped(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """By a function of the request and the rejection."""
    b = bench(queue_timeout=0.05)
    hold_all(b, refusal=lambda _request, rejection: web.Response(status=rejection.status_code, text="busy"))
    response = await refused(b, await client_of(b), data=b"x")
    assert (response.status, await response.text()) == (503, "busy")


async def test_wrong_use_is_refused(bench: Callable[..., Any]) -> None:
    """Twice the same app, two sources of settings, and values that cannot be."""
    b = bench()
    b.guard()
    with pytest.raises(ConfigError, match="guarded already"):
        setup(b.app)
    with pytest.raises(ConfigError, match="both config and runtime"):
        setup(web.Application(), MemoryConfig(), runtime=b.runtime)
    with pytest.raises(ConfigError, match="no number of bytes"):
        setup(web.Application(), runtime=b.runtime, cost="lots")
    with pytest.raises(ConfigError, match="Priority"):
        memory_middleware(b.runtime, priority=9)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="list of paths"):
        memory_middleware(b.runtime, exempt="/livez")
    with pytest.raises(ConfigError, match="deadline"):
        admission(deadline=-1)


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
    b = bench(max_queue=50, queue_timeout=0.2)

    async def mixed(request: web.Request) -> web.Response:
        number = int(request.query["n"])
        await asyncio.sleep(0)
        if number % 5 == 0:
            raise ValueError("every fifth")
        return web.Response(text="x" * (number % 3))

    b.app.router.add_get("/", mixed)
    b.guard(cost="200MiB")
    client = await client_of(b)

    async def one(number: int) -> None:
        request = asyncio.ensure_future(client.get("/", params={"n": str(number)}))
        if number % 7 == 0:
            await asyncio.sleep(0.001)
            request.cancel()
        try:
            response = await request
            await response.read()
        except (asyncio.CancelledError, aiohttp.ClientError):
            pass

    for start in range(0, 10_000, 500):
        await asyncio.gather(*(one(number) for number in range(start, start + 500)))
    await b.until(lambda: b.in_flight == 0)
    statistics = b.runtime.admission.statistics()
    assert (statistics.reserved, statistics.queued) == (0, 0)
    assert statistics.admitted > 1000
