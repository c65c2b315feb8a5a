"""Checks of what callers hand to admission."""

from __future__ import annotations

import math
from typing import Final

from asyncmem.errors import ConfigError

__all__ = ["check_deadline", "checked_size"]

_FOREVER: Final = 86_400.0


def check_deadline(deadline: object) -> None:
    """Refuse a deadline that is none.

    Raises:
        ConfigError: Not a number of seconds from now.
    """
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not 0 < deadline <= _FOREVER:
        raise ConfigError(
            f"deadline: got {deadline!r}; expected seconds from now, more than 0 and at most {_FOREVER:.0f}"
        )


def checked_size(size: object) -> float:
    """The size of an input.

    Raises:
        ConfigError: Not a number from 0.
    """
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 <= size < math.inf:
        raise ConfigError(f"size: got {size!r}; expected the size of the input in bytes or items, 0 where unknown")
    return float(size)
