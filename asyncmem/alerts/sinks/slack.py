"""An alert as a message for Slack, and for what takes Slack's incoming webhooks: Mattermost, Rocket.Chat, Discord.

Slack would rather have its own Block Kit; the others do not know it. So the message is what all of them show: ``text``,
and one attachment with a colour and fields. Sending it is the business of `asyncmem.alerts.sinks.webhook`.

Slack's limits (https://docs.slack.dev): 40 000 characters of text are stored, 4 000 recommended; ``&``, ``<`` and ``>``
are control characters, with which a message could call everybody in the channel.
"""

from __future__ import annotations

import re
import socket
from typing import Final

from asyncmem.events import AdmissionOutlook, AlertLevel, AlertState, MemoryAlert, MemorySnapshot
from asyncmem.units import format_bytes

__all__ = ["slack_message"]

_TEXT: Final = 3000
"""Characters of text at most: what one text object of Slack may hold, and fewer than any of the receivers takes."""
_FIELD: Final = 300
_COLOURS: Final = {
    AlertLevel.INFO: "#439fe0",
    AlertLevel.WARNING: "#daa038",
    AlertLevel.CRITICAL: "#d00000",
}
_RESOLVED: Final = "#2eb886"
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_BROKEN_ESCAPE: Final = re.compile(r"&[a-z]*$")


def slack_message(alert: MemoryAlert, *, source: str | None = None) -> dict[str, object]:
    """Make the JSON object that an incoming webhook of Slack takes.

    Args:
        alert: What to tell.
        source: Who tells it, shown beside the numbers; None for the name of the machine, which in Kubernetes is the
            pod's. Bind it with `functools.partial`.

    Returns:
        ``text`` and one attachment; texts that are too long are cut.
    """
    resolved = alert.state is AlertState.RESOLVED
    word = "RESOLVED" if resolved else alert.level.value.upper()
    fields = {"Source": socket.gethostname() if source is None else source}
    if alert.snapshot is not None:
        fields |= _numbers(alert.snapshot)
    if alert.admission is not None:
        fields |= _done(alert.admission)
    fields["Alert"] = alert.fingerprint
    return {
        "text": f"*{word}* {_escaped(alert.message, _TEXT)}",
        "attachments": [
            {
                "fallback": f"{word}: {_escaped(alert.message, _FIELD)}",
                "color": _RESOLVED if resolved else _COLOURS[alert.level],
                "fields": [
                    {"title": title, "value": _escaped(value, _FIELD), "short": True} for title, value in fields.items()
                ],
                "footer": "asyncmem",
                "ts": int(alert.timestamp.timestamp()),
            }
        ],
    }


def _numbers(snapshot: MemorySnapshot) -> dict[str, str]:
    limit = f"{format_bytes(snapshot.limit)} ({snapshot.percent:.1f} %)"
    return {
        "Working set": f"{format_bytes(snapshot.working_set)} of {limit}",
        "Resident": format_bytes(snapshot.rss),
        "System has available": format_bytes(snapshot.available_system),
    }


def _done(admission: AdmissionOutlook) -> dict[str, str]:
    fields = {"Admission": f"{admission.action}, {admission.in_flight} in flight, {admission.queued} waiting"}
    if admission.task_class is not None and admission.task_class_share is not None:
        fields["Held most by"] = f"{admission.task_class} ({admission.task_class_share:.0%})"
    return fields


def _escaped(text: str, longest: int) -> str:
    """Text without control characters of Slack's, cut to a length that counts the escapes."""
    escaped = text.translate(_ESCAPES)
    if len(escaped) <= longest:
        return escaped
    return _BROKEN_ESCAPE.sub("", escaped[: longest - 1]) + "…"
