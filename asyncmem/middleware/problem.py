"""What a refusal looks like over HTTP: status, ``Retry-After`` and an RFC 9457 problem document.

For all adapters that speak HTTP. A stranger is told why and when to come back, and no figure of the process's memory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from asyncmem.errors import RejectionReason

if TYPE_CHECKING:
    from asyncmem.errors import AdmissionRejected

__all__ = ["PROBLEM_JSON", "problem_body", "retry_headers"]

PROBLEM_JSON: Final = "application/problem+json"

_REDUCED: Final = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
_QUOTA: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
_PROBLEMS: Final = {
    RejectionReason.MEMORY: (_REDUCED, "Temporary Reduced Capacity", "The memory that this request needs is in use."),
    RejectionReason.DEADLINE: (_REDUCED, "Temporary Reduced Capacity", "This request could not start in time."),
    RejectionReason.PRESSURE: (
        _REDUCED,
        "Temporary Reduced Capacity",
        "Memory is short, and this request is among the less urgent ones.",
    ),
    RejectionReason.EVICTED: (
        _REDUCED,
        "Temporary Reduced Capacity",
        "Memory ran short while this request was served.",
    ),
    RejectionReason.ABANDONED: ("about:blank", "Client Closed Request", "The client has gone."),
    RejectionReason.CLOSED: (_REDUCED, "Temporary Reduced Capacity", "The service is shutting down."),
    RejectionReason.QUEUE_FULL: (_QUOTA, "Quota Exceeded", "Too many requests wait already."),
    RejectionReason.TOO_LARGE: (
        "about:blank",
        "Content Too Large",
        "This request needs more memory than the service can ever give to one request.",
    ),
}


def retry_headers(rejection: AdmissionRejected) -> dict[str, str]:
    """``Retry-After`` in whole seconds and ``retry-after-ms``, or nothing where no other try is worth it."""
    if rejection.retry_after is None:
        return {}
    return {
        "Retry-After": str(max(1, math.ceil(rejection.retry_after))),
        "retry-after-ms": str(math.ceil(rejection.retry_after * 1000)),
    }


def problem_body(rejection: AdmissionRejected) -> bytes:
    """The problem document, as JSON."""
    kind, title, detail = _PROBLEMS[rejection.reason]
    document = {
        "type": kind,
        "title": title,
        "status": rejection.status_code,
        "detail": detail,
        "reason": rejection.reason.value,
    }
    return msgspec.json.encode(document)
