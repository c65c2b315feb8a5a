"""What the server under test holds, and what its cgroup counts; read by handlers and by the policies that ask.

`Live` is the truth that the clairvoyant has and no other policy: the bytes that handlers hold at this moment.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Holding:
    """The bytes that one handler holds."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.size = 0

    def add(self, size: int) -> None:
        """Say that so many more bytes were touched."""
        self.size += size
        self._live.held += size


class Live:
    """The bytes that all handlers hold, what they left behind on purpose, and the cache of the sawtooth."""

    def __init__(self, *, pinned: deque[bytes]) -> None:
        self.held = 0
        self.pinned = pinned
        self.cache: list[object] = []

    @contextlib.contextmanager
    def holding(self) -> Iterator[Holding]:
        """Count what a handler holds until it leaves the block."""
        holding = Holding(self)
        try:
            yield holding
        finally:
            self.held -= holding.size


LIVE: Final = web.AppKey("live", Live)


class CgroupMemory:
    """Reads a cgroup of version 1 through descriptors that stay open."""

    def __init__(self, path: Path) -> None:
        self._usage = os.open(path / "memory.usage_in_bytes", os.O_RDONLY)
        self._limit = os.open(path / "memory.limit_in_bytes", os.O_RDONLY)
        self._stat = os.open(path / "memory.stat", os.O_RDONLY)
        self._oom = os.open(path / "memory.oom_control", os.O_RDONLY)

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in (self._usage, self._limit, self._stat, self._oom):
            os.close(descriptor)

    @property
    def usage(self) -> int:
        """Bytes that count against the limit, page cache too."""
        return int(os.pread(self._usage, 64, 0))

    @property
    def limit(self) -> int:
        """The limit in bytes."""
        return int(os.pread(self._limit, 64, 0))

    @property
    def cache(self) -> int:
        """Bytes of page cache, of all below."""
        return _field(os.pread(self._stat, 8192, 0), b"total_cache ")

    @property
    def working_set(self) -> int:
        """Usage without page cache."""
        return max(0, self.usage - self.cache)

    @property
    def kills(self) -> int:
        """Processes that the kernel has killed for want of memory."""
        return _field(os.pread(self._oom, 512, 0), b"oom_kill ")


def _field(text: bytes, name: bytes) -> int:
    begin = text.index(b"\n" + name) + 1 + len(name)
    return int(text[begin : text.index(b"\n", begin)])
