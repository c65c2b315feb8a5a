"""Arithmetic over sequences of numbers: no I/O, no clock, no asyncio.

`regression` tells apart numbers of which only the sum is seen; admission's learning builds on it. `trend` says how
numbers change over time. Who measures the
numbers: `sampling`. Who decides by them: `admission`.
"""

from __future__ import annotations

from asyncmem.stats.regression import SumFilter, SumTerm, fit_line, weighted_quantiles
from asyncmem.stats.trend import theil_sen

__all__ = ["SumFilter", "SumTerm", "fit_line", "theil_sen", "weighted_quantiles"]
