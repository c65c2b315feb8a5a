"""Alerts that page somebody: PagerDuty's Events API v2, on top of the webhook sink and a body of one's own.

    python examples/alerts_to_pagerduty.py

An alert that fires triggers an incident, and its end resolves it: both have the alert's fingerprint as ``dedup_key``,
and the machine's name, for some fingerprints are the same on all.

As it stands it talks to a small server of its own; with PAGERDUTY_ROUTING_KEY set to the integration key of a service
of yours, the events go to PagerDuty.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from asyncmem import AlertLevel, AlertState, MemoryAlert, MemoryConfig, MemoryRuntime, parse_bytes
from asyncmem.alerts.sinks.webhook import WebhookSink
from asyncmem.sampling import default_sampler

EVENTS_API = "https://events.pagerduty.com/v2/enqueue"
SOURCE = socket.gethostname()  # in Kubernetes the pod's name
LONGEST_SUMMARY = 1024  # characters; the API refuses longer ones
SEVERITIES = {AlertLevel.INFO: "info", AlertLevel.WARNING: "warning", AlertLevel.CRITICAL: "critical"}
ROOM = parse_bytes("64MiB")


def pagerduty_event(routing_key: str) -> Callable[[MemoryAlert], dict[str, object]]:
    """Make the function that turns an alert into an event; the key is a part of each."""

    def body(alert: MemoryAlert) -> dict[str, object]:
        event: dict[str, object] = {"routing_key": routing_key, "dedup_key": f"{SOURCE}/{alert.fingerprint}"}
        if alert.state is AlertState.RESOLVED:
            return event | {"event_action": "resolve"}
        return event | {
            "event_action": "trigger",
            "client": "asyncmem",
            "payload": {
                "summary": alert.message[:LONGEST_SUMMARY],
                "source": SOURCE,
                "severity": SEVERITIES[alert.level],
                "timestamp": alert.timestamp.isoformat(),
                "component": "memory",
                "class": alert.alert_type.value,
                "custom_details": alert.as_dict(),
            },
        }

    return body


@asynccontextmanager
async def stand_in_for_pagerduty() -> AsyncIterator[str]:
    """Serve the one route of the Events API on a free port of this machine; gives its URL."""

    async def enqueue(request: web.Request) -> web.Response:
        event = await request.json()
        payload = event.get("payload", {})
        print(f"pagerduty: {event['event_action']} {event['dedup_key']} {payload.get('severity', '')}".rstrip())
        if payload:
            print(f"pagerduty:   {payload['summary']}")
        return web.json_response({"status": "success", "dedup_key": event["dedup_key"]}, status=202)

    app = web.Application()
    app.router.add_post("/v2/enqueue", enqueue)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v2/enqueue"
    finally:
        await runner.cleanup()


async def pass_a_threshold(memory: MemoryRuntime) -> None:
    """Take 60 MiB, let go again, and see an alert begin and end."""
    stream = memory.alerts.stream()
    block = bytearray(parse_bytes("60MiB"))
    async for alert in stream:
        if alert.rule == "percent" and alert.state is AlertState.FIRING:
            break
    del block
    async for alert in stream:
        if alert.rule == "percent" and alert.state is AlertState.RESOLVED:
            break


async def main() -> None:
    """Trigger an incident, and resolve it."""
    used = default_sampler().working_set()
    config = MemoryConfig(
        limit=used + ROOM, guard_band="1MiB", interval=0.05, alert_preset="none", log_alerts=False, alert_cooldown=0
    )
    key = os.environ.get("PAGERDUTY_ROUTING_KEY")
    async with stand_in_for_pagerduty() as local_url:
        pagerduty = WebhookSink(EVENTS_API if key else local_url, body=pagerduty_event(key or 32 * "0"))
        async with MemoryRuntime(config) as memory:
            memory.alerts.set_threshold("critical", percent=50 + 50 * used / (used + ROOM))
            memory.alerts.add_handler(pagerduty, levels=["critical"])
            await pass_a_threshold(memory)
            await memory.alerts.drain(30)  # a service goes on; this program ends here
    statistics = pagerduty.statistics()
    print(f"{statistics.sent} sent, {statistics.failed} failed")


if __name__ == "__main__":
    asyncio.run(main())
