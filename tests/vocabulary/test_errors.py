from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from asyncmem import errors
from asyncmem.errors import (
    AdmissionRejected,
    AlertDeliveryError,
    AsyncmemError,
    CircuitOpenError,
    ConfigError,
    LimitDiscoveryError,
    MemoryLimitExceeded,
    RejectionReason,
)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (RejectionReason.MEMORY, 503),
        (RejectionReason.DEADLINE, 503),
        (RejectionReason.EVICTED, 503),
        (RejectionReason.CLOSED, 503),
        (RejectionReason.QUEUE_FULL, 429),
        (RejectionReason.TOO_LARGE, 413),
        (RejectionReason.ABANDONED, 499),
    ],
)
def test_each_reason_has_its_status(reason: RejectionReason, status: int) -> None:
    """The rejection says the same as its reason."""
    rejection = AdmissionRejected("no", reason=reason, retry_after=1.5)
    assert reason.status_code == rejection.status_code == status
    assert (str(rejection), rejection.reason, rejection.retry_after) == ("no", reason, 1.5)


def test_no_reason_is_without_a_status() -> None:
    """Each one of them is a client's or a server's error."""
    assert all(400 <= reason.status_code < 600 for reason in RejectionReason)


def test_reasons_are_words() -> None:
    """They go into logs, metrics and answers as they are."""
    words = ["memory", "deadline", "queue_full", "too_large", "pressure", "evicted", "abandoned", "closed"]
    assert [f"{reason}" for reason in RejectionReason] == words


def test_one_root_catches_all() -> None:
    """Every error of the module is an `AsyncmemError`."""
    kinds = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]
    assert {kind for kind in kinds if issubclass(kind, Exception)} == {
        AsyncmemError,
        AdmissionRejected,
        AlertDeliveryError,
        CircuitOpenError,
        ConfigError,
        LimitDiscoveryError,
        MemoryLimitExceeded,
    }
    assert all(issubclass(kind, AsyncmemError) for kind in kinds if issubclass(kind, Exception))


def test_python_knows_them_by_its_own_names() -> None:
    """Code that never heard of asyncmem handles them properly."""
    with pytest.raises(MemoryError) as exceeded:
        raise MemoryLimitExceeded("too much", requested=10, available=5)
    assert isinstance(exceeded.value, MemoryLimitExceeded)
    assert (exceeded.value.requested, exceeded.value.available) == (10, 5)
    with pytest.raises(ValueError, match="wrong"):
        raise ConfigError("wrong")
    assert not issubclass(AdmissionRejected, MemoryError | ValueError)


def test_an_open_circuit_says_when_to_come_again() -> None:
    """In seconds, and with the status for a client."""
    error = CircuitOpenError("open", retry_after=1.5)
    assert (str(error), error.retry_after, error.status_code) == ("open", 1.5, 503)
    assert not isinstance(error, MemoryError)  # or one breaker would open for another's answer


def pickled(error: Exception) -> Exception:
    """An error as a worker process sends it home."""
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - from this very process
    assert isinstance(back, Exception)
    return back


@pytest.mark.parametrize("again", [copy.copy, pickled])
@pytest.mark.parametrize(
    "error",
    [
        AdmissionRejected("no", reason=RejectionReason.QUEUE_FULL, retry_after=2.5),
        MemoryLimitExceeded("too much", requested=10, available=5),
        CircuitOpenError("open", retry_after=0.5),
        ConfigError("wrong"),
        LimitDiscoveryError("none"),
        AlertDeliveryError("nobody there"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_home_from_other_processes(again: Callable[[Exception], Exception], error: Exception) -> None:
    """With all that they carry, notes included."""
    error = copy.copy(error)
    error.add_note("while testing")
    back = again(error)
    assert type(back) is type(error)
    assert (str(back), vars(back)) == (str(error), vars(error))
    assert back.__notes__ == ["while testing"]
