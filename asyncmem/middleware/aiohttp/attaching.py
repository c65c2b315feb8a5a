"""Puts admission, its runtime and its health routes into an application."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from asyncmem.errors import ConfigError
from asyncmem.health import HealthReport, readiness
from asyncmem.middleware.aiohttp.declaring import EXEMPT, Plans, checked
from asyncmem.middleware.aiohttp.fronting import place_in_front
from asyncmem.middleware.aiohttp.guarding import Guarding
from asyncmem.middleware.aiohttp.refusing import refuse
from asyncmem.runtime import MemoryRuntime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from asyncmem.admission import Priority
    from asyncmem.config import MemoryConfig
    from asyncmem.middleware.aiohttp.declaring import CostOf, PriorityOf, SizeOf
    from asyncmem.middleware.aiohttp.guarding import Refusal
    from asyncmem.reclaim import PressureActions

__all__ = ["RUNTIME", "add_health_routes", "setup"]

RUNTIME: Final = web.AppKey("asyncmem_runtime", MemoryRuntime)
"""Where an app keeps its runtime: ``request.app[RUNTIME]``, or ``request.config_dict[RUNTIME]`` in a sub-app."""


def setup(
    app: web.Application,
    config: MemoryConfig | None = None,
    *,
    cost: int | str | CostOf | None = None,
    priority: Priority | PriorityOf | None = None,
    size: SizeOf | None = None,
    exempt: Iterable[str] = EXEMPT,
    refusal: Refusal | None = None,
    runtime: MemoryRuntime | None = None,
    actions: PressureActions | None = None,
    on_critical: Callable[[], object] | None = None,
) -> MemoryRuntime:
    """Guard an application: all its routes, and those of its sub-applications.

    The limit is found, costs are learned per route; nothing needs to be told. Call it once, before the app runs.

    Args:
        app: The application. Its runtime starts and stops with it.
        config: Settings; None to read environment and file.
        cost: Bytes that a request needs, or a function of the request that says so (None: learned). A handler's own
            `admission` goes first.
        priority: The priority of requests, or a function of the request; the default is normal.
        size: A function of the request that gives the size of its input; None for the length of its body.
        exempt: Paths, with all below them, that are not guarded.
        refusal: Makes the answer to a refused request; the default is `refuse`.
        runtime: A runtime that is shared with other work and that the caller starts and stops; then `config` and
            `actions` are its.
        actions: What is done at each pressure level; None for the defaults.
        on_critical: Called when pressure becomes critical; see `MemoryRuntime.on_critical`. For a graceful shutdown
            there is `shutdown_on_critical`.

    Returns:
        The runtime: its `alerts`, `statistics` and `guard` are for the application to use.

    Raises:
        ConfigError: A setting is wrong, or the application is guarded already.
        LimitDiscoveryError: No limit could be read.
    """
    if RUNTIME in app:
        raise ConfigError("setup(app): this application is guarded already; call setup once")
    if runtime is not None and (config is not None or actions is not None):
        which = "actions" if config is None else "config"
        raise ConfigError(f"setup(app): got both {which} and runtime; a runtime has its settings already")
    memory = MemoryRuntime(config, actions=actions) if runtime is None else runtime
    if on_critical is not None:
        memory.on_critical(on_critical)
    plans = Plans(checked(cost, priority, None, size), exempt)
    guarding = Guarding(memory.admission, plans, refuse if refusal is None else refusal)
    app[RUNTIME] = memory
    place_in_front(app, guarding)
    if runtime is None:
        app.cleanup_ctx.insert(0, _running)
        app.on_shutdown.append(_close)
    return memory


def add_health_routes(app: web.Application, *, ready: Callable[[], str | None] | None = None) -> None:
    """Add ``GET /livez``, ``/readyz`` and its alias ``/healthz`` to a guarded application.

    Args:
        app: An application that `setup` guards.
        ready: The service's own check: None when ready, else the reason why not; it then answers 503.
    """

    async def livez(_request: web.Request) -> web.Response:
        return _health(HealthReport(status="ok"))

    async def readyz(request: web.Request) -> web.Response:
        return _health(readiness(request.config_dict[RUNTIME], ready))

    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/healthz", readyz)


async def _running(app: web.Application) -> AsyncIterator[None]:
    """Run the app's runtime in a task of its own.

    aiohttp may start and clean up an application from two different tasks (test fixtures do), and a task group must
    be left by the task that entered it.
    """
    loop = asyncio.get_running_loop()
    started: asyncio.Future[None] = loop.create_future()
    stop = asyncio.Event()

    async def host() -> None:
        try:
            async with app[RUNTIME]:
                started.set_result(None)
                await stop.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    task = loop.create_task(host(), name="asyncmem-runtime")
    try:
        await started
        yield
    finally:
        stop.set()
        await asyncio.shield(task)


async def _close(app: web.Application) -> None:
    """Refuse what waits: requests in flight are to end, and nothing new is to begin."""
    app[RUNTIME].admission.close()


def _health(report: HealthReport) -> web.Response:
    return web.json_response(
        {"status": report.status} | ({"reason": report.reason} if report.reason else {}), status=report.status_code
    )
