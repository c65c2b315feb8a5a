"""The conditions that the runtime reports: pressure, the breaker, shedding, reclaim, and another limit.

Each but the last is one episode of `AlertManager.report`, so that work refused for a minute is one alert and its end,
and no storm. Not here: what raises them (`asyncmem.pressure`, `asyncmem.admission`, `asyncmem.reclaim`,
`asyncmem.limits`), and when they are looked at.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Final

from asyncmem.alerts.episode import Fingerprints
from asyncmem.events import AlertLevel, AlertType, BreakerState, MemoryAlert, PressureLevel
from asyncmem.sampling.forks import forget_after_fork
from asyncmem.units import MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem._clock import Clock
    from asyncmem.alerts.manager import AlertManager
    from asyncmem.events import MemorySnapshot

__all__ = ["Conditions"]

_PRESSURE: Final = {
    PressureLevel.MEDIUM: AlertLevel.INFO,
    PressureLevel.HIGH: AlertLevel.WARNING,
    PressureLevel.CRITICAL: AlertLevel.CRITICAL,
}
_WORTH: Final = MIB
"""Bytes from which on it is worth telling that they were given back."""
_LIMIT_SECONDS: Final = 1.0
"""A limit that changes again and again is told as often as this."""


class Conditions:
    """Reports to one manager.

    Args:
        alerts: The manager.
        snapshot: Takes a reading.
        clock: Where time comes from.
    """

    def __init__(self, alerts: AlertManager, snapshot: Callable[[], MemorySnapshot], clock: Clock) -> None:
        self._alerts: Final = alerts
        self._snapshot: Final = snapshot
        self._clock: Final = clock
        self._fingerprints: Final = Fingerprints()
        self._lock = threading.Lock()
        self._pressure = PressureLevel.LOW
        self._is_open = False
        self._seen: MemorySnapshot | None = None
        self._rejected = self._evicted = self._freed = 0
        self._limit: int | None = None
        self._limit_told = -math.inf
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock, which a thread of the parent may have held."""
        self._lock = threading.Lock()

    def pressure(self, level: PressureLevel, used: int, limit: int) -> None:
        """The pressure level at a look, with bytes used and bytes of the limit. From one thread."""
        if level is PressureLevel.LOW and not self._alerts.is_firing("pressure"):
            self._pressure = level
            return
        if level is not self._pressure:
            self._pressure, self._seen = level, self._taken()
        self._alerts.report(
            "pressure",
            _PRESSURE.get(level),
            f"memory pressure is {level}: {format_bytes(used)} of {format_bytes(limit)} are in use",
            alert_type=AlertType.PRESSURE_CHANGE,
            value=float(used),
            threshold=float(limit),
            snapshot=self._seen,
        )

    def breaker(self, state: BreakerState, used: int, capacity: int) -> None:
        """The state of admission's breaker at a look, with bytes used and bytes of the capacity."""
        is_open = state is BreakerState.OPEN
        if not is_open and not self._alerts.is_firing("breaker"):
            return
        if is_open and not self._is_open:
            self._seen = self._taken()
        self._is_open = is_open
        self._alerts.report(
            "breaker",
            AlertLevel.WARNING if is_open else None,
            f"admission's breaker is {state}: {format_bytes(used)} of {format_bytes(capacity)} are in use",
            alert_type=AlertType.BREAKER_CHANGE,
            value=float(used),
            threshold=float(capacity),
            snapshot=self._seen,
        )

    def shedding(self, rejected: int, evicted: int, snapshot: MemorySnapshot) -> None:
        """Work refused for want of memory, and work cancelled to free it, so far."""
        with self._lock:
            refused, cancelled = rejected - self._rejected, evicted - self._evicted
            self._rejected, self._evicted = rejected, evicted
        message = f"refused for want of memory: {refused}, cancelled to free it: {cancelled}"
        self._alerts.report(
            "shedding",
            AlertLevel.CRITICAL if cancelled else AlertLevel.WARNING if refused else None,
            message if refused or cancelled else "no work is refused for want of memory any more",
            alert_type=AlertType.SHEDDING,
            value=float(refused + cancelled),
            snapshot=snapshot,
        )

    def reclaimed(self, bytes_freed: int, snapshot: MemorySnapshot) -> None:
        """Bytes that reclaim has given back so far."""
        with self._lock:
            freed, self._freed = bytes_freed - self._freed, bytes_freed
        is_worth_it = freed >= _WORTH
        self._alerts.report(
            "reclaim",
            AlertLevel.INFO if is_worth_it else None,
            f"reclaim gave {format_bytes(freed)} back" if is_worth_it else "no more memory is given back by reclaim",
            alert_type=AlertType.RECLAIM,
            value=float(freed),
            snapshot=snapshot,
        )

    def limit(self, limit: int, source: str) -> None:
        """Bytes of the binding limit, and where it was found."""
        now = self._clock.monotonic()
        with self._lock:
            before = self._limit
            if before == limit or (before is not None and now - self._limit_told < _LIMIT_SECONDS):
                return
            self._limit, self._limit_told = limit, -math.inf if before is None else now
        if before is None:
            return
        self._alerts.emit(
            MemoryAlert(
                level=AlertLevel.WARNING if limit < before else AlertLevel.INFO,
                alert_type=AlertType.LIMIT_CHANGED,
                message=f"the memory limit changed from {format_bytes(before)} to {format_bytes(limit)} ({source})",
                timestamp=self._clock.now(),
                fingerprint=self._fingerprints.new("limit"),
                value=float(limit),
                threshold=float(before),
            )
        )

    def _taken(self) -> MemorySnapshot | None:
        try:
            return self._snapshot()
        except Exception:  # noqa: BLE001 - an alert without it is better than none
            return None
