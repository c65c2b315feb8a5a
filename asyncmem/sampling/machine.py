"""The machine's memory from Linux's ``/proc/meminfo``.

Covers what there is and what could still be given. Does not cover what *this process* may use of it: a container sees
the whole machine here (`asyncmem.limits` finds the rest). Other systems: `portable`.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from typing import Final

from asyncmem.sampling._files import KeptFile

__all__ = ["MachineMemory"]

_TOTAL: Final = re.compile(rb"^MemTotal:\s+(\d+) kB$", re.MULTILINE)
_AVAILABLE: Final = re.compile(rb"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)
_KIB: Final = 1024


class MachineMemory:
    """Reads ``meminfo`` through a kept descriptor; about 7 µs a reading.

    Args:
        proc_root: Where procfs is mounted.
    """

    __slots__ = ("_meminfo",)

    def __init__(self, proc_root: str | os.PathLike[str] = "/proc") -> None:
        self._meminfo: Final = KeptFile(PurePath(proc_root, "meminfo"))

    @property
    def source(self) -> str:
        """The file that is read."""
        return self._meminfo.path

    def total(self) -> int:
        """MemTotal, in bytes.

        Raises:
            OSError: The file cannot be read.
            ValueError: It has no such line.
        """
        return self._field(_TOTAL, "MemTotal")

    def available(self) -> int:
        """MemAvailable, in bytes: what could be given without swapping, page cache that can be dropped included.

        Raises:
            OSError: The file cannot be read.
            ValueError: It has no such line (kernels before 3.14).
        """
        return self._field(_AVAILABLE, "MemAvailable")

    def close(self) -> None:
        """Let the descriptor go; a later reading opens it again."""
        self._meminfo.close()

    def _field(self, pattern: re.Pattern[bytes], name: str) -> int:
        match = pattern.search(self._meminfo.read())
        if match is None:
            raise ValueError(f"{self._meminfo.path}: no line '{name}: <number> kB'")
        return int(match[1]) * _KIB
