"""Every example runs as it stands."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from asyncmem import AlertLevel, AlertState, AlertType, MemoryAlert

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=60, check=False, cwd=EXAMPLES
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plain_asyncio() -> None:
    """Twenty jobs are done, never more at a time than the limit allows, and all bytes are back."""
    printed = run("plain_asyncio.py")
    assert "20 jobs done, at most" in printed
    assert "0 bytes reserved now" in printed
    side_by_side = int(printed.split("at most ")[1].split()[0])
    assert 1 < side_by_side < 8


def test_circuit_breaker() -> None:
    """It warns and opens as memory is taken, lets one job try when it is back, and closes."""
    printed = run("circuit_breaker.py")
    changes = [line.removeprefix("  breaker: ") for line in printed.splitlines() if "->" in line]
    assert changes[:4] == ["closed -> warning", "warning -> open", "open -> half_open", "half_open -> closed"]
    assert "job 4 refused: the memory breaker is open: " in printed
    assert "job 5 done" in printed
    assert "opened: 1, jobs refused: 1, let through to try: 1" in printed


def test_alerts_to_logs() -> None:
    """An alert fires, is handled, and is resolved; each line is JSON, and one has the permit it was written under."""
    events = [json.loads(line) for line in run("alerts_to_logs.py").splitlines()]
    alerts = [event for event in events if event["event"] == "memory_alert" and event["rule"] == "percent"]
    assert [alert["state"] for alert in alerts] == ["firing", "resolved"]
    assert any(event["event"] == "paged" for event in events)
    inside = next(event for event in events if event["event"] == "while_importing")
    assert inside["task_class"] == "import"
    assert inside["reserved_bytes"] == 60 * 1024 * 1024


def test_alerts_to_slack() -> None:
    """The first attempt fails, the alert and its end arrive all the same, and the webhook's URL is printed nowhere."""
    printed = run("alerts_to_slack.py")
    words = [line.split()[1] for line in printed.splitlines() if line.startswith("slack: ") and line[7] != " "]
    assert words[0] == "503,"
    assert {"*WARNING*", "*RESOLVED*"} <= set(words)
    assert re.fullmatch("[2-9] sent, [1-9] tried again, 0 failed", printed.splitlines()[-1])
    assert "stamina.retry_scheduled" in printed
    assert "a-secret" not in printed


def test_alerts_to_pagerduty() -> None:
    """An incident is triggered and resolved under one key; the routing key is printed nowhere."""
    printed = run("alerts_to_pagerduty.py")
    lines = dict.fromkeys(
        line for line in printed.splitlines() if line.startswith("pagerduty: ") and "/percent-" in line
    )
    trigger, resolve = (line.split() for line in lines)
    assert (trigger[1], trigger[3]) == ("trigger", "critical")
    assert resolve[1] == "resolve"
    assert resolve[2] == trigger[2]
    assert re.fullmatch("[2-9] sent, 0 failed", printed.splitlines()[-1])
    assert 32 * "0" not in printed


def test_pagerduty_events_are_as_the_api_wants_them() -> None:
    """Every level has a severity that there is, and what is too long is cut; the rest of the alert goes along."""
    namespace = runpy.run_path(str(EXAMPLES / "alerts_to_pagerduty.py"))
    body = namespace["pagerduty_event"]("the-routing-key")
    for level in AlertLevel:
        alert = MemoryAlert(
            level=level,
            alert_type=AlertType.HIGH_MEMORY,
            message="ä" * 5000,
            timestamp=datetime(2026, 1, 1, tzinfo=UTC),
            fingerprint="percent-1",
        )
        event = body(alert)
        assert (event["routing_key"], event["event_action"]) == ("the-routing-key", "trigger")
        payload = event["payload"]
        assert payload["severity"] in {"critical", "error", "warning", "info"}
        assert len(payload["summary"]) == 1024
        assert payload["source"]
        assert datetime.fromisoformat(payload["timestamp"]) == alert.timestamp
        assert payload["custom_details"] == alert.as_dict()
        assert body(msgspec.structs.replace(alert, state=AlertState.RESOLVED)) == {
            "routing_key": "the-routing-key",
            "event_action": "resolve",
            "dedup_key": event["dedup_key"],
        }


def ask(url: str) -> bytes:
    """The answer of the example's own server."""
    with urllib.request.urlopen(url) as response:  # noqa: S310 - the URL is written in this file
        body = response.read()
        assert isinstance(body, bytes)
        return body


def wait_for(url: str) -> None:
    """Ask until the answer is 200; a minute at most."""
    end = time.monotonic() + 60
    while True:
        try:
            ask(url)
        except urllib.error.URLError:
            assert time.monotonic() < end, f"{url} did not answer in time"
            time.sleep(0.05)
        else:
            return


def test_graceful_shutdown(free_tcp_port: int) -> None:
    """The cache gives way first; then what is in flight is served, what comes is refused, and the code says why."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / "graceful_shutdown.py", str(free_tcp_port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 75, done.stderr
    assert "pressure: the cache gives back" in done.stdout
    assert "a new request: 503, Retry-After 1" in done.stdout
    assert "the probe: 503" in done.stdout
    assert "the one in flight: 200, exported" in done.stdout
    assert done.stdout.index("a new request") < done.stdout.index("the one in flight") < done.stdout.index("cleaned up")


def test_hello_aiohttp(free_tcp_port: int) -> None:
    """The app answers, admits by memory, and shows what it has learned."""
    port = free_tcp_port
    base = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, EXAMPLES / "hello_aiohttp.py", str(port)], stdout=subprocess.DEVNULL) as app:
        try:
            wait_for(f"{base}/readyz")
            deadline = time.monotonic() + 60
            while True:  # learned with the next look of the background thread; not where it came too late for this one
                assert json.loads(ask(f"{base}/thumbnail?megapixels=2")) == {"bytes": 24_000_000}
                learned = json.loads(ask(f"{base}/statistics"))["task_classes"]["GET /thumbnail"]
                if learned["peak"] > 10_000_000:
                    break
                assert time.monotonic() < deadline, learned
        finally:
            app.terminate()
    assert app.returncode == 0
