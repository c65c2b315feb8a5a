"""The alert that memory cannot be watched: the sampler fails, or did not come to look for a while.

One alert per episode, as everywhere: it fires when failures have lasted, and is resolved by the next look that
succeeds. A gap is seen only when it is over, by the look that ends it. What admission does meanwhile:
`admission.headroom`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asyncmem.alerts.episode import Fingerprints
from asyncmem.events import AlertLevel, AlertState, AlertType, MemoryAlert

if TYPE_CHECKING:
    from asyncmem._clock import Clock

__all__ = ["Sight"]

_LASTING: Final = 1.0
"""Seconds for which looking must have failed: a single failure may be a file that was just replaced."""
_GAP: Final = 5.0
"""Seconds without a look that are worth an alert: longer than what a large document holds the interpreter's lock."""
_GAP_PERIODS: Final = 3


class Sight:
    """Makes the alerts of one watcher. Called by its thread alone.

    Args:
        clock: Where time comes from.
        interval: Seconds between two looks while nothing is to be seen.
    """

    __slots__ = ("_came_at", "_clock", "_failing_since", "_fingerprints", "_fired", "_gap", "_gap_told")

    def __init__(self, clock: Clock, interval: float) -> None:
        self._clock = clock
        self._gap = max(_GAP, _GAP_PERIODS * interval)
        self._came_at: float | None = None
        self._failing_since: float | None = None
        self._fingerprints = Fingerprints()
        self._fired: str | None = None
        self._gap_told: str | None = None

    def came(self) -> MemoryAlert | None:
        """The watcher comes to look; returns an alert where it had not for long."""
        now, before = self._clock.monotonic(), self._came_at
        self._came_at = now
        gap = 0.0 if before is None else now - before
        if gap > self._gap:
            if self._gap_told is not None:
                return None
            self._gap_told = self._fingerprints.new("sampling-gap")
            message = f"memory was not watched for {gap:.1f} s: the interpreter's lock was held, or all stood still"
            return self._alert(self._gap_told, message, AlertState.FIRING, gap, self._gap)
        told, self._gap_told = self._gap_told, None
        if told is None:
            return None
        return self._alert(told, "memory is watched again", AlertState.RESOLVED, gap, self._gap)

    def failed(self, error: Exception) -> MemoryAlert | None:
        """It could not see; returns the alert where that has lasted, and nobody was told yet."""
        now = self._clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        lasted = now - self._failing_since
        if self._fired is not None or lasted < _LASTING:
            return None
        self._fired = self._fingerprints.new("sampling")
        message = (
            f"memory could not be read for {lasted:.1f} s ({type(error).__name__}: {error}): work is admitted by what "
            "was last read and is promised since"
        )
        return self._alert(self._fired, message, AlertState.FIRING, lasted, _LASTING)

    def succeeded(self) -> MemoryAlert | None:
        """It could see; returns the alert that ends an episode."""
        fired, self._fired, self._failing_since = self._fired, None, None
        if fired is None:
            return None
        return self._alert(fired, "memory can be read again", AlertState.RESOLVED, 0.0, _LASTING)

    def _alert(
        self, fingerprint: str, message: str, state: AlertState, seconds: float, threshold: float
    ) -> MemoryAlert:
        return MemoryAlert(
            level=AlertLevel.WARNING,  # the end too: it is for those who were told of the begin
            alert_type=AlertType.SAMPLING_FAILED,
            message=message,
            timestamp=self._clock.now(),
            fingerprint=fingerprint,
            state=state,
            value=seconds,
            threshold=threshold,
        )
