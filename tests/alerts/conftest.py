"""What the tests of alerts share: both backends, snapshots by their numbers, a clock by hand, and serving."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from asyncmem.alerts import AlertManager
from asyncmem.events import AdmissionAction, AdmissionOutlook, AlertLevel, AlertType, MemoryAlert, MemorySnapshot
from asyncmem.units import MIB

_START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both event loops."""
    return str(request.param)


class _Clock:
    """One second later at each reading."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        self.seconds += 1.0
        return self.seconds

    def now(self) -> datetime:
        return _START + timedelta(seconds=self.monotonic())


@pytest.fixture
def manager() -> AlertManager:
    """A manager without thresholds, which resolves at once."""
    return AlertManager(clock=_Clock(), cooldown=0)


@pytest.fixture(scope="session")
def snapshot() -> Callable[..., MemorySnapshot]:
    """Makes a snapshot from the numbers that rules read."""

    def make(*, percent: float = 10.0, rss_mb: float = 100.0, available_mb: float = 8000.0) -> MemorySnapshot:
        return MemorySnapshot(
            timestamp=_START,
            rss=int(rss_mb * MIB),
            vms=2 * int(rss_mb * MIB),
            working_set=round(percent * 10_000),
            available_system=int(available_mb * MIB),
            limit=1_000_000,
            threads=3,
        )

    return make


@pytest.fixture(scope="session")
def alert() -> Callable[..., MemoryAlert]:
    """Makes an alert, as another part of the library would, told apart by its message."""

    def make(message: str = "the limit changed", level: AlertLevel = AlertLevel.WARNING) -> MemoryAlert:
        return MemoryAlert(
            level=level,
            alert_type=AlertType.LIMIT_CHANGED,
            message=message,
            timestamp=_START,
            fingerprint=f"test-{message}",
        )

    return make


@pytest.fixture(scope="session")
def outlook() -> AdmissionOutlook:
    """What admission says of itself while work waits."""
    return AdmissionOutlook(
        action=AdmissionAction.QUEUEING,
        headroom=-5,
        reserved=10,
        in_flight=2,
        queued=3,
        rejected=4,
        evicted=0,
        task_class="resize",
        task_class_share=0.75,
        demand=2000,
        exceeds_limit=True,
    )


@pytest.fixture(scope="session")
def serving() -> Callable[[AlertManager], AbstractAsyncContextManager[None]]:
    """Runs a manager beside the block; entering, the block and leaving together take a bounded time."""

    @asynccontextmanager
    async def serve(manager: AlertManager) -> AsyncGenerator[None]:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                await tasks.start(manager.run)
                yield
                tasks.cancel_scope.cancel()

    return serve
