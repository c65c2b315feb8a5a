"""Reading files of the kernel with the interpreter's lock held.

Python's own calls let the lock go while they read. In a process that is busy with Python code, getting it back takes
up to the switch interval, 5 ms, at each of them; eight readings then took 5 to 20 ms instead of 0.1. These files are
made from counters in a few microseconds, so it is better not to let go.

What is made here returns None where a call fails: then Python's own is to be made, which says what is wrong. Where the
C library cannot be reached like this, None is all there is.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SIZE", "file_reader", "reader"]

SIZE: Final = 8192
"""Bytes that are read at one time: more than most of these files have."""
_WIDE: Final = 8
"""Bytes of a pointer where an offset is one, too."""


@cache
def reader() -> Callable[[int], bytes | None] | None:
    """A function that reads a descriptor's first `SIZE` bytes, in about 1 µs more than `os.pread`."""
    library = _library()
    if library is None:
        return None
    pread = library.pread
    pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_ssize_t)
    pread.restype = ctypes.c_ssize_t
    buffers: list[ctypes.Array[ctypes.c_char]] = []

    def read(descriptor: int) -> bytes | None:
        try:
            buffer = buffers.pop()  # each thread has its own while it is here
        except IndexError:
            buffer = ctypes.create_string_buffer(SIZE)
        count = pread(descriptor, buffer, SIZE, 0)
        content: bytes | None = None if count < 0 else buffer.raw[:count]
        buffers.append(buffer)
        return content

    return read


@cache
def file_reader() -> Callable[[str], bytes | None] | None:
    """A function that opens a file, reads it to its end and closes it."""
    library = _library()
    if library is None:
        return None
    open_, read, close = library.open, library.read, library.close
    open_.argtypes, open_.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_int
    read.argtypes, read.restype = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_ssize_t
    close.argtypes, close.restype = (ctypes.c_int,), ctypes.c_int

    def read_file(path: str) -> bytes | None:
        descriptor = open_(os.fsencode(path), os.O_RDONLY | os.O_CLOEXEC)
        if descriptor < 0:
            return None
        try:
            content, buffer = b"", ctypes.create_string_buffer(SIZE)
            while (count := read(descriptor, buffer, SIZE)) > 0:  # a short read is no end: lists come in parts
                content += buffer.raw[:count]
            return content if count == 0 else None
        finally:
            close(descriptor)

    return read_file


@cache
def _library() -> ctypes.PyDLL | None:
    try:
        library = ctypes.PyDLL(None)
        return library if hasattr(library, "pread") and ctypes.sizeof(ctypes.c_void_p) == _WIDE else None
    except (OSError, TypeError):  # TypeError: Windows has no library without a name
        return None
