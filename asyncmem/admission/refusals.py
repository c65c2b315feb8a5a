"""What is said to work that is refused: why, with which numbers, and when to come back."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Final

from asyncmem.errors import AdmissionRejected, RejectionReason
from asyncmem.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.admission.forecast import Forecast
    from asyncmem.admission.gate import Gate

__all__ = ["Refusals"]

_RETRY_LEAST: Final = 1.0
_SHORT_OF_MEMORY: Final = frozenset(
    {RejectionReason.MEMORY, RejectionReason.DEADLINE, RejectionReason.QUEUE_FULL, RejectionReason.PRESSURE}
)


class Refusals:
    """Makes and counts refusals.

    Args:
        gate: Says whether anything is in flight.
        forecast: Says when another try is worth it.
        queue_timeout: The longest wait in seconds, for the message.
        clock: Monotonic seconds.
    """

    __slots__ = ("_clock", "_counts", "_forecast", "_gate", "_lock", "_queue_timeout", "idle", "short_at")

    def __init__(self, gate: Gate, forecast: Forecast, queue_timeout: float, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts: dict[RejectionReason, int] = dict.fromkeys(RejectionReason, 0)
        self._gate = gate
        self._lock = threading.Lock()
        self.short_at = -math.inf
        """When work was last refused for want of memory, in monotonic seconds."""
        self.idle = 0
        """Refusals of work that could fit while nothing was in flight, which there should be none of."""
        self._queue_timeout = queue_timeout
        self._forecast = forecast

    def counts(self) -> dict[str, int]:
        """Refusals so far by reason; reasons that did not occur are left out."""
        with self._lock:
            return {reason.value: count for reason, count in self._counts.items() if count}

    def short_of_memory(self) -> int:
        """Refusals so far for want of memory."""
        with self._lock:
            return sum(self._counts[reason] for reason in _SHORT_OF_MEMORY)

    def closed(self) -> AdmissionRejected:
        """The runtime is shut down."""
        message = "the memory runtime is shut down and admits no more work"
        return self._make(RejectionReason.CLOSED, message, _RETRY_LEAST)

    def abandoned(self) -> AdmissionRejected:
        """Whoever asked has gone."""
        message = "the client went away while its request waited for memory"
        return self._make(RejectionReason.ABANDONED, message, None)

    def evicted(self, task_class: str, nbytes: int) -> AdmissionRejected:
        """The work ran, and was ended to free its memory."""
        message = f"{task_class!r}, of {format_bytes(nbytes)}, was cancelled because memory had run short"
        return self._make(RejectionReason.EVICTED, message, self._retry_after())

    def shed(self, task_class: str) -> AdmissionRejected:
        """Its priority is low, and pressure is high."""
        message = f"{task_class!r} has low priority, and such work is refused while memory pressure is high"
        return self._make(RejectionReason.PRESSURE, message, self._retry_after())

    def queue_full(self, task_class: str, nbytes: int, waiting: int) -> AdmissionRejected:
        """As many wait as may."""
        message = f"{_wanted(task_class, nbytes)}, and {waiting} already wait for memory, as many as max_queue allows"
        return self._make(RejectionReason.QUEUE_FULL, message, self._retry_after())

    def queue_too_heavy(self, task_class: str, nbytes: int, held: int) -> AdmissionRejected:
        """Those that wait take as much memory by waiting as they may."""
        message = f"{_wanted(task_class, nbytes)}, and those that wait already take {format_bytes(held)} by waiting"
        return self._make(RejectionReason.QUEUE_FULL, message, self._retry_after())

    def too_late(self, task_class: str, nbytes: int, reason: RejectionReason) -> AdmissionRejected:
        """The memory did not become free before the deadline or within the longest wait."""
        message = f"{_wanted(task_class, nbytes)}, which did not become free {self._bound(reason)}"
        return self._make(reason, message, self._retry_after())

    def hopeless(self, task_class: str, nbytes: int, reason: RejectionReason, predicted: float) -> AdmissionRejected:
        """It is foreseeable that the memory will not become free in time."""
        message = (
            f"{_wanted(task_class, nbytes)}, which is not expected to become free {self._bound(reason)}: "
            f"the wait would be about {predicted:.1f} s"
        )
        return self._make(reason, message, self._retry_after())

    def outgrown(self, task_class: str, nbytes: int, most: int) -> AdmissionRejected:
        """What was learned of it is more than there is; it is tried again from time to time."""
        message = (
            f"{_wanted(task_class, nbytes)}, as was learned from those that ran, and at most "
            f"{format_bytes(max(0, most))} can be given to one piece of work; it is tried again from time to time"
        )
        return self._make(RejectionReason.MEMORY, message, self._retry_after(), fits=False)

    def too_large(self, task_class: str, nbytes: int, most: int) -> AdmissionRejected:
        """The declared cost is more than `most`, which is all that one piece of work can ever be given."""
        message = (
            f"{_wanted(task_class, nbytes)}, and at most {format_bytes(max(0, most))} can ever be given to one piece "
            "of work; split it, or raise the memory limit"
        )
        return self._make(RejectionReason.TOO_LARGE, message, None)

    def _retry_after(self) -> float:
        gate = self._gate
        return self._forecast.retry_after(gate.queue.wanted, 0, 0, gate.in_flight)

    def _bound(self, reason: RejectionReason) -> str:
        if reason is RejectionReason.DEADLINE:
            return "before the deadline"
        return f"within queue_timeout ({self._queue_timeout:g} s)"

    def _make(
        self, reason: RejectionReason, message: str, retry_after: float | None, *, fits: bool = True
    ) -> AdmissionRejected:
        with self._lock:
            self._counts[reason] += 1
            if reason in _SHORT_OF_MEMORY:
                self.short_at = self._clock()
            if fits and reason in _SHORT_OF_MEMORY and not self._gate.in_flight:
                self.idle += 1
        return AdmissionRejected(message, reason=reason, retry_after=retry_after)


def _wanted(task_class: str, nbytes: int) -> str:
    return f"{task_class!r} needs {format_bytes(nbytes)}"
