"""Arithmetic over sequences of numbers: no I/O, no clock, no asyncio.

`regression` tells apart numbers of which only the sum is seen; admission's learning builds on it. Who measures the
numbers: `sampling`. Who decides by them: `admission`.
"""

from __future__ import annotations

from asyncmem.stats.regression import SumFilter, SumTerm, fit_line, weighted_quantiles

__all__ = ["SumFilter", "SumTerm", "fit_line", "weighted_quantiles"]
