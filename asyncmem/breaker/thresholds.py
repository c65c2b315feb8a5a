"""The bytes at which a breaker changes its mind, from what a person has written.

Four lines, lowest first: below `calm` a warning ends; from `warning` on there is one; below `reset` an opened breaker
closes again; from `open` on it opens. Each is left at a lower place than it is entered, so that a usage that trembles
about one of them changes nothing: by a quarter of the way between `warning` and `open`, because these are the only
figures here that know what is a small change.

Covers the arithmetic. Does not cover what follows from passing a line: `states`.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple

from asyncmem.errors import ConfigError
from asyncmem.units import is_share, parse_bytes

__all__ = ["AT_OPEN", "AT_RESET", "AT_WARNING", "BELOW_CALM", "Lines", "Thresholds"]

BELOW_CALM: Final = 0
"""A reading that ends a warning."""
AT_WARNING: Final = 2
"""The least reading that begins one."""
AT_RESET: Final = 3
"""The least reading at which an opened breaker does not close."""
AT_OPEN: Final = 4
"""The least reading that opens it."""
_DEFAULT: Final = "75%"
_GAP: Final = 4
_WHOLE: Final = 10**15
"""Stands for a limit where shares are compared."""


class Lines(NamedTuple):
    """Bytes in use from which on something changes, in rising order, for one limit."""

    calm: int
    """Less than this ends a warning."""
    warning: int
    """From this on there is a warning."""
    reset: int
    """Less than this closes what was opened."""
    open: int
    """From this on it opens."""

    def place(self, used: int) -> int:
        """How many of the lines are reached: 0 to 4."""
        return bisect_right(self, used)


class Thresholds:
    """Where a breaker warns and opens.

    Args:
        warning: Bytes in use, or a share of the limit; None for two thirds of `open_at` (50 % of the limit by default),
            or for twice the `headroom`.
        open_at: Bytes in use, such as ``"1.5GB"``, or a share of the limit; None for 75 %. The limit itself opens it in
            any case.
        headroom: Opens where less than so many bytes are left below the limit; takes the place of `open_at`.

    Where `warning` is a share and the other is not, or the other way round, they may cross at some limit. Then `open`
    keeps its place and the warning begins at two thirds of it.

    Raises:
        ConfigError: No quantity, nothing, or a contradiction.
    """

    __slots__ = ("_headroom", "_last", "_open_at", "_warning")

    def __init__(
        self,
        *,
        warning: int | str | None = None,
        open_at: int | str | None = None,
        headroom: int | str | None = None,
    ) -> None:
        if headroom is not None and open_at is not None:
            raise ConfigError(
                f"open_at={open_at!r} and headroom={headroom!r} both say when the breaker opens; expected one of them"
            )
        self._warning: Final = _checked("warning", warning)
        self._headroom: Final = _checked("headroom", headroom)
        self._open_at: Final = _DEFAULT if open_at is None else _checked("open_at", open_at)
        self._last: tuple[int, Lines] | None = None
        self._check_order()

    def lines(self, limit: int) -> Lines:
        """The bytes for one limit; kept until another limit is asked for."""
        last = self._last
        if last is not None and last[0] == limit:
            return last[1]
        lines = self._laid_out(limit)
        self._last = limit, lines
        return lines

    def _check_order(self) -> None:
        if self._warning is None:
            return
        name, value = ("open_at", self._open_at) if self._headroom is None else ("headroom", self._headroom)
        assert value is not None
        # A share and bytes can be compared only when the limit is known.
        if is_share(self._warning) is not is_share(value) or (self._headroom is not None and not is_share(value)):
            return
        opens = parse_bytes(value, of=_WHOLE)
        if self._headroom is not None:
            opens = _WHOLE - opens
        if parse_bytes(self._warning, of=_WHOLE) >= opens:
            raise ConfigError(
                f"warning={self._warning!r} does not come before the breaker opens, which is said by {name}={value!r}; "
                "expected less, for example warning='50%' and open_at='75%'"
            )

    def _laid_out(self, limit: int) -> Lines:
        if self._headroom is not None:
            headroom = parse_bytes(self._headroom, of=limit)
            opens = max(1, min(limit, limit - headroom + 1))
            warns = limit - 2 * headroom + 1
        else:
            assert self._open_at is not None
            opens = max(1, min(limit, parse_bytes(self._open_at, of=limit)))
            warns = opens * 2 // 3
        if self._warning is not None:
            warns = parse_bytes(self._warning, of=limit)
            if warns >= opens:
                warns = opens * 2 // 3
        warns = max(1, warns)
        gap = (opens - warns) // _GAP
        return Lines(calm=warns - min(gap, warns // _GAP), warning=warns, reset=opens - gap, open=opens)


def _checked(name: str, value: int | str | None) -> int | str | None:
    if value is None:
        return None
    try:
        amount = parse_bytes(value, of=_WHOLE)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}; a share of the limit such as '75%' will do, too") from None
    if amount == 0:
        raise ConfigError(f"{name}: got {value!r}; expected more than 0")
    return value if isinstance(value, str) else amount
