"""Alerts at full speed through receivers that do not keep up: what becomes of the memory, the counts, the time.

Run by `tests.benchmarks.alerts` with the number of alerts; prints a `Flooded` as JSON. `slow` and `make` are for others
who flood.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from datetime import UTC, datetime
from typing import Final

import msgspec

from asyncmem import AlertLevel, AlertManager, AlertType, MemoryAlert, MemoryConfig, MemoryRuntime
from asyncmem.sampling import LinuxSampler

__all__ = ["Flooded", "make", "slow"]

SLOW: Final = 0.001
"""Seconds that a handler sleeps over one alert."""
BLOCK: Final = 1000
"""Alerts that are timed together."""
WARM_UP: Final = 5 * BLOCK
"""Alerts before the first measurement: history and buffers are full then."""
RECEIVERS: Final = 3


class Flooded(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Args:
        alerts: How many were emitted.
        rss_before: Resident bytes with history and buffers full.
        rss_peak: The most that was seen after each thousand alerts.
        rss_after: When nothing waits any more.
        emit_us: Microseconds for one alert, the median of the blocks of a thousand, while the handlers are served.
        emit_worst_us: The same, of the slowest block.
        emit_alone_us: The median where nobody is served, so that no other thread wants the interpreter.
        receivers: To how many each alert goes: a sync handler, an async one, a stream that nobody reads.
        delivered: Calls that ended well.
        dropped: Alerts that a receiver never saw.
        other: Calls that raised or timed out.
        waiting: Alerts that wait in the stream.
    """

    alerts: int
    rss_before: int
    rss_peak: int
    rss_after: int
    emit_us: float
    emit_worst_us: float
    emit_alone_us: float
    receivers: int
    delivered: int
    dropped: int
    other: int
    waiting: int

    @property
    def unaccounted(self) -> int:
        """Alerts that nobody has counted."""
        return self.receivers * self.alerts - self.delivered - self.dropped - self.other - self.waiting


def make(number: int) -> MemoryAlert:
    """An alert like those of a threshold."""
    return MemoryAlert(
        level=AlertLevel.WARNING,
        alert_type=AlertType.HIGH_MEMORY,
        message=f"the working set is {number / 1000:.1f} % of the limit, above the warning threshold of 80",
        timestamp=datetime.now(UTC),
        fingerprint=f"percent-{number}",
        rule="percent",
        value=number / 1000,
        threshold=80.0,
    )


def slow(alerts: AlertManager) -> None:
    """Add two handlers that take a millisecond for each alert: a sync one and an async one."""

    async def on_the_loop(alert: MemoryAlert) -> None:
        await asyncio.sleep(SLOW)

    alerts.add_handler(lambda _: time.sleep(SLOW))
    alerts.add_handler(on_the_loop)


def _emit(alerts: AlertManager, count: int) -> tuple[list[float], int]:
    """Microseconds of one alert in each block of a thousand, and the most resident bytes."""
    sampler, taken, peak = LinuxSampler(), [], 0
    for start in range(0, count, BLOCK):
        block = [make(number) for number in range(start, min(count, start + BLOCK))]
        begin = time.perf_counter()
        for alert in block:
            alerts.emit(alert)
        taken.append((time.perf_counter() - begin) / len(block) * 1e6)
        peak = max(peak, sampler.read().rss)
    return taken, peak


def _alone() -> float:
    alerts = AlertManager()
    slow(alerts)
    stream = alerts.stream()
    taken, _ = _emit(alerts, 10 * BLOCK)
    stream.close()
    return statistics.median(taken[1:])


async def _measure(count: int) -> Flooded:
    alone, sampler = _alone(), LinuxSampler()
    async with MemoryRuntime(MemoryConfig(log_alerts=False, alert_preset="none")) as runtime:
        alerts = runtime.alerts
        slow(alerts)
        with alerts.stream() as stream:
            await asyncio.to_thread(_emit, alerts, WARM_UP)
            await alerts.drain(30)
            rss, before, waiting = sampler.read().rss, alerts.statistics(), stream.statistics().buffered
            taken, peak = await asyncio.to_thread(_emit, alerts, count)
            await alerts.drain(30)
            after = alerts.statistics()
            return Flooded(
                alerts=after.emitted - before.emitted,
                rss_before=rss,
                rss_peak=peak,
                rss_after=sampler.read().rss,
                emit_us=statistics.median(taken),
                emit_worst_us=max(taken),
                emit_alone_us=alone,
                receivers=RECEIVERS,
                delivered=after.delivered - before.delivered,
                dropped=after.dropped - before.dropped,
                other=after.handler_errors + after.handler_timeouts - before.handler_errors - before.handler_timeouts,
                waiting=stream.statistics().buffered - waiting,
            )


if __name__ == "__main__":
    print(msgspec.json.encode(asyncio.run(_measure(int(sys.argv[1])))).decode())
