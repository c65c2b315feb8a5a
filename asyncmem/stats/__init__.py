"""Arithmetic over sequences of numbers: no I/O, no clock, no asyncio.

`windows` keeps extremes of what was seen lately in constant time; the cost model and the headroom build on it. Who
measures the numbers: `sampling`. Who decides by them: `admission`.
"""

from __future__ import annotations

from asyncmem.stats.windows import CountWindowMaximum, SuffixMaximum, TimeWindowMinimum

__all__ = ["CountWindowMaximum", "SuffixMaximum", "TimeWindowMinimum"]
