"""Ages of tasks in a few steps, each four times as long as the one before.

What a task may still add depends on how long it runs already, but not on the millisecond: a logarithmic scale tells a
request that has just begun from one that is in the middle, from milliseconds to minutes.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LAST_STAGE", "STAGES", "STAGE_ENDS"]

STAGE_ENDS: Final = (0.025, 0.1, 0.4, 1.6, 6.4, float("inf"))
"""Age in seconds at which each stage ends."""
STAGES: Final = len(STAGE_ENDS)
LAST_STAGE: Final = STAGES - 1
