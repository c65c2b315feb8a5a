"""Alerts as JSON lines: by structlog without doing anything, by a handler, and by a stream.

    python examples/alerts_to_logs.py
    python examples/alerts_to_logs.py | jq -c 'select(.event == "memory_alert") | {state, percent, alert_message}'

A limit 64 MiB above what the process uses is set; the process then takes 60 MiB of it and lets go again. Alerts fire
when the thresholds are passed and are resolved when memory is back, one line each on stdout as JSON.
"""

from __future__ import annotations

import asyncio
import sys

import structlog

from asyncmem import AlertState, MemoryAlert, MemoryConfig, MemoryRuntime, parse_bytes
from asyncmem.logs import add_permit
from asyncmem.sampling import default_sampler


async def page_someone(alert: MemoryAlert) -> None:
    """Stand for a handler that talks to a network; it runs in a task of its own and delays nobody."""
    await asyncio.sleep(0)
    structlog.get_logger().info("paged", level=alert.level.value, alert=alert.message)


async def main() -> None:
    """Pass the thresholds once, and back."""
    structlog.configure(
        processors=[
            add_permit,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )
    used = default_sampler().working_set()
    config = MemoryConfig(
        limit=used + parse_bytes("64MiB"), guard_band="1MiB", interval=0.05, alert_preset="none", alert_cooldown=0
    )
    async with MemoryRuntime(config) as memory:
        room = 100 * used / (used + parse_bytes("64MiB"))
        memory.alerts.set_threshold("warning", percent=(room + 100) / 2)
        memory.alerts.add_handler(page_someone, levels=["warning"])
        stream = memory.alerts.stream()

        async with memory.guard("import", cost="60MiB"):
            block = bytearray(parse_bytes("60MiB"))
            async for alert in stream:
                structlog.get_logger().warning("while_importing", state=alert.state.value)
                if alert.rule == "percent" and alert.state is AlertState.FIRING:
                    break
            del block
        async for alert in stream:
            if alert.rule == "percent" and alert.state is AlertState.RESOLVED:
                break


if __name__ == "__main__":
    asyncio.run(main())
