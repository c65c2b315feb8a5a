"""What a runtime has raised while a block ran."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncmem.alerts import AlertManager
    from asyncmem.events import MemoryAlert

__all__ = ["capture_alerts"]


@contextmanager
def capture_alerts(alerts: AlertManager) -> Iterator[list[MemoryAlert]]:
    """Collect the alerts that are raised inside the block, at once and in order.

    ::

        with capture_alerts(memory.alerts) as raised:
            memory.check_now()
        assert raised[0].level is AlertLevel.CRITICAL

    Args:
        alerts: Usually ``memory.alerts``.
    """
    raised: list[MemoryAlert] = []
    subscription = alerts.add_handler(raised.append, immediate=True)
    try:
        yield raised
    finally:
        subscription.remove()
