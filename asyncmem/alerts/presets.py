"""Sets of thresholds to begin with, as data; `asyncmem.alerts.rules` says what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from asyncmem.alerts.rules import Threshold
from asyncmem.events import AlertLevel

__all__ = ["PRESETS"]

_GROWTH: Final = (
    Threshold("growth_mb", AlertLevel.WARNING, 100),
    Threshold("growth_mb", AlertLevel.CRITICAL, 500),
    Threshold("growth_mb_per_hour", AlertLevel.WARNING, 50),
    Threshold("growth_mb_per_hour", AlertLevel.CRITICAL, 100),
)
_LOW_SYSTEM: Final = (
    Threshold("available_mb", AlertLevel.WARNING, 500),
    Threshold("available_mb", AlertLevel.CRITICAL, 200),
)
PRESETS: Final[Mapping[str, tuple[Threshold, ...]]] = MappingProxyType(
    {
        "default": (
            Threshold("percent", AlertLevel.WARNING, 80),
            Threshold("percent", AlertLevel.CRITICAL, 90),
            *_GROWTH,
            *_LOW_SYSTEM,
        ),
        "conservative": (
            Threshold("rss_mb", AlertLevel.INFO, 1024),
            Threshold("rss_mb", AlertLevel.WARNING, 2048),
            Threshold("rss_mb", AlertLevel.CRITICAL, 3500),
            Threshold("percent", AlertLevel.WARNING, 50),
            Threshold("percent", AlertLevel.CRITICAL, 75),
            *_GROWTH,
            *_LOW_SYSTEM,
        ),
        "none": (),
    }
)
"""The sets by name. ``"default"`` suits most services: one that is near its limit, or whose machine is nearly out of
memory. ``"conservative"`` warns a service that should stay small; ``"none"`` is for those who set their own."""
