"""What is used of the bound that binds this process, for a breaker that nobody tells.

Covers finding the limits at the first reading, and following them. Does not cover where limits and readings come from:
`asyncmem.limits`.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from asyncmem.limits import LimitFinder

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.limits import Limits

__all__ = ["BindingBound"]

_REFRESH_SECONDS: Final = 1.0
"""A limit can be changed while the process runs; looking for that takes some 100 µs."""


class BindingBound:
    """Reads the bound of which the least is left; about 4 µs for each bound.

    Args:
        limits: Knows the bounds; None to find them at the first reading.
        timer: Monotonic seconds; says when to look at the limits again.
    """

    __slots__ = ("_due", "_limits", "_timer")

    def __init__(self, limits: Limits | None = None, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._timer: Final = timer
        self._due = -math.inf

    def __call__(self) -> tuple[int, int]:
        """Read now.

        Returns:
            Bytes in use, and bytes of the limit.

        Raises:
            OSError: It cannot be read.
            LimitDiscoveryError: Nothing bounds this process, as far as could be read.
        """
        limits, now = self._limits, self._timer()
        if limits is None:
            limits = self._limits = LimitFinder()
            self._due = now + _REFRESH_SECONDS
        elif now >= self._due:
            # Before it is done: whoever comes meanwhile, even out of this very call, takes what there is.
            self._due = now + _REFRESH_SECONDS
            limits.refresh()
        _left, used, limit = min(
            (bound.limit - (used := bound.meter.used()), used, bound.limit) for bound in limits.bounds
        )
        return used, limit
