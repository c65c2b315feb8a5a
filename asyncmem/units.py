"""Bytes as people write them, and back.

``KiB MiB GiB TiB`` (and Kubernetes' ``Ki Mi Gi Ti``) are powers of 1024, ``KB MB GB TB`` (and ``k K M G T``)
powers of 1000, as in Kubernetes and dask. ``"80%"`` is a share of something that the caller names.
"""

from __future__ import annotations

import math
import operator
import re
from typing import Final, SupportsIndex

from asyncmem.errors import ConfigError

__all__ = ["MIB", "format_bytes", "is_share", "parse_bytes"]

MIB: Final = 1024 * 1024
"""Bytes of one MiB; every ``*_mb`` of this library divides by it."""

_FACTORS: Final = {
    "": 1,
    "b": 1,
    "k": 10**3,
    "kb": 10**3,
    "m": 10**6,
    "mb": 10**6,
    "g": 10**9,
    "gb": 10**9,
    "t": 10**12,
    "tb": 10**12,
    "ki": 2**10,
    "kib": 2**10,
    "mi": 2**20,
    "mib": 2**20,
    "gi": 2**30,
    "gib": 2**30,
    "ti": 2**40,
    "tib": 2**40,
}
_QUANTITY: Final = re.compile(r"\s*(\d+(?:_\d+)*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([A-Za-z]*|%)\s*", re.ASCII)
_LARGEST: Final = 2**63 - 1
_FORM: Final = "bytes as a whole number, or text such as '512MiB', '1.5GiB', '2GB'"


def is_share(value: int | str) -> bool:
    """Whether a quantity is a share such as ``"80%"`` and not a number of bytes."""
    return isinstance(value, str) and value.strip().endswith("%")


def parse_bytes(value: SupportsIndex | str, *, of: int | None = None) -> int:
    """Read a number of bytes as a person writes it.

    Args:
        value: Bytes, or text with a unit: ``"1.5GiB"``, ``"500 MB"``, ``"2Gi"``; with `of` also ``"80%"``.
        of: Bytes that a share is taken of; without it a share is refused.

    Returns:
        Bytes, rounded down.

    Raises:
        ConfigError: Not a quantity, negative, without end, or a share of nothing.
    """
    return _parse_text(value, of) if isinstance(value, str) else _checked_number(value)


def _checked_number(value: SupportsIndex) -> int:
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # numpy's integers are welcome
    except TypeError:
        number = None
    if number is None:
        raise ConfigError(f"{value!r} is no number of bytes; expected {_FORM}")
    if not 0 <= number <= _LARGEST:
        raise ConfigError(f"{value} is out of range for a number of bytes; expected 0 to 2**63 - 1")
    return number


def _parse_text(value: str, of: int | None) -> int:
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise ConfigError(f"{value!r} is no number of bytes; expected {_FORM}")
    number, unit = float(match[1].replace("_", "")), match[2].lower()
    if unit == "%":
        if of is None:
            raise ConfigError(f"{value!r} is a share, and here there is nothing it could be a share of; use {_FORM}")
        if number > 100:  # noqa: PLR2004 - percent
            raise ConfigError(f"{value!r} is more than the whole; expected 0% to 100%")
        return int(of * number / 100)
    if unit not in _FACTORS:
        raise ConfigError(f"{value!r} has the unknown unit {match[2]!r}; expected KiB, MiB, GiB, TiB, KB, MB, GB or TB")
    result = number * _FACTORS[unit]
    if not math.isfinite(result) or result > _LARGEST:
        raise ConfigError(f"{value!r} is out of range for a number of bytes; expected at most 2**63 - 1")
    return int(result)


def format_bytes(value: float) -> str:
    """Write a number of bytes for people, in powers of 1024: ``format_bytes(1610612736) == "1.5 GiB"``.

    Args:
        value: Bytes; may be negative (a difference).

    Returns:
        Up to four significant digits and a unit.
    """
    sign, rest = ("-", -value) if value < 0 else ("", value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if rest < 1023.95:  # noqa: PLR2004 - what would be written as 1024.0 belongs to the next unit
            return f"{sign}{rest:.0f} {unit}" if unit == "B" else f"{sign}{_short(rest)} {unit}"
        rest /= 1024
    return f"{sign}{_short(rest)} TiB"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
