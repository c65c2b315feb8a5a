"""Follows the limits of a running process, which can change under it: a container is resized in place.

They are read again at each check of the runtime, and while work in flight holds much ten times a second; those that can
be seen to change, the files of visible cgroups, are compared at each look. Admission then takes the bounds over, and
the kernel is told anew at which usages to call.

Not here: where limits are found (`limits`), and what becomes of work that a lowered one will not hold (`admission`).
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from asyncmem.sampling.forks import forget_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem._clock import Clock
    from asyncmem.admission import AdmissionController
    from asyncmem.alerts import AlertManager
    from asyncmem.limits import Limits
    from asyncmem.sampling import KernelEvents

__all__ = ["LimitFollower"]

_SECONDS: Final = 0.1
"""All limits are read again as often as this while work in flight holds much: one that is lowered below what was
admitted kills within a second. It takes some 0.1 ms."""


class LimitFollower:
    """Follows the limits of one runtime.

    Args:
        limits: Finds them.
        admission: Works within them.
        alerts: Has thresholds on shares of them.
        kernel_events: Is told at which usages to call.
        prompt: Called when those have changed: the watcher may be waiting at earlier ones.
        clock: Where time comes from.
    """

    def __init__(
        self,
        limits: Limits,
        admission: AdmissionController,
        alerts: AlertManager,
        *,
        kernel_events: KernelEvents,
        prompt: Callable[[], object],
        clock: Clock,
    ) -> None:
        self._limits: Final = limits
        self._admission: Final = admission
        self._alerts: Final = alerts
        self._kernel_events: Final = kernel_events
        self._prompt: Final = prompt
        self._clock: Final = clock
        self._lock = threading.Lock()
        self._due = 0.0
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock, which a thread of the parent may have held."""
        self._lock = threading.Lock()

    def look(self) -> bool:
        """Follow them if it is time, or if one is seen to have changed; returns whether they were read again.

        Before the sample of the same look: what a lowered limit will not hold is ended at once.
        """
        if not self._admission.holds_much or (self._clock.monotonic() < self._due and not self._limits.has_changed()):
            return False
        self.follow()
        return True

    def follow(self) -> None:
        """Read them again; where one has changed, what was admitted below the old one may not fit any more.

        Raises:
            OSError: What is used of them cannot be read.
        """
        with self._lock:
            self._due = self._clock.monotonic() + _SECONDS
            self._limits.refresh()
            self._admission.adopt_bounds()  # changed just now or not: it may have failed the last time
            self._listen()

    def _listen(self) -> None:
        """Have the kernel tell when usage enters the guard band or passes an alert's threshold.

        Polling finds out too, a little later.
        """
        guards = self._admission.thresholds()
        percents = [line.value for line in self._alerts.thresholds if line.rule == "percent"]
        usages: dict[str, tuple[int, ...]] = {}
        for bound in self._limits.bounds:
            lines = (*guards.get(bound.source, ()), *(int(bound.limit * percent / 100) + 1 for percent in percents))
            directory = os.path.dirname(bound.source)  # noqa: PTH120 - text, and no file is looked at
            usages[directory] = usages.get(directory, ()) + lines
        if self._kernel_events.arm(usages):
            self._prompt()
