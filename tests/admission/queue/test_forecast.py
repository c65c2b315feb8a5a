"""Predicted waits: from the rate at which bytes come back, only on evidence, and not moved by what is rare."""

from __future__ import annotations

import random

import pytest

from asyncmem.admission.forecast import Forecast
from asyncmem.testing import ManualClock
from asyncmem.units import MIB


class Service:
    """Work that ends at a steady rate, on time that is set by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.jitter = 0.0
        self.forecast = Forecast(self.clock, uniform=lambda: self.jitter)

    def run(self, times: int, *, every: float, nbytes: int = 10 * MIB, held: float = 0.5, waiting: bool = True) -> None:
        """Let work end, one after the other."""
        for _ in range(times):
            self.clock.advance(every)
            self.forecast.observe_release(nbytes, held, self.clock.monotonic(), waiting)

    def wait(self, ahead: int, nbytes: int = 0, free: int = 0, in_flight: int = 4) -> float | None:
        """The predicted wait."""
        return self.forecast.predict_wait(ahead, nbytes, free, in_flight)


def test_the_wait_is_what_is_missing_over_the_rate() -> None:
    """Ten pieces of 10 MiB in a second: 200 MiB ahead and 50 wanted with 50 free are two seconds."""
    service = Service()
    service.run(20, every=0.1)
    assert service.wait(200 * MIB, 50 * MIB, 50 * MIB) == pytest.approx(2.0)
    assert service.wait(0, 50 * MIB, -50 * MIB) == pytest.approx(1.0)
    assert service.wait(0, 50 * MIB, 50 * MIB) == 0.0


def test_nothing_is_predicted_on_too_little_evidence() -> None:
    """Some releases are needed between which time passed, and nobody is refused before."""
    service = Service()
    assert service.wait(100 * MIB) is None
    service.run(8, every=0.1)
    assert service.wait(100 * MIB) is None
    assert not service.forecast.exceeds(0.001, 10**12, 0, 0, 4)
    service.run(1, every=0.1)
    assert service.wait(100 * MIB) is not None
    standing = Service()
    standing.run(100, every=0.0)
    assert standing.wait(100 * MIB) is None


def test_a_rate_at_which_nobody_waited_is_no_rate() -> None:
    """A quiet service is not a slow one: three pieces in a minute were all that was asked of it."""
    service = Service()
    service.run(20, every=20.0, waiting=False)
    assert service.wait(100 * MIB) is None
    service.run(10, every=0.1)
    assert service.wait(100 * MIB) == pytest.approx(1.0)
    service.run(10, every=20.0, waiting=False)
    service.run(1, every=20.0)
    assert service.wait(100 * MIB) == pytest.approx(1.0)
    service.run(1, every=0.4, waiting=False)
    service.run(1, every=0.4)
    assert service.wait(100 * MIB) == pytest.approx(1.0)


def test_an_hour_between_two_crowds_is_not_counted() -> None:
    """Though somebody waited at its beginning and at its end."""
    service = Service()
    service.run(20, every=0.1)
    service.run(20, every=3600.0)
    service.run(1, every=0.1)
    assert service.wait(100 * MIB) == pytest.approx(1.0)


def test_an_old_rate_is_no_rate() -> None:
    """What a crowd of a minute ago showed may not hold any more."""
    service = Service()
    service.run(20, every=0.1)
    service.clock.advance(60.0)
    assert service.wait(100 * MIB) is None


def test_the_rate_follows_a_change() -> None:
    """Ten times slower from now on: within half a minute the forecast says so."""
    service = Service()
    service.run(200, every=0.1)
    service.run(30, every=1.0)
    wait = service.wait(100 * MIB)
    assert wait is not None
    assert 5.0 < wait <= 10.0
    service.run(100, every=1.0)
    assert service.wait(100 * MIB) == pytest.approx(10.0, rel=0.05)


def test_slow_work_has_a_rate_too() -> None:
    """Pieces that take a minute, of which one ends every twenty seconds."""
    service = Service()
    service.run(30, every=20.0, held=60.0)
    assert service.wait(100 * MIB) == pytest.approx(200.0)


def test_nothing_is_predicted_where_nothing_can_end() -> None:
    """With nothing in flight the next is admitted, not told to wait."""
    service = Service()
    service.run(20, every=0.1)
    assert service.wait(100 * MIB, in_flight=0) is None
    assert not service.forecast.exceeds(0.001, 10**12, 0, 0, 0)


@pytest.mark.parametrize(
    ("deadline", "ahead_mib", "exceeds"),
    [(1.0, 90, False), (1.0, 99, False), (1.0, 110, True), (1.0, 1000, True), (10.0, 1000, False), (10.0, 1460, True)],
)
def test_refused_by_a_wide_margin_only(deadline: float, ahead_mib: int, exceeds: bool) -> None:
    """At 100 MiB a second and half a second of service: wait and service beyond one and a half deadlines."""
    service = Service()
    service.run(20, every=0.1)
    assert service.forecast.exceeds(deadline, ahead_mib * MIB, 0, 0, 4) is exceeds


def test_long_work_of_others_does_not_refuse_what_need_not_wait() -> None:
    """The wait alone must exceed the deadline."""
    service = Service()
    service.run(20, every=0.1, held=600.0)
    assert not service.forecast.exceeds(1.0, 99 * MIB, 0, 0, 4)
    assert not service.forecast.exceeds(1.0, 0, 10 * MIB, 20 * MIB, 4)
    assert service.forecast.exceeds(1.0, 101 * MIB, 0, 0, 4)


def test_connections_of_an_hour_do_not_make_work_long() -> None:
    """One in five is a WebSocket, the first as well: what is typical stays half a second, and so does the advice."""
    service = Service()
    for _ in range(100):
        service.run(1, every=0.1, held=3600.0)
        service.run(4, every=0.1)
    assert service.forecast.typical_seconds == pytest.approx(0.5, rel=0.15)
    assert service.forecast.retry_after(100 * MIB, 0, 0, 4) == pytest.approx(1.0)
    assert Service().forecast.typical_seconds == 0.0


def test_what_is_typical_is_the_median() -> None:
    """Of lengths over three decades, within a factor of two, and it follows a change."""
    service, generator = Service(), random.Random(1)  # noqa: S311 - a seed for a test
    for _ in range(2000):
        service.run(1, every=0.01, held=10.0 ** generator.uniform(-2, 1), waiting=False)
    assert 10**-0.5 / 2 < service.forecast.typical_seconds < 10**-0.5 * 2
    service.run(200, every=0.01, held=0.0, waiting=False)
    assert service.forecast.typical_seconds < 0.001
    service.run(400, every=0.01, held=5.0, waiting=False)
    assert service.forecast.typical_seconds == pytest.approx(5.0, rel=0.1)


def test_work_of_no_length_to_begin_with() -> None:
    """The median can rise from nothing."""
    service = Service()
    service.run(20, every=0.01, held=0.0)
    assert service.forecast.typical_seconds == 0.0
    service.run(400, every=0.01, held=5.0)
    assert service.forecast.typical_seconds == pytest.approx(5.0, rel=0.1)


def test_advice_when_to_come_back_is_from_one_to_sixty_seconds() -> None:
    """Whatever is predicted, and where nothing is."""
    service = Service()
    assert service.forecast.retry_after(10**12, 0, 0, 4) == 1.0
    service.run(20, every=0.1)
    assert service.forecast.retry_after(0, 0, 0, 4) == 1.0
    assert service.forecast.retry_after(2000 * MIB, 0, 0, 4) == pytest.approx(20.0)
    assert service.forecast.retry_after(10**12, 0, 0, 4) == pytest.approx(48.0)
    service.jitter = 1.0
    assert service.forecast.retry_after(0, 0, 0, 4) == 1.25
    assert service.forecast.retry_after(2000 * MIB, 0, 0, 4) == pytest.approx(25.0)
    assert service.forecast.retry_after(10**12, 0, 0, 4) == pytest.approx(60.0)


def test_the_advice_is_spread() -> None:
    """So that those refused together do not come back together, at the upper end neither."""
    forecast = Forecast(ManualClock())
    for ahead in (0, 10**15):
        advice = [forecast.retry_after(ahead, 0, 0, 4) for _ in range(200)]
        assert min(advice) >= 1.0
        assert max(advice) <= 60.0
        assert len(set(advice)) > 190
        assert max(advice) / min(advice) > 1.2
