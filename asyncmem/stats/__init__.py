"""Arithmetic over sequences of numbers: no I/O, no clock, no asyncio.

`windows` keeps extremes of what was seen lately in constant time; admission's learning builds on it. Who
measures the numbers: `sampling`. Who decides by them: `admission`.
"""

from __future__ import annotations

from asyncmem.stats.windows import CountWindowMaximum, SuffixMaximum

__all__ = ["CountWindowMaximum", "SuffixMaximum"]
