"""Memory as a scheduled resource for async Python.

asyncmem puts a decision in front of each request and job: it knows the limit that the kernel will enforce, learns what
each kind of work costs, reserves that many bytes before the work starts, and makes work wait, or refuses it politely,
when the bytes are not there.

::

    from aiohttp import web
    from asyncmem.middleware.aiohttp import setup

    app = web.Application()
    app.router.add_post("/resize", resize)
    setup(app)
    web.run_app(app)

Where to look: `asyncmem.middleware` for frameworks, `memory_guard` and `MemoryRuntime` for plain code,
`asyncmem.alerts` for events, `asyncmem.limits` for what is measured. Importing this package starts nothing and reads
nothing; adapters for frameworks are imported by their own path.
"""

from __future__ import annotations

from asyncmem._current import get_runtime, memory_guard
from asyncmem.admission import (
    AdmissionController,
    AdmissionStatistics,
    MemorySemaphore,
    Permit,
    Priority,
    TaskClassCost,
)
from asyncmem.alerts import AlertManager
from asyncmem.breaker import CircuitBreaker
from asyncmem.config import MemoryConfig
from asyncmem.errors import (
    AdmissionRejected,
    AlertDeliveryError,
    AsyncmemError,
    CircuitOpenError,
    ConfigError,
    LimitDiscoveryError,
    MemoryLimitExceeded,
    RejectionReason,
)
from asyncmem.events import (
    AlertLevel,
    AlertState,
    AlertType,
    BreakerState,
    MemoryAlert,
    MemorySnapshot,
    PressureLevel,
)
from asyncmem.monitor import MemoryMonitor
from asyncmem.runtime import MemoryRuntime, RuntimeStatistics
from asyncmem.units import format_bytes, parse_bytes

__all__ = [
    "AdmissionController",
    "AdmissionRejected",
    "AdmissionStatistics",
    "AlertDeliveryError",
    "AlertLevel",
    "AlertManager",
    "AlertState",
    "AlertType",
    "AsyncmemError",
    "BreakerState",
    "CircuitBreaker",
    "CircuitOpenError",
    "ConfigError",
    "LimitDiscoveryError",
    "MemoryAlert",
    "MemoryConfig",
    "MemoryLimitExceeded",
    "MemoryMonitor",
    "MemoryRuntime",
    "MemorySemaphore",
    "MemorySnapshot",
    "Permit",
    "PressureLevel",
    "Priority",
    "RejectionReason",
    "RuntimeStatistics",
    "TaskClassCost",
    "format_bytes",
    "get_runtime",
    "memory_guard",
    "parse_bytes",
]
