"""Admission in front of an `aiohttp.web` application: one call guards it.

::

    app = web.Application()
    app.router.add_post("/resize", resize)
    setup(app)

Each request reserves memory before its handler runs, waits for it, or is refused with 503, 429 or 413. The permit
lasts until the answer has been sent: aiohttp runs each request in a task of its own that ends after the last byte was
handed to the kernel, after the handler *really* ended behind a client that went away, or when the server shuts down,
and the permit ends with that task. WebSockets hold theirs as long as they are open.

Routes that do not exist (404, 405) cost nothing and are not guarded. A refusal before the body was read closes the
connection; aiohttp goes on reading the upload for up to its `lingering_time` (10 s), so that the client sees the
answer.
"""

from __future__ import annotations

import asyncio
import functools
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from aiohttp import web

from asyncmem.admission import AdmissionController, Permit, Priority, check_deadline, checked_priority, current_permit
from asyncmem.errors import AdmissionRejected, ConfigError
from asyncmem.health import HealthReport, readiness
from asyncmem.middleware.problem import PROBLEM_JSON, problem_body, retry_headers
from asyncmem.runtime import MemoryRuntime
from asyncmem.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from aiohttp.typedefs import Handler, Middleware

    from asyncmem.config import MemoryConfig

    CostOf = Callable[[web.Request], float | str | None]
    PriorityOf = Callable[[web.Request], Priority | None]
    Refusal = Callable[[web.Request, AdmissionRejected], web.StreamResponse]

__all__ = ["EXEMPT", "RUNTIME", "add_health_routes", "admission", "memory_middleware", "refuse", "setup"]

RUNTIME: Final = web.AppKey("asyncmem_runtime", MemoryRuntime)
"""Where an app keeps its runtime: ``request.app[RUNTIME]``, or ``request.config_dict[RUNTIME]`` in a sub-app."""

EXEMPT: Final = ("/livez", "/readyz", "/healthz", "/metrics", "/dashboard")
"""Paths, with all below them, that need no memory admission."""

F = TypeVar("F", bound="Callable[..., Any]")
_DECLARATION: Final = "__asyncmem_admission__"
_LARGEST: Final = 2**63 - 1


class _Declaration(NamedTuple):
    """What `admission` was given for one handler; None leaves it to `setup`."""

    cost: int | CostOf | None
    priority: Priority | PriorityOf | None
    deadline: float | None


class _Plan(NamedTuple):
    """What is to be done with the requests of one route; worked out at its first request."""

    task_class: str
    cost: int | CostOf | None
    priority: Priority | PriorityOf
    deadline: float | None


def setup(
    app: web.Application,
    config: MemoryConfig | None = None,
    *,
    cost: int | str | CostOf | None = None,
    priority: Priority | PriorityOf | None = None,
    exempt: Iterable[str] = EXEMPT,
    refusal: Refusal | None = None,
    runtime: MemoryRuntime | None = None,
) -> MemoryRuntime:
    """Guard an application: all its routes, and those of its sub-applications.

    The limit is found, costs are learned per route; nothing needs to be told. Call it once, before the app runs.

    Args:
        app: The application. Its runtime starts and stops with it.
        config: Settings; None to read environment and file.
        cost: Bytes that a request needs, or a function of the request that says so (None: learned). A handler's own
            `admission` goes first.
        priority: The priority of requests, or a function of the request; the default is normal.
        exempt: Paths, with all below them, that are not guarded.
        refusal: Makes the answer to a refused request; the default is `refuse`.
        runtime: A runtime that is shared with other work and that the caller starts and stops; then `config` is its.

    Returns:
        The runtime: its `alerts`, `statistics` and `guard` are for the application to use.

    Raises:
        ConfigError: A setting is wrong, or the application is guarded already.
        LimitDiscoveryError: No limit could be read.
    """
    if RUNTIME in app:
        raise ConfigError("setup(app): this application is guarded already; call setup once")
    if runtime is not None and config is not None:
        raise ConfigError("setup(app): got both config and runtime; a runtime has its settings already")
    memory = MemoryRuntime(config) if runtime is None else runtime
    app[RUNTIME] = memory
    app.middlewares.insert(0, memory_middleware(memory, cost=cost, priority=priority, exempt=exempt, refusal=refusal))
    if runtime is None:
        app.cleanup_ctx.insert(0, _running)
        app.on_shutdown.append(_close)
    return memory


def admission(
    *,
    cost: int | str | CostOf | None = None,
    priority: Priority | PriorityOf | None = None,
    deadline: float | None = None,
) -> Callable[[F], F]:
    """Declare what one handler (or class-based view) needs.

    Args:
        cost: Bytes, or a function of the request that says how many (None: learned).
        priority: The priority, or a function of the request.
        deadline: Seconds within which the request must start; then it is refused.

    Raises:
        ConfigError: A value that cannot be.
    """
    if deadline is not None:
        check_deadline(deadline)
    declaration = _Declaration(_checked_cost(cost), _checked_priority(priority), deadline)

    def declare(handler: F) -> F:
        setattr(handler, _DECLARATION, declaration)
        return handler

    return declare


def memory_middleware(
    runtime: MemoryRuntime,
    *,
    cost: int | str | CostOf | None = None,
    priority: Priority | PriorityOf | None = None,
    exempt: Iterable[str] = EXEMPT,
    refusal: Refusal | None = None,
) -> Middleware:
    """The middleware alone, for those who compose by hand; `runtime` is theirs to start and stop.

    It belongs at the front of ``app.middlewares``. Arguments and errors as of `setup`.
    """
    controller = runtime.admission
    default = _Declaration(_checked_cost(cost), _checked_priority(priority), None)
    if isinstance(exempt, str):
        raise ConfigError(f"exempt: got the text {exempt!r}; expected a list of paths, for example [{exempt!r}]")
    paths = tuple(path.rstrip("/") or "/" for path in exempt)  # "/" is the root alone, and not all below it
    answer = refuse if refusal is None else refusal
    plans: dict[web.AbstractRoute, _Plan | None] = {}

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = request.match_info.route
        try:
            plan = plans[route]
        except KeyError:
            plan = _plan(request, default, paths)
            if request.match_info.http_exception is None:  # those are made anew for each request
                plans[route] = plan
        if plan is None:
            return await handler(request)
        try:
            permit = await _admit(controller, request, plan)
        except AdmissionRejected as rejection:
            response = answer(request, rejection)
            if request.can_read_body and not request.content.is_eof():
                response.force_close()
            return response
        return await _serve(request, handler, permit, answer)

    return guard


def refuse(request: web.Request, rejection: AdmissionRejected) -> web.StreamResponse:  # noqa: ARG001 - a `refusal` has both
    """The default answer to a refused request: RFC 9457 problem JSON with ``Retry-After``."""
    return web.Response(
        status=rejection.status_code,
        body=problem_body(rejection),
        content_type=PROBLEM_JSON,
        headers=retry_headers(rejection),
    )


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


# -- inside -----------------------------------------------------------------------------------------------------------


class _Failure:
    """Whether a request's handler raised: aiohttp turns that into an answer, so the task does not show it."""

    __slots__ = ("happened",)

    def __init__(self) -> None:
        self.happened = False


async def _serve(request: web.Request, handler: Handler, permit: Permit, answer: Refusal) -> web.StreamResponse:
    """Run a handler under its permit, which ends with the request's task."""
    task = asyncio.current_task()
    assert task is not None
    failed = _Failure()
    task.add_done_callback(functools.partial(_end, permit, failed))
    if request.transport is None:
        # The client went away in the queue. Nobody will see this answer; the access log will.
        failed.happened = True
        return web.Response(status=499, reason="Client Closed Request")
    current_permit.set(permit)  # the task and its context end with the request
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except AdmissionRejected as rejection:  # of a guard inside the handler
        failed.happened = True
        if request.writer.output_size:
            raise
        return answer(request, rejection)
    except BaseException:
        failed.happened = True
        raise


def _end(permit: Permit, failed: _Failure, task: asyncio.Task[Any]) -> None:
    if failed.happened or task.cancelled() or task.exception() is not None:
        permit.drop()
    else:
        permit.record()


def _admit(controller: AdmissionController, request: web.Request, plan: _Plan) -> Awaitable[Permit]:
    cost = _whole(plan.cost(request)) if callable(plan.cost) else plan.cost
    priority = plan.priority(request) if callable(plan.priority) else plan.priority
    if priority is None:
        priority = Priority.NORMAL
    return controller.acquire(plan.task_class, cost=cost, priority=priority, deadline=plan.deadline)


def _whole(cost: float | str | None) -> int | str | None:
    """What a function of the request has worked out, possibly from a length that the client made up."""
    if cost is None or isinstance(cost, str) or not math.isfinite(cost):
        return None if isinstance(cost, float) else cost
    return min(int(cost), _LARGEST)


def _plan(request: web.Request, default: _Declaration, exempt: tuple[str, ...]) -> _Plan | None:
    """What to do with a route; None to leave it alone."""
    match = request.match_info
    if match.http_exception is not None:
        return None
    resource = match.route.resource
    path = request.path if resource is None else resource.canonical
    if any(path == prefix or path.startswith(prefix + "/") for prefix in exempt):
        return None
    own = getattr(match.handler, _DECLARATION, _Declaration(None, None, None))
    return _Plan(
        task_class=f"{match.route.method} {path}",
        cost=default.cost if own.cost is None else own.cost,
        priority=next((p for p in (own.priority, default.priority) if p is not None), Priority.NORMAL),
        deadline=own.deadline,
    )


def _checked_cost(
    cost: int | str | CostOf | None,
) -> int | CostOf | None:
    return cost if cost is None or callable(cost) else parse_bytes(cost)


def _checked_priority(
    priority: Priority | PriorityOf | None,
) -> Priority | PriorityOf | None:
    return priority if priority is None or callable(priority) else checked_priority(priority)


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
