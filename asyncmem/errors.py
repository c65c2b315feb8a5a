"""Every error that asyncmem raises on purpose.

::

    Exception
     └── AsyncmemError
          ├── AdmissionRejected    memory, a queue or a deadline said no; try again later
          ├── CircuitOpenError     a memory circuit breaker lets no work through; try again later
          ├── MemoryLimitExceeded  the work needs more than there can ever be (also a MemoryError)
          ├── LimitDiscoveryError  no memory limit could be read at all
          ├── AlertDeliveryError   an alert did not reach whom it was for
          └── ConfigError          a setting or an argument is wrong (also a ValueError)

A message says what was wrong, the value met, the value expected, and what to do next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial

__all__ = [
    "AdmissionRejected",
    "AlertDeliveryError",
    "AsyncmemError",
    "CircuitOpenError",
    "ConfigError",
    "LimitDiscoveryError",
    "MemoryLimitExceeded",
    "RejectionReason",
]


class RejectionReason(StrEnum):
    """Why admission said no, and the HTTP status that says so."""

    MEMORY = "memory"
    """The memory did not become available within the longest wait."""
    DEADLINE = "deadline"
    """The caller's own deadline would pass, or has passed, in the queue."""
    QUEUE_FULL = "queue_full"
    """As many waiters are queued as the settings allow."""
    TOO_LARGE = "too_large"
    """The declared cost can never fit."""
    PRESSURE = "pressure"
    """Memory pressure is high, and the priority of the work is low."""
    EVICTED = "evicted"
    """The work ran and was cancelled, because memory had run short and it is safe to repeat."""
    ABANDONED = "abandoned"
    """Whoever asked has gone."""
    CLOSED = "closed"
    """The runtime is shutting down."""

    @property
    def status_code(self) -> int:
        """The HTTP status: 429 for the queue, 413 for what never fits, 499 where nobody waits any more, else 503."""
        match self:
            case RejectionReason.QUEUE_FULL:
                return 429
            case RejectionReason.TOO_LARGE:
                return 413
            case RejectionReason.ABANDONED:
                return 499
            case _:
                return 503


class AsyncmemError(Exception):
    """The root of asyncmem's errors."""


class AdmissionRejected(AsyncmemError):  # noqa: N818 - the name is a contract: it is an answer, not a fault
    """Admission refused the work; nothing was reserved.

    Args:
        message: What was refused, with the numbers that led to it.
        reason: Which bound refused it.
        retry_after: Seconds after which another try is worth it; None where none ever is.
    """

    def __init__(self, message: str, *, reason: RejectionReason, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[object, ...], Mapping[str, object]]:
        # As exceptions do, and with the keywords: worker processes send their errors home pickled.
        make = partial(type(self), reason=self.reason, retry_after=self.retry_after)
        return make, self.args, self.__dict__

    @property
    def status_code(self) -> int:
        """The HTTP status that tells a client the same."""
        return self.reason.status_code


class CircuitOpenError(AsyncmemError):
    """A memory circuit breaker let the work not through; it has not begun.

    Args:
        message: What was measured, the threshold, and what to do.
        retry_after: Seconds after which another try is worth it, as far as can be foreseen.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[object, ...], Mapping[str, object]]:
        return partial(type(self), retry_after=self.retry_after), self.args, self.__dict__

    @property
    def status_code(self) -> int:
        """The HTTP status that tells a client the same: 503."""
        return 503


class MemoryLimitExceeded(AsyncmemError, MemoryError):  # noqa: N818 - the name is a contract
    """The work asks for more bytes than the limit can ever give.

    Args:
        message: What was asked for, with the numbers.
        requested: Bytes asked for.
        available: Bytes that there can be at most.
    """

    def __init__(self, message: str, *, requested: int, available: int) -> None:
        super().__init__(message)
        self.requested = requested
        self.available = available

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[object, ...], Mapping[str, object]]:
        make = partial(type(self), requested=self.requested, available=self.available)
        return make, self.args, self.__dict__


class LimitDiscoveryError(AsyncmemError):
    """Not one memory limit could be read: no cgroup, no rlimit, not even the machine's size."""


class AlertDeliveryError(AsyncmemError):
    """An alert did not reach whom it was for; the message names no secret, neither does a chained error."""


class ConfigError(AsyncmemError, ValueError):
    """A setting or an argument has a value that it cannot have."""
