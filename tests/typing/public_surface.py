"""The public surface as a type checker sees it: checked by mypy, never run, and no test module.

Each function stands for a program of somebody who uses asyncmem under a strict type checker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, assert_type

from aiohttp import ClientSession, web
from opentelemetry.sdk._logs import LoggerProvider

from asyncmem import (
    AdmissionController,
    AdmissionRejected,
    AdmissionStatistics,
    AlertDeliveryError,
    AlertLevel,
    AlertManager,
    AlertState,
    AlertType,
    AsyncmemError,
    BreakerState,
    CircuitBreaker,
    CircuitOpenError,
    ConfigError,
    MemoryAlert,
    MemoryConfig,
    MemoryLimitExceeded,
    MemoryMonitor,
    MemoryRuntime,
    MemorySemaphore,
    MemorySnapshot,
    Permit,
    PressureLevel,
    Priority,
    RejectionReason,
    RuntimeStatistics,
    TaskClassCost,
    format_bytes,
    get_runtime,
    memory_guard,
    parse_bytes,
)
from asyncmem.alerts.sinks import structlog_sink
from asyncmem.alerts.sinks.otel import otel_sink
from asyncmem.alerts.sinks.slack import slack_message
from asyncmem.alerts.sinks.webhook import WebhookSink, WebhookStatistics
from asyncmem.breaker import BreakerStatistics, Circuit, Passage, Thresholds
from asyncmem.health import HealthReport, readiness
from asyncmem.limits import Bound, LimitFinder, Limits, discover_limits
from asyncmem.middleware.aiohttp import (
    EXIT_MEMORY,
    RUNTIME,
    add_health_routes,
    admission,
    memory_middleware,
    setup,
    shutdown_on_critical,
)
from asyncmem.reclaim import PressureAction, PressureActions, Reclaim, Reclaimer, ReclaimReport, Shrinkable
from asyncmem.testing import ManualClock, SyntheticLimits, SyntheticSampler, capture_alerts


def settings() -> None:
    """Settings from code, mapping, file and environment."""
    config = MemoryConfig(limit="2GiB", guard_band="5%", max_queue=10, monitoring=False)
    assert_type(config.limit, int | str | None)
    assert_type(config.queue_timeout, float)
    assert_type(MemoryConfig.load(limit="1GiB"), MemoryConfig)
    assert_type(MemoryConfig.from_mapping({"limit": "1GiB"}), MemoryConfig)
    assert_type(MemoryConfig.from_env({"ASYNCMEM_LIMIT": "1GiB"}), MemoryConfig)
    assert_type(MemoryConfig.from_file("asyncmem.toml"), MemoryConfig)
    config.limit = 1  # type: ignore[misc]  # frozen
    MemoryConfig("2GiB")  # type: ignore[call-arg]  # by name only
    MemoryConfig(alert_preset="loud")  # type: ignore[arg-type]


def quantities() -> None:
    """Bytes from text and back."""
    assert_type(parse_bytes("1.5GiB"), int)
    assert_type(parse_bytes("80%", of=1000), int)
    assert_type(format_bytes(1.5e9), str)


async def runtime() -> None:
    """A runtime is a context manager of both kinds, and joins its parts."""
    async with MemoryRuntime(MemoryConfig(limit="2GiB")) as memory:
        assert_type(memory, MemoryRuntime)
        assert_type(memory.config, MemoryConfig)
        assert_type(memory.admission, AdmissionController)
        assert_type(memory.alerts, AlertManager)
        assert_type(memory.monitor, MemoryMonitor)
        assert_type(memory.limits, Limits)
        assert_type(memory.limits.binding(), Bound)
        assert_type(memory.is_running, bool)
        statistics = memory.statistics()
        assert_type(statistics, RuntimeStatistics)
        assert_type(statistics.admission, AdmissionStatistics)
        assert_type(statistics.admission.task_classes, dict[str, TaskClassCost])
    with MemoryRuntime() as plain:
        assert_type(plain, MemoryRuntime)
    assert_type(get_runtime(), MemoryRuntime)
    assert_type(discover_limits("80%"), LimitFinder)


async def guards(memory: MemoryRuntime) -> None:
    """A guard gives its permit in both kinds of block."""
    async with memory.guard("embedding", cost="80MiB", priority=Priority.HIGH, deadline=2.0) as permit:
        assert_type(permit, Permit)
        assert_type(permit.reserved, int)
        assert_type(permit.task_class, str)
        assert_type(permit.is_open, bool)
    with memory_guard("report") as permit:
        assert_type(permit, Permit)
    memory.guard("embedding", cost=1.5)  # type: ignore[arg-type]
    memory.guard("embedding", priority=3)  # type: ignore[arg-type]


@memory_guard("resize", cost="40MiB")
async def resize(image: bytes, width: int, *, quality: float = 0.9) -> bytes:
    """An async function under a guard."""
    return image * width if quality else image


@memory_guard("resize")
def resize_now(image: bytes, width: int = 3) -> list[bytes]:
    """A sync function under a guard."""
    return [image] * width


class Thumbnails:
    """A class with a method under a guard."""

    @memory_guard("thumbnail")
    async def make(self, image: bytes) -> int:
        """Count."""
        return len(image)


async def decorated() -> None:
    """A decorated function takes and gives what it did before."""
    assert_type(await resize(b"", 3, quality=0.5), bytes)
    assert_type(resize_now(b""), list[bytes])
    assert_type(await Thumbnails().make(b""), int)
    await resize("text", 3)  # type: ignore[arg-type]
    await resize(b"")  # type: ignore[call-arg]
    resize_now(image=b"", height=3)  # type: ignore[call-arg]
    memory_guard(resize)  # type: ignore[arg-type]  # without its brackets


breaker = CircuitBreaker(warning="1.0GB", open_at=1_500_000_000, backoff=2, on_change=lambda _old, new: new.is_closed)


@breaker
async def embed(text: str, *, normalize: bool = True) -> list[float]:
    """An async function behind a breaker."""
    return [1.0] * len(text) if normalize else []


@breaker
def embed_now(text: str) -> list[float]:
    """A sync function behind a breaker."""
    return [1.0] * len(text)


async def breakers() -> None:
    """A breaker is a context manager of both kinds, a decorator, and something to ask."""
    async with breaker as same:
        assert_type(same, CircuitBreaker)
    with breaker.guard() as passage:
        assert_type(passage, Passage)
    assert_type(await embed("text", normalize=False), list[float])
    assert_type(embed_now("text"), list[float])
    await embed(3)  # type: ignore[arg-type]
    breaker.check()
    assert_type(breaker.state, BreakerState)
    assert_type(breaker.look(), BreakerState)
    assert_type(breaker.update(1, 2), BreakerState)
    statistics = breaker.statistics()
    assert_type(statistics, BreakerStatistics)
    assert_type(statistics.used, int | None)
    CircuitBreaker(headroom="200MiB", measure=lambda: (1, 2), clock=ManualClock())
    CircuitBreaker("75%")  # type: ignore[call-arg]  # by name only
    CircuitBreaker(measure=lambda: 1)  # type: ignore[arg-type, return-value]
    assert_type(Circuit(Thresholds(open_at="100%")).read(1, 2, 0.5, in_flight=0), BreakerState)


async def admissions(controller: AdmissionController, semaphore: MemorySemaphore) -> None:
    """Permits by hand, and the semaphore below them."""
    permit = await controller.acquire("job", cost="1MiB", priority=Priority.LOW, deadline=1)
    permit.record()
    permit.drop()
    assert_type(controller.try_acquire("job"), Permit | None)
    assert_type(controller.acquire_nowait("job"), Permit)
    assert_type(controller.acquire_sync("job"), Permit)
    async with semaphore.hold(10):
        pass
    semaphore.release(10)


async def alerts(memory: MemoryRuntime) -> None:
    """Alerts as a stream, by handlers of both kinds, and as values."""
    async for alert in memory.alerts.stream():
        assert_type(alert, MemoryAlert)
        assert_type(alert.level, AlertLevel)
        assert_type(alert.alert_type, AlertType)
        assert_type(alert.state, AlertState)
        assert_type(alert.timestamp, datetime)
        assert_type(alert.value, float | None)
        assert_type(alert.snapshot, MemorySnapshot | None)
        assert_type(alert.as_dict(), dict[str, Any])
        break

    def sync_handler(_alert: MemoryAlert) -> None: ...
    async def async_handler(_alert: MemoryAlert) -> None: ...
    def wrong_handler(_text: str) -> None: ...

    memory.alerts.add_handler(sync_handler, [AlertLevel.CRITICAL, "warning"], immediate=True)
    with memory.alerts.add_handler(async_handler, timeout=1.0):
        pass
    memory.alerts.add_handler(wrong_handler)  # type: ignore[arg-type]
    memory.alerts.set_threshold("critical", percent=95)
    assert_type(memory.alerts.check_thresholds(memory.monitor.capture_snapshot()), list[MemoryAlert])
    assert_type(memory.alerts.history, tuple[MemoryAlert, ...])


class Cache:
    """A cache that can shrink."""

    name = "cache"
    essential = False

    def shrink(self, level: PressureLevel) -> int | None:
        """Give back what has no place at the level."""
        return 0 if level < PressureLevel.HIGH else None


async def pressure(cache: Cache, shrinkable: Shrinkable) -> None:
    """Caches are told of pressure, actions are data, and what is critical is heard of."""

    def spill(level: PressureLevel) -> None: ...
    def no_level() -> None: ...
    async def page() -> None: ...

    actions = PressureActions(high=(PressureAction.SHRINK, "trim", spill), medium=())
    async with MemoryRuntime(actions=actions, on_critical=page) as memory:
        assert_type(memory.reclaimers, Reclaim)
        memory.reclaimers.add(cache)
        memory.reclaimers.add(shrinkable, keep=True)
        memory.reclaimers.remove(cache)
        memory.on_critical(page, after=5.0, timeout=1.0)
        memory.on_critical(lambda: None)
        assert_type(memory.reclaim(PressureLevel.HIGH), ReclaimReport)
        assert_type(memory.reclaim().bytes_freed, int)
        assert_type(memory.reclaimers.reclaimers, tuple[Reclaimer | Shrinkable, ...])
        memory.on_critical(spill)  # type: ignore[arg-type]
        memory.reclaimers.add("cache")  # type: ignore[arg-type]
    PressureActions(high=(no_level,))  # type: ignore[arg-type]
    PressureActions(high="trim")  # type: ignore[arg-type]


async def sinks(memory: MemoryRuntime, session: ClientSession, alert: MemoryAlert) -> None:
    """Sinks are handlers; a body is any function from an alert to a JSON object."""

    def body(alert: MemoryAlert) -> dict[str, str]:
        return {"summary": alert.message}

    sink = WebhookSink("https://example.org/", headers={"X-Token": "…"}, timeout=5, deadline=30, attempts=5)
    memory.alerts.add_handler(sink, levels=["critical"], max_queue=16)
    memory.alerts.add_handler(WebhookSink("https://example.org/", body=body, session=session))
    memory.alerts.add_handler(WebhookSink("https://example.org/", body=MemoryAlert.as_dict, name="ours"))
    memory.alerts.add_handler(
        WebhookSink("http://gateway/", body=partial(slack_message, source="api"), allow_http=True)
    )
    memory.alerts.add_handler(otel_sink(), immediate=True)
    memory.alerts.add_handler(otel_sink(LoggerProvider()))
    memory.alerts.add_handler(structlog_sink(), immediate=True)
    assert_type(sink.statistics(), WebhookStatistics)
    assert_type(sink.statistics().last_error, str | None)
    assert_type(sink.handler_timeout, float)
    try:
        await sink(alert)
    except AlertDeliveryError as failed:
        root: AsyncmemError = failed
        raise root from None
    WebhookSink("https://example.org/", body)  # type: ignore[call-arg]  # by name only
    WebhookSink("https://example.org/", body=lambda alert: alert.message)  # type: ignore[arg-type, return-value]


def snapshots(monitor: MemoryMonitor) -> None:
    """Figures in bytes are whole numbers, those in MiB are not."""
    snapshot = monitor.capture_snapshot("after import")
    assert_type(snapshot.rss, int)
    assert_type(snapshot.rss_mb, float)
    assert_type(snapshot.percent, float)
    assert_type(snapshot.python_allocated_mb, float | None)
    assert_type(monitor.snapshots, tuple[MemorySnapshot, ...])


def failures() -> None:
    """Errors carry what a caller decides by."""
    try:
        get_runtime()
    except AdmissionRejected as rejection:
        assert_type(rejection.reason, RejectionReason)
        assert_type(rejection.retry_after, float | None)
        assert_type(rejection.status_code, int)
    except CircuitOpenError as refusal:
        assert_type(refusal.retry_after, float)
        assert_type(refusal.status_code, int)
    except MemoryLimitExceeded as exceeded:
        assert_type(exceeded.requested, int)
        memory_error: MemoryError = exceeded
        raise memory_error from None
    except ConfigError as wrong:
        value_error: ValueError = wrong
        raise value_error from None
    except AsyncmemError:
        raise


def cost_of(request: web.Request) -> str | None:
    """A cost by the request."""
    return request.headers.get("X-Cost")


@admission(cost=cost_of, priority=Priority.HIGH, deadline=2.0)
async def handler(request: web.Request) -> web.Response:
    """A handler keeps its type under the decorator."""
    return web.Response(text=request.path)


@admission(cost="10MiB")
class Page(web.View):
    """A class-based view keeps its type, too."""

    async def get(self) -> web.Response:
        """Answer."""
        return web.Response()


async def aiohttp_applications(request: web.Request) -> None:
    """One call guards an application; its runtime is found by a typed key."""
    app = web.Application()
    app.router.add_post("/resize", handler)
    app.router.add_view("/page", Page)
    assert_type(await handler(request), web.Response)
    page: type[Page] = Page
    assert_type(page(request), Page)
    memory = setup(
        app,
        MemoryConfig(),
        cost=lambda request: request.content_length,
        priority=lambda _request: Priority.LOW,
        exempt=["/livez"],
        refusal=lambda _request, rejection: web.Response(status=rejection.status_code),
    )
    assert_type(memory, MemoryRuntime)
    assert_type(app[RUNTIME], MemoryRuntime)
    assert_type(request.config_dict[RUNTIME], MemoryRuntime)
    add_health_routes(app, ready=lambda: None)
    web.Application(middlewares=[memory_middleware(memory, cost="1MiB")])
    setup(app, actions=PressureActions(), on_critical=lambda: None)
    shutdown_on_critical(app, after=5.0, drain=10.0, closing=5.0, leave=print)
    code: int = EXIT_MEMORY
    assert_type(code, int)
    setup(app, cost=1.5)  # type: ignore[arg-type]
    admission(cost=lambda request: (request.content_length or 0) * 1.5)


def health(memory: MemoryRuntime) -> None:
    """What a probe is told."""
    assert_type(readiness(memory, lambda: "loading"), HealthReport)
    assert_type(readiness(memory).status_code, int)


def tests() -> None:
    """Synthetic memory and time stand where the real ones are asked for."""
    sampler = SyntheticSampler("40MiB")
    limits = SyntheticLimits(sampler, "100MiB")
    memory = MemoryRuntime(sampler=sampler, machine=sampler, limits=limits, clock=ManualClock())
    MemoryMonitor(sampler=sampler, machine=sampler, limits=limits, clock=ManualClock())
    with capture_alerts(memory.alerts) as raised:
        memory.check_now()
    assert_type(raised, list[MemoryAlert])


def log(write: Callable[[Mapping[str, object]], None], alert: MemoryAlert) -> None:
    """An alert's dictionary goes where dictionaries go."""
    write(alert.as_dict())
