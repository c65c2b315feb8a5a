"""The message for Slack: what it says, and that nothing in an alert can make it too long or call people."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncmem.alerts import AlertManager
from asyncmem.alerts.sinks.slack import _escaped, slack_message
from asyncmem.events import AdmissionOutlook, AlertLevel, AlertState, MemoryAlert, MemorySnapshot

Alerts = Callable[..., MemoryAlert]


def decoded(message: dict[str, object]) -> dict[str, Any]:
    """A message as it arrives."""
    received = json.loads(msgspec.json.encode(message))
    assert isinstance(received, dict)
    return received


def fields_of(message: dict[str, Any]) -> dict[str, str]:
    """The fields of the one attachment."""
    (attachment,) = message["attachments"]
    return {field["title"]: field["value"] for field in attachment["fields"]}


def test_an_alert_is_told_with_its_numbers(snapshot: Callable[..., MemorySnapshot]) -> None:
    """Level and message as text, the numbers as fields, the time as Slack wants it."""
    manager = AlertManager.with_defaults()
    (raised,) = manager.check_thresholds(snapshot(percent=93, rss_mb=100, available_mb=8000))
    message = decoded(slack_message(raised, source="resizer-7d9f"))
    assert message["text"] == f"*CRITICAL* {html.escape(raised.message)}"
    assert fields_of(message) == {
        "Source": "resizer-7d9f",
        "Working set": "908.2 KiB of 976.6 KiB (93.0 %)",
        "Resident": "100 MiB",
        "System has available": "7.8 GiB",
        "Alert": raised.fingerprint,
    }
    (attachment,) = message["attachments"]
    assert attachment["ts"] == int(raised.timestamp.timestamp())
    assert attachment["fallback"].startswith("CRITICAL: ")


def test_levels_and_the_end_can_be_told_apart(alert: Alerts) -> None:
    """By word and by colour."""
    alerts = [alert(level=level) for level in AlertLevel]
    alerts.append(msgspec.structs.replace(alerts[-1], state=AlertState.RESOLVED))
    messages = [decoded(slack_message(each)) for each in alerts]
    assert [message["text"].split()[0] for message in messages] == ["*INFO*", "*WARNING*", "*CRITICAL*", "*RESOLVED*"]
    assert len({message["attachments"][0]["color"] for message in messages}) == 4


def test_the_machine_is_named_where_nobody_is(alert: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    """One channel hears many processes; a name of one's own is bound with `partial`."""
    monkeypatch.setattr("socket.gethostname", lambda: "pod-1")
    assert fields_of(decoded(slack_message(alert())))["Source"] == "pod-1"
    named = partial(slack_message, source="resizer")
    assert fields_of(decoded(named(alert())))["Source"] == "resizer"


def test_nobody_is_called(alert: Alerts) -> None:
    """Slack's control characters arrive as characters."""
    message = decoded(slack_message(alert("<!channel> & <https://example.org|here>"), source="<@U1>"))
    assert message["text"] == "*WARNING* &lt;!channel&gt; &amp; &lt;https://example.org|here&gt;"
    assert fields_of(message)["Source"] == "&lt;@U1&gt;"


def test_a_huge_message_is_cut(alert: Alerts) -> None:
    """All of it stays far below what Slack takes, escapes counted."""
    message = decoded(slack_message(alert("&" * 1_000_000), source="x" * 10_000))
    assert len(message["text"]) <= 3020
    assert message["text"].endswith("&amp;…")
    assert len(json.dumps(message)) < 10_000


@given(st.text(alphabet="&<>al;t🔥é", max_size=60), st.integers(10, 50))
def test_cutting_breaks_no_escape(text: str, longest: int) -> None:
    """What is left is the beginning of the text, and not longer than allowed."""
    escaped = _escaped(text, longest)
    assert len(escaped) <= longest
    # Slack knows these three escapes and no others.
    shown = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert shown == text or text.startswith(shown.removesuffix("…"))
    assert not {"<", ">"} & set(escaped)


def test_what_admission_did_is_shown(alert: Callable[..., MemoryAlert], outlook: AdmissionOutlook) -> None:
    """And the task class that holds most, with its share."""
    [attachment] = cast("list[Any]", slack_message(msgspec.structs.replace(alert(), admission=outlook))["attachments"])
    shown = {field["title"]: field["value"] for field in attachment["fields"]}
    assert shown["Admission"] == "queueing, 2 in flight, 3 waiting"
    assert shown["Held most by"] == "resize (75%)"
