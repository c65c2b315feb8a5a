"""Files of the kernel that are read again and again: opened once, read from the start each time.

Opening costs several times what reading does. Covers small files whose text the kernel makes anew at each read
(``/proc/self/statm``, ``memory.stat``). Does not cover files that are long lists (``mountinfo`` gives a part per
read): those are read once, by `read_once`. What the text means: `linux`, `cgroup`, `machine`.
"""

from __future__ import annotations

import os
from typing import Final

from asyncmem.sampling.forks import forget_after_fork

__all__ = ["KeptFile", "read_once"]

_SIZE: Final = 8192
"""Bytes asked for at once: more than any of these files has, so that one call reads all."""


class KeptFile:
    """A file whose descriptor is kept open between readings; about 1 µs to read a short one.

    Opened at the first reading, again after a fork, and again after a reading that failed. Any thread may read and
    close: a descriptor is closed when the last reading that uses it ends, so that none ever reads a stranger's file
    under a number that was given out anew.

    Args:
        path: The file.
    """

    __slots__ = ("__weakref__", "_descriptor", "_path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path: Final = os.fspath(path)
        self._descriptor: _Descriptor | None = None
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
        try:
            content = os.pread(descriptor.number, _SIZE, 0)
            if len(content) == _SIZE:
                content += _rest(descriptor.number)
        except OSError:
            self._descriptor = None
            raise
        return content

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
    offset = _SIZE
    while part := os.pread(number, _SIZE, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def read_once(path: str) -> bytes:
    """Open, read and close a file; about 6 µs for a short one.

    Raises:
        OSError: It cannot be opened or read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, _SIZE)
        # A short read is no end: lists such as mountinfo come in parts. Only an empty one is.
        while part := os.read(descriptor, _SIZE):
            content += part
    finally:
        os.close(descriptor)
    return content
