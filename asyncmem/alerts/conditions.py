"""The conditions that the runtime reports: pressure, shedding, reclaim.

Each is one episode of `AlertManager.report`, so that work refused for a minute is one alert and its end, and no storm.
Not here: what raises them (`asyncmem.pressure`, `asyncmem.admission`, `asyncmem.reclaim`), and when they are looked at.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from asyncmem.alerts.episodes import Detail
from asyncmem.events import AlertLevel, AlertType, PressureLevel
from asyncmem.units import MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Conditions:
    """Reports to one manager. Called by one thread at a time.

    Args:
        alerts: The manager.
        snapshot: Takes a reading, for an alert that is going to be told.
    """

    __slots__ = ("_alerts", "_evicted", "_freed", "_rejected", "_snapshot")

    def __init__(self, alerts: AlertManager, snapshot: Callable[[], MemorySnapshot]) -> None:
        self._alerts: Final = alerts
        self._snapshot: Final = snapshot
        self._rejected = self._evicted = self._freed = 0

    def pressure(self, level: PressureLevel, used: int, limit: int) -> None:
        """The pressure level at a look, with bytes used and bytes of the limit."""
        self._alerts.report(
            "pressure",
            _PRESSURE.get(level),
            partial(self._pressure, level, used, limit),
            alert_type=AlertType.PRESSURE_CHANGE,
        )

    def shedding(self, rejected: int, evicted: int) -> None:
        """Work refused for want of memory, and work cancelled to free it, so far."""
        refused, cancelled = rejected - self._rejected, evicted - self._evicted
        self._rejected, self._evicted = rejected, evicted
        self._alerts.report(
            "shedding",
            AlertLevel.CRITICAL if cancelled else AlertLevel.WARNING if refused else None,
            partial(self._shedding, refused, cancelled),
            alert_type=AlertType.SHEDDING,
        )

    def reclaimed(self, bytes_freed: int) -> None:
        """Bytes that reclaim has given back so far."""
        freed, self._freed = bytes_freed - self._freed, bytes_freed
        self._alerts.report(
            "reclaim",
            AlertLevel.INFO if freed >= _WORTH else None,
            partial(self._reclaimed, freed),
            alert_type=AlertType.RECLAIM,
        )

    def _pressure(self, level: PressureLevel, used: int, limit: int) -> Detail:
        message = f"memory pressure is {level}: {format_bytes(used)} of {format_bytes(limit)} are in use"
        return Detail(message, float(used), float(limit), self._snapshot())

    def _shedding(self, refused: int, cancelled: int) -> Detail:
        if not refused and not cancelled:
            return Detail("work is no longer refused for want of memory", 0.0, snapshot=self._snapshot())
        message = f"{refused} pieces of work were refused for want of memory, and {cancelled} cancelled to free it"
        return Detail(message, float(refused + cancelled), snapshot=self._snapshot())

    def _reclaimed(self, freed: int) -> Detail:
        if freed < _WORTH:
            return Detail("no more memory is given back by reclaim", 0.0, snapshot=self._snapshot())
        return Detail(f"reclaim gave {format_bytes(freed)} back", float(freed), snapshot=self._snapshot())
