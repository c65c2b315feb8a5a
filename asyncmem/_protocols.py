"""What mechanisms ask of each other, so that none needs to import its neighbour.

Values that people see live in `events`; here are only the shapes of the parts that can be replaced.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["GrowthMeter", "MemorySampler", "ProcessMemory", "UsageMeter"]


class ProcessMemory(NamedTuple):
    """One reading of a process's memory, in bytes."""

    rss: int
    """Resident set: everything of the process that is in RAM."""
    vms: int
    """Virtual size: everything that is mapped."""
    working_set: int
    """Anonymous memory: what counts towards a kill and cannot be dropped like a file's pages."""
    data: int
    """Private writable mappings (VmData), which is what RLIMIT_DATA counts."""


class MemorySampler(Protocol):
    """Reads the memory of one process."""

    def read(self) -> ProcessMemory:
        """Read now; costs microseconds and may be called from any thread.

        Raises:
            OSError: The process is gone or its files cannot be read.
        """
        ...


class UsageMeter(Protocol):
    """Says how many bytes are used of one bound."""

    def used(self) -> int:
        """Bytes that count against the bound now, page cache left out. Called for each decision: microseconds.

        Never lower than what is really used, as far as the parts can be known; an old part is taken pessimistically.
        """
        ...

    def refresh(self) -> None:
        """Read again the slow parts that `used` builds on (tens of microseconds at most)."""
        ...


class GrowthMeter(Protocol):
    """Says how many bytes this process really holds, for learning what tasks cost."""

    def sample(self) -> int | None:
        """Bytes held now; None where no true figure can be had at this moment."""
        ...
