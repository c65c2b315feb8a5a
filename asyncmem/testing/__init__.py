"""For those who test code that runs under asyncmem: memory and time that are turned by hand, and alerts caught.

========== ================================================================
module     what it gives
========== ================================================================
clock      `ManualClock`: time that passes when told
memory     `SyntheticSampler`, `SyntheticLimits`: memory that is what you say
alerts     `capture_alerts`: what a runtime has raised
========== ================================================================
"""

from __future__ import annotations

from asyncmem.testing.alerts import capture_alerts
from asyncmem.testing.clock import ManualClock
from asyncmem.testing.memory import SyntheticLimits, SyntheticSampler

__all__ = ["ManualClock", "SyntheticLimits", "SyntheticSampler", "capture_alerts"]
