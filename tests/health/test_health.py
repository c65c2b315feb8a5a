from __future__ import annotations

import msgspec
import pytest

from asyncmem import MemoryConfig, MemoryRuntime
from asyncmem.health import HealthReport, readiness
from asyncmem.testing import SyntheticLimits, SyntheticSampler
from asyncmem.units import MIB

READY = HealthReport(status="ok")


def stopped() -> tuple[MemoryRuntime, SyntheticSampler]:
    """A runtime that was not started yet, and its memory."""
    memory = SyntheticSampler("100MiB")
    config = MemoryConfig(monitoring=False, log_alerts=False, guard_band=0)
    limits = SyntheticLimits(memory, "1000MiB")
    return MemoryRuntime(config, sampler=memory, machine=memory, limits=limits), memory


def test_ready_is_what_runs() -> None:
    """Not before the start, and not after the stop."""
    runtime, _ = stopped()
    not_running = HealthReport(status="unavailable", reason="not running")
    assert readiness(runtime) == not_running
    with runtime:
        assert readiness(runtime) == READY
    assert readiness(runtime) == not_running


def test_the_services_own_check_has_its_say() -> None:
    """Its reason is passed on, and it is asked each time."""
    runtime, _ = stopped()
    reasons: list[str | None] = ["the model is loading", None]
    with runtime:
        assert readiness(runtime, lambda: reasons[0]) == HealthReport(
            status="unavailable", reason="the model is loading"
        )
        assert readiness(runtime, lambda: reasons[1]) == READY


def test_a_check_is_not_asked_where_nothing_runs() -> None:
    """It may need what is not there yet."""
    runtime, _ = stopped()

    def check() -> str | None:
        raise AssertionError("asked")

    assert readiness(runtime, check).reason == "not running"


def test_readiness_needs_no_memory() -> None:
    """Beyond its limit, with work in flight and nothing free, a service still answers its probes."""
    runtime, memory = stopped()
    with runtime, runtime.guard("job", cost="900MiB"):
        memory.used = 1000 * MIB
        assert runtime.admission.try_acquire("other", cost=1) is None
        assert readiness(runtime) == READY


@pytest.mark.parametrize(
    ("report", "status", "body"),
    [
        (READY, 200, b'{"status":"ok"}'),
        (
            HealthReport(status="unavailable", reason="not running"),
            503,
            b'{"status":"unavailable","reason":"not running"}',
        ),
    ],
)
def test_a_report_is_an_answer(report: HealthReport, status: int, body: bytes) -> None:
    """With its HTTP status; a reason only where there is one."""
    assert report.status_code == status
    assert msgspec.json.encode(report) == body
