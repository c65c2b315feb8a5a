"""How admission is put in front of an application, and how the runtime lives with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from asyncmem import AlertLevel, ConfigError, MemoryConfig
from asyncmem.middleware.aiohttp import RUNTIME, admission, memory_middleware, setup

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio


async def test_health_needs_no_memory(bench: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    """Exempt routes are answered while everything is taken, and 404 costs nothing."""
    b = bench()
    b.hold_all()
    client = await client_of(b)
    held = asyncio.ensure_future(client.get("/hold"))
    await b.entered.wait()
    for path, status in (("/livez", 200), ("/readyz", 200), ("/healthz", 200), ("/nowhere", 404)):
        assert (await client.get(path)).status == status
    assert (await client.put("/hold")).status == 405
    b.go_on.set()
    await held


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


async def test_an_app_beyond_its_limit_serves_all_the_same(
    bench: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    """A real process under a limit of 1 MiB: it warns, raises a CRITICAL alert, and serves one request at a time."""
    b = bench()
    side_by_side = 0

    @admission(cancellable=False)  # beyond its limit, a look of the watcher in the midst of it would end it
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
    assert AlertLevel.CRITICAL in {alert.level for alert in memory.alerts.active if alert.rule == "percent"}
    assert "memory_limit_too_small" in {log["event"] for log in logs}


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
