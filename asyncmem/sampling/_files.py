"""Files of the kernel that are read again and again: opened once, read from the start each time.

Opening costs several times what reading does. Covers small files whose text the kernel makes anew at each read
(``/proc/self/statm``, ``memory.stat``). Does not cover files that are long lists (``mountinfo`` gives a part per
read): those are read once, by `read_once`. What the text means: `linux`, `cgroup`, `machine`.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING, Final

from asyncmem.sampling._syscalls import SIZE, file_reader, reader
from asyncmem.sampling.forks import forget_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KeptFile", "read_once"]

_SLOW: Final = 0.0005
_SLOW_TIMES: Final = 3
"""A file that took so many seconds so many times in a row is from then on read without holding others up."""


class KeptFile:
    """A file whose descriptor is kept open between readings; about 2 µs to read a short one, however busy the process.

    Opened at the first reading, again after a fork, and again after a reading that failed. Any thread may read and
    close: a descriptor is closed when the last reading that uses it ends, so that none ever reads a stranger's file
    under a number that was given out anew.

    Args:
        path: The file.
    """

    __slots__ = ("__weakref__", "_descriptor", "_path", "_quick", "_slow_times")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path: Final = os.fspath(path)
        self._descriptor: _Descriptor | None = None
        self._quick = reader()
        self._slow_times = 0
        forget_after_fork(self)

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    def read(self) -> bytes:
        """Read the whole file from its beginning.

        Raises:
            OSError: It cannot be opened or read; the next reading opens it anew.
        """
        descriptor = self._descriptor
        if descriptor is None:
            descriptor = self._descriptor = _Descriptor(self._path)
        quick = self._quick
        content = None if quick is None else self._read_quickly(quick, descriptor.number)
        if content is not None:
            return content
        try:
            content = os.pread(descriptor.number, SIZE, 0)
            if len(content) == SIZE:
                content += _rest(descriptor.number)
        except OSError:
            self._descriptor = None
            raise
        return content

    def _read_quickly(self, quick: Callable[[int], bytes | None], number: int) -> bytes | None:
        begin = perf_counter()
        content = quick(number)
        if perf_counter() - begin < _SLOW:
            self._slow_times = 0
        else:
            self._slow_times += 1
            if self._slow_times >= _SLOW_TIMES:
                self._quick = None
        return None if content is None or len(content) == SIZE else content

    def close(self) -> None:
        """Let the descriptor go; a later `read` opens the file again."""
        self._descriptor = None

    def after_fork(self) -> None:
        """Let the inherited descriptor go: under ``/proc/self`` it reads the parent."""
        self._descriptor = None


class _Descriptor:
    """An open descriptor, closed when nothing refers to it any more."""

    __slots__ = ("_close", "number")

    def __init__(self, path: str) -> None:
        self._close = os.close  # kept here: module globals may be gone when the interpreter ends
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        number = getattr(self, "number", None)
        if number is not None:
            self._close(number)


def _rest(number: int) -> bytes:
    parts = []
    offset = SIZE
    while part := os.pread(number, SIZE, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def read_once(path: str) -> bytes:
    """Open, read and close a file; about 8 µs for a short one.

    Raises:
        OSError: It cannot be opened or read.
    """
    quick = file_reader()
    content = None if quick is None else quick(path)
    return _read_at_leisure(path) if content is None else content


def _read_at_leisure(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, SIZE)
        # A short read is no end: lists such as mountinfo come in parts. Only an empty one is.
        while part := os.read(descriptor, SIZE):
            content += part
    finally:
        os.close(descriptor)
    return content
