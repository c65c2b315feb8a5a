"""What a stranger is told when the answer is no."""

from __future__ import annotations

import json

import pytest

from asyncmem.errors import AdmissionRejected, RejectionReason
from asyncmem.middleware.problem import PROBLEM_JSON, problem_body, retry_headers

REGISTRY = "https://iana.org/assignments/http-problem-types#"


def rejected(reason: RejectionReason, retry_after: float | None = None) -> AdmissionRejected:
    """A rejection whose message has figures that are nobody's business."""
    return AdmissionRejected(
        "'POST /secret' needs 123456789 of 987654321 bytes", reason=reason, retry_after=retry_after
    )


@pytest.mark.parametrize("reason", RejectionReason)
def test_every_reason_has_a_document(reason: RejectionReason) -> None:
    """RFC 9457's members and the reason, with the status that the answer has too."""
    document = json.loads(problem_body(rejected(reason)))
    assert set(document) == {"type", "title", "status", "detail", "reason"}
    assert document["status"] == reason.status_code
    assert document["reason"] == reason.value
    assert document["title"]
    assert document["detail"].endswith(".")


@pytest.mark.parametrize("reason", RejectionReason)
def test_no_figure_and_no_route_is_told(reason: RejectionReason) -> None:
    """The message is for the log."""
    body = problem_body(rejected(reason)).decode()
    assert "secret" not in body
    assert "123456789" not in body
    assert "987654321" not in body


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (RejectionReason.MEMORY, f"{REGISTRY}temporary-reduced-capacity"),
        (RejectionReason.DEADLINE, f"{REGISTRY}temporary-reduced-capacity"),
        (RejectionReason.CLOSED, f"{REGISTRY}temporary-reduced-capacity"),
        (RejectionReason.QUEUE_FULL, f"{REGISTRY}quota-exceeded"),
        (RejectionReason.TOO_LARGE, "about:blank"),
    ],
)
def test_types_are_registered_ones(reason: RejectionReason, kind: str) -> None:
    """Or none at all, where the status says everything."""
    assert json.loads(problem_body(rejected(reason)))["type"] == kind


@pytest.mark.parametrize(
    ("seconds", "whole", "milliseconds"),
    [(0.0, "1", "0"), (0.2, "1", "200"), (1.0, "1", "1000"), (1.0001, "2", "1001"), (30, "30", "30000")],
)
def test_retry_after_is_rounded_up(seconds: float, whole: str, milliseconds: str) -> None:
    """In whole seconds of at least one, as HTTP has it, and in milliseconds for clients that read them."""
    headers = retry_headers(rejected(RejectionReason.MEMORY, seconds))
    assert headers == {"Retry-After": whole, "retry-after-ms": milliseconds}


def test_where_no_other_try_is_worth_it_none_is_suggested() -> None:
    """Without the headers."""
    assert retry_headers(rejected(RejectionReason.TOO_LARGE)) == {}


def test_the_media_type_is_the_registered_one() -> None:
    """As RFC 9457 has it."""
    assert PROBLEM_JSON == "application/problem+json"
