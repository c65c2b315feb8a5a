"""Alerts in a Slack channel, by an incoming webhook that is tried again when it fails.

    python examples/alerts_to_slack.py

As it stands it talks to a small server of its own, in place of Slack, which is overloaded at first (503) and then takes
what comes. With SLACK_WEBHOOK_URL set to the URL of a webhook of yours, the messages go there:

    SLACK_WEBHOOK_URL=https://hooks.slack.com/services/… python examples/alerts_to_slack.py

The same messages suit Mattermost and Rocket.Chat, and Discord with ``/slack`` after its URL.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from asyncmem import AlertState, MemoryConfig, MemoryRuntime, parse_bytes
from asyncmem.alerts.sinks.webhook import WebhookSink
from asyncmem.sampling import default_sampler

ROOM = parse_bytes("64MiB")


@asynccontextmanager
async def stand_in_for_slack() -> AsyncIterator[str]:
    """Serve one webhook on a free port of this machine; gives its URL."""
    asked = 0

    async def webhook(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            print("slack: 503, try again later")
            return web.Response(status=503)
        message = await request.json()
        print(f"slack: {message['text']}")
        for field in message["attachments"][0]["fields"]:
            print(f"slack:   {field['title']}: {field['value']}")
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/services/{secret:.*}", webhook)
    runner = web.AppRunner(app, access_log=None)  # such a log has the URLs, and those are passwords here
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/services/T0/B0/a-secret"
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
    """Tell Slack about an alert, and about its end."""
    used = default_sampler().working_set()
    config = MemoryConfig(
        limit=used + ROOM, guard_band="1MiB", interval=0.05, alert_preset="none", log_alerts=False, alert_cooldown=0
    )
    async with stand_in_for_slack() as local_url:
        slack = WebhookSink(os.environ.get("SLACK_WEBHOOK_URL") or local_url)
        async with MemoryRuntime(config) as memory:
            memory.alerts.set_threshold("warning", percent=50 + 50 * used / (used + ROOM))
            memory.alerts.add_handler(slack)
            await pass_a_threshold(memory)
            await memory.alerts.drain(30)  # a service goes on; this program ends here
    statistics = slack.statistics()
    print(f"{statistics.sent} sent, {statistics.retried} tried again, {statistics.failed} failed")


if __name__ == "__main__":
    asyncio.run(main())
