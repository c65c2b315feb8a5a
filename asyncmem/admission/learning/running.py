"""What a permit says of its task, in MiB and within reason: sizes come from clients, who may claim anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asyncmem.admission.learning.evidence import LEAST

if TYPE_CHECKING:
    from asyncmem.admission.learning.protocols import Running

__all__ = ["MIB", "MOST", "reserved_of", "size_of"]

MIB: Final = 1024.0 * 1024.0
MOST: Final = float(1 << 26)
"""MiB: nothing is larger than 64 TiB; squares of that can still be added to small ones."""


def size_of(running: Running) -> float:
    """MiB of input; 0 for what is none."""
    size = running.size
    return size / MIB if 0.0 < size < MOST * MIB else 0.0


def reserved_of(running: Running) -> float:
    """MiB reserved; more than nothing, and within reason."""
    return max(LEAST, min(running.reserved / MIB, MOST))
