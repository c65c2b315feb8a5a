"""What is done about memory at each look: the pressure level, the actions that it calls for, and the breaker.

Nothing of a user's runs here: actions and hooks have threads of their own, and admission defends itself. Conditions
are reported to the alerts, which tell what has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asyncmem.breaker import Circuit, Thresholds
from asyncmem.events import PressureLevel
from asyncmem.pressure import PressureLevels
from asyncmem.reclaim.critical import CriticalHooks
from asyncmem.reclaim.worker import ActionWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.admission import AdmissionController
    from asyncmem.alerts.conditions import Conditions
    from asyncmem.reclaim import PressureActions, Reclaim

__all__ = ["Response"]

_BREAKER_SECONDS: Final = 0.01
"""Admission needs no time to wait: it lets work in as soon as it fits, and after an emergency step by step."""


class Response:
    """Responds for one runtime.

    Args:
        admission: Says what is used, and sheds.
        conditions: Is told.
        actions: What is done at each level.
        reclaimers: Run the actions.
        prompt: Has memory looked at soon.
    """

    def __init__(
        self,
        admission: AdmissionController,
        conditions: Conditions,
        actions: PressureActions,
        *,
        reclaimers: Reclaim,
        prompt: Callable[[], object],
    ) -> None:
        self._admission: Final = admission
        self._conditions: Final = conditions
        self._actions: Final = actions
        self.pressure = PressureLevels()
        """How short memory is."""
        self.breaker = Circuit(Thresholds(open_at="100%"), backoff=_BREAKER_SECONDS, max_backoff=_BREAKER_SECONDS)
        """Says what admission does: it opens at capacity, and is half-open with nothing in flight."""
        self.worker = ActionWorker(reclaimers, actions, prompt=prompt)
        """Runs the actions."""
        self.critical = CriticalHooks()
        """Called when pressure stays critical."""

    def look(self, now: float) -> None:
        """Respond to the last sample, in monotonic seconds."""
        used, limit, guard = self._admission.tightest()
        pressure = self.pressure
        level = pressure.update(used, limit, guard, now)
        # By the reading and not by the level, which stays a while: what fits is not to be refused for what was.
        self._admission.is_shedding = self._actions.sheds(pressure.latest)
        self.worker.update(level, pressure.excess)
        self.critical.look(level, now, is_inside=pressure.latest is PressureLevel.CRITICAL)
        self._conditions.pressure(level, used, limit)
        state = self.breaker.read(used, limit - guard, now, in_flight=self._admission.in_flight)
        self._conditions.breaker(state, used, limit - guard)
