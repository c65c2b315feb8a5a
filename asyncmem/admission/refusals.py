"""What is said to work that is refused: why, with which numbers, and when to come back."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Final

from asyncmem.errors import AdmissionRejected, RejectionReason
from asyncmem.units import format_bytes

if TYPE_CHECKING:
    from asyncmem.admission.gate import Gate

__all__ = ["Refusals"]

_RETRY_LEAST: Final = 1.0
_RETRY_MOST: Final = 60.0
_JITTER: Final = 0.25
"""Clients that were refused together come back apart."""
_SMOOTHING: Final = 0.1


class Refusals:
    """Makes and counts refusals.

    Args:
        gate: Tells how many wait and run.
        queue_timeout: The longest wait in seconds, for the message.
    """

    __slots__ = ("_counts", "_gate", "_hold_seconds", "_lock", "_queue_timeout")

    def __init__(self, gate: Gate, queue_timeout: float) -> None:
        self._gate = gate
        self._queue_timeout = queue_timeout
        self._counts: dict[RejectionReason, int] = dict.fromkeys(RejectionReason, 0)
        self._lock = threading.Lock()
        self._hold_seconds = 1.0

    def observe(self, seconds: float) -> None:
        """Learn how long work usually holds its permit."""
        self._hold_seconds += _SMOOTHING * (seconds - self._hold_seconds)

    def counts(self) -> dict[str, int]:
        """Refusals so far by reason; reasons that did not occur are left out."""
        with self._lock:
            return {reason.value: count for reason, count in self._counts.items() if count}

    def closed(self) -> AdmissionRejected:
        """The runtime is shut down."""
        message = "the memory runtime is shut down and admits no more work"
        return self._make(RejectionReason.CLOSED, message, _RETRY_LEAST)

    def queue_full(self, task_class: str, nbytes: int) -> AdmissionRejected:
        """As many wait as may."""
        waiting = len(self._gate.queue)
        message = f"{_wanted(task_class, nbytes)}, and {waiting} already wait for memory, as many as max_queue allows"
        return self._make(RejectionReason.QUEUE_FULL, message, self._retry_after())

    def too_late(self, task_class: str, nbytes: int, reason: RejectionReason) -> AdmissionRejected:
        """The memory did not become free before the deadline or within the longest wait."""
        bound = (
            "before the deadline"
            if reason is RejectionReason.DEADLINE
            else f"within queue_timeout ({self._queue_timeout:g} s)"
        )
        message = f"{_wanted(task_class, nbytes)}, which did not become free {bound}"
        return self._make(reason, message, self._retry_after())

    def too_large(self, task_class: str, nbytes: int, most: int) -> AdmissionRejected:
        """The declared cost is more than `most`, which is all that one piece of work can ever be given."""
        message = (
            f"{_wanted(task_class, nbytes)}, and at most {format_bytes(max(0, most))} can ever be given to one piece "
            "of work; split it, or raise the memory limit"
        )
        return self._make(RejectionReason.TOO_LARGE, message, None)

    def _make(self, reason: RejectionReason, message: str, retry_after: float | None) -> AdmissionRejected:
        with self._lock:
            self._counts[reason] += 1
        return AdmissionRejected(message, reason=reason, retry_after=retry_after)

    def _retry_after(self) -> float:
        """Seconds until those that wait now have likely been served: their rounds times the usual length of work."""
        rounds = 1 + len(self._gate.queue) / max(1, self._gate.in_flight)
        seconds = min(_RETRY_MOST, max(_RETRY_LEAST, rounds * self._hold_seconds))
        return seconds * (1 + _JITTER * random.random())  # noqa: S311 - spreads clients, guards no secret


def _wanted(task_class: str, nbytes: int) -> str:
    return f"{task_class!r} needs {format_bytes(nbytes)}"
