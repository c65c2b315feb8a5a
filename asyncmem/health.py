"""Whether a guarded process is alive and ready, apart from any framework.

Alive asks nothing of anything: a process that answers is alive. Ready asks the runtime and the service's own check.
Neither needs memory admission.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.runtime import MemoryRuntime

__all__ = ["HealthReport", "readiness"]


class HealthReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer to a probe."""

    status: str
    """``ok`` or ``unavailable``."""
    reason: str | None = None
    """Why it is not ready."""

    @property
    def status_code(self) -> int:
        """The HTTP status: 200 or 503."""
        return 200 if self.status == "ok" else 503


def readiness(runtime: MemoryRuntime, check: Callable[[], str | None] | None = None) -> HealthReport:
    """Whether work sent now would be served.

    Args:
        runtime: The runtime that guards the process.
        check: The service's own: None when ready, else the reason why not.
    """
    if not runtime.is_running:
        return HealthReport(status="unavailable", reason="not running")
    reason = check() if check is not None else None
    return HealthReport(status="ok") if reason is None else HealthReport(status="unavailable", reason=reason)
