"""Memory that grows past a line, page by page, and knows when it passed it.

`Growth` grows the process that makes it. As a program it is a neighbour in the same cgroup, which does so when told on
its standard input: ``python -m tests.benchmarks._alerts.growth DIRECTORY``, then lines of two numbers (the line, and
where to stop; answered by the second of the crossing, as `time.perf_counter` counts on this machine) or ``shrink``.
"""

from __future__ import annotations

import mmap
import sys
import time
from typing import Final

from asyncmem.sampling import CgroupV1

__all__ = ["MIB", "Growth"]

MIB: Final = 1024 * 1024
_CHUNK: Final = 64 * 1024
"""Bytes between two looks at the usage: the kernel charges four times as much at once, so none is finer."""
_BLOCK: Final = bytes(_CHUNK)
_MOST: Final = 512 * MIB
_DELAY: Final = 0.02
"""A neighbour waits so long before it grows, so that whoever told it to is idle again."""


class Growth:
    """Holds fresh pages.

    Args:
        directory: The cgroup whose usage is looked at. The readings keep the interpreter's lock, as any code does that
            fills memory: they do not let the watcher in.
    """

    def __init__(self, directory: str) -> None:
        self._usage = CgroupV1(directory).usage
        self._regions: list[mmap.mmap] = []

    def grow(self, line: int, until: int) -> float:
        """Touch pages until the usage is `until` bytes.

        Returns:
            When the write began that took the usage to `line` bytes, by `time.perf_counter`; 0 where none did.
        """
        region = mmap.mmap(-1, _MOST, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._regions.append(region)
        crossed, usage, offset = 0.0, self._usage(), 0
        while usage < until:
            begin = time.perf_counter()
            region[offset : offset + _CHUNK] = _BLOCK
            usage = self._usage()
            if usage >= line and not crossed:
                crossed = begin
            offset += _CHUNK
        return crossed

    def shrink(self) -> None:
        """Give back what `grow` took."""
        for region in self._regions:
            region.close()
        self._regions.clear()


def main(directory: str) -> None:
    """Grow and shrink as told, until nobody tells any more."""
    growth = Growth(directory)
    for told in sys.stdin:
        if told == "shrink\n":
            growth.shrink()
            answer = 0.0
        else:
            line, until = map(int, told.split())
            time.sleep(_DELAY)
            answer = growth.grow(line, until)
        print(answer, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
