"""One directory of the cgroup filesystem: its usage, its limits, and how much of the usage could be dropped.

Covers both versions in the same words. Every file is read when asked; a file with something else in it than a number
gives a `ValueError` with path and content, never a zero. Does not cover where the directories are (`hierarchy`), nor
how their parts, which are never read at one instant, become one figure (`meters`).

**What is droppable.** Clean page cache that nobody has mapped is given back by the kernel before it kills, so it must
not count as lost; everything else must not be credited. From the file pages on the reclaim lists (``active_file`` and
``inactive_file``: shared memory and locked pages are not among them) those are taken off that are dirty, under
writeback, or mapped. The kernel's figure of mapped pages has mapped shared memory in it and does not say how much, so
all of it is taken off: where much shared memory is mapped, less is credited than could be, and never more.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from typing import ClassVar, Final, NamedTuple, Protocol

from asyncmem.sampling._files import KeptFile, read_once

__all__ = ["Cgroup", "CgroupParts", "CgroupV1", "CgroupV2", "LimitFile"]

_V1_UNLIMITED: Final = 2**62
"""v1 writes "no limit" as the greatest page count in bytes: 2**63 less one page, whatever a page is."""
_SLAB: Final = b"slab_reclaimable"


class CgroupParts(NamedTuple):
    """What a usage is made of, in bytes."""

    droppable: int
    """Clean unmapped file pages: the kernel gives them back before it kills."""
    anonymous: int
    """Anonymous and shared memory: nothing but freeing it gives it back."""


class LimitFile(NamedTuple):
    """A file that holds a limit."""

    name: str
    kills: bool
    """Whether the kernel kills at this limit; else it only slows the processes down."""


class Cgroup(Protocol):
    """A directory of a memory hierarchy."""

    @property
    def limit_files(self) -> tuple[LimitFile, ...]:
        """The files that hold a limit of the directory itself."""
        ...

    @property
    def path(self) -> str:
        """The directory."""
        ...

    def usage(self) -> int:
        """Bytes charged to the directory and all below it, page cache included."""
        ...

    def read_limit(self, name: str) -> int | None:
        """The limit in one of the `limit_files`; None where it says that there is none."""
        ...

    def limits(self) -> dict[str, int | None]:
        """All limits by the name of their file."""
        ...

    def limit_texts(self) -> tuple[bytes | None, ...]:
        """What the `limit_files` hold, as it stands there; None for one that cannot be read."""
        ...

    def parts(self) -> CgroupParts:
        """What the usage is made of, from one reading of ``memory.stat``."""
        ...

    def droppable(self) -> int:
        """Bytes of the usage that the kernel gives back before it kills."""
        ...

    def hierarchical_limit(self) -> int | None:
        """The least limit of this directory and all above it; None where there is none or nobody tells."""
        ...

    def close(self) -> None:
        """Let the descriptors go."""
        ...


class _Directory(ABC):
    """What both versions share: kept files and careful numbers."""

    limit_files: ClassVar[tuple[LimitFile, ...]]
    _usage_file: ClassVar[str]
    _names: ClassVar[tuple[bytes, ...]]
    """The figures that `parts` needs, in the order in which it takes them apart."""
    _figure: ClassVar[re.Pattern[bytes]]

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._path: Final = os.fspath(directory)
        self._usage: Final = KeptFile(os.path.join(self._path, self._usage_file))  # noqa: PTH118 - made at each refresh
        self._stat: Final = KeptFile(os.path.join(self._path, "memory.stat"))  # noqa: PTH118
        self._limits: Final = [KeptFile(f"{self._path}/{file.name}") for file in self.limit_files]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._path!r})"

    @property
    def path(self) -> str:
        """The directory."""
        return self._path

    def usage(self) -> int:
        """Bytes charged to the directory and all below it, page cache included; about 1 µs.

        Raises:
            OSError: The file cannot be read; the directory may be gone.
            ValueError: It holds no number.
        """
        return _number(self._usage.path, self._usage.read())

    def limits(self) -> dict[str, int | None]:
        """All limits by the name of their file, in bytes; None where there is none.

        Raises:
            OSError: A file cannot be read.
            ValueError: A file holds neither a number nor the word for none.
        """
        return {file.name: self.read_limit(file.name) for file in self.limit_files}

    def read_limit(self, name: str) -> int | None:
        """The limit in one of the `limit_files`, in bytes; None where it says that there is none.

        The file is opened anew: a limit is read rarely, and one that was replaced must be seen.

        Raises:
            OSError: The file cannot be read.
            ValueError: It holds neither a number nor the word for none.
        """
        path = f"{self._path}/{name}"
        return self._limit(path, read_once(path))

    def limit_texts(self) -> tuple[bytes | None, ...]:
        """What the `limit_files` hold, as it stands there; None for one that cannot be read. About 1 µs for each.

        To be compared with an earlier answer: a file that is held open says what the kernel says now.
        """
        return tuple([_text(file) for file in self._limits])

    def droppable(self) -> int:
        """Bytes of the usage that the kernel gives back before it kills; see the module for what they are.

        Raises:
            OSError: ``memory.stat`` cannot be read.
            ValueError: It lacks a figure.
        """
        return self.parts().droppable

    def parts(self) -> CgroupParts:
        """What the usage is made of, from one reading of ``memory.stat``; about 15 µs.

        Raises:
            OSError: ``memory.stat`` cannot be read.
            ValueError: It lacks a figure.
        """
        figures = dict(self._figure.findall(self._stat.read()))
        try:
            active, inactive, dirty, writeback, mapped, anonymous, shared = [int(figures[n]) for n in self._names]
        except KeyError as error:
            raise ValueError(f"{self._stat.path}: lacks the figure {error}; it has {sorted(figures)}") from None
        return CgroupParts(
            droppable=max(0, active + inactive - dirty - writeback - mapped) + int(figures.get(_SLAB, 0)),
            anonymous=anonymous + shared,
        )

    def close(self) -> None:
        """Let the descriptors go; a later reading opens them again."""
        for file in (self._usage, self._stat, *self._limits):
            file.close()

    @staticmethod
    @abstractmethod
    def _limit(path: str, content: bytes) -> int | None:
        """Read a limit as this version writes it; None where it says that there is none."""


class CgroupV1(_Directory):
    """A directory of the version 1 memory controller.

    Its ``memory.stat`` says nothing about the slab, so none of that is credited. The ``total_*`` figures are read, as
    the usage counts the whole subtree.

    Args:
        directory: The directory, for example ``/sys/fs/cgroup/memory/some/group``.
    """

    limit_files: ClassVar[tuple[LimitFile, ...]] = (LimitFile("memory.limit_in_bytes", kills=True),)
    _usage_file = "memory.usage_in_bytes"
    _names = (b"active_file", b"inactive_file", b"dirty", b"writeback", b"mapped_file", b"rss", b"shmem")
    _figure = re.compile(rb"^total_(" + b"|".join(_names) + rb") (\d+)$", re.MULTILINE)
    _hidden = re.compile(rb"^hierarchical_memory_limit (\d+)$", re.MULTILINE)

    def hierarchical_limit(self) -> int | None:
        """The least limit of this directory and all above it, also those above that a container cannot see.

        Raises:
            OSError: ``memory.stat`` cannot be read.
        """
        match = self._hidden.search(self._stat.read())
        value = _V1_UNLIMITED if match is None else int(match[1])
        return None if value >= _V1_UNLIMITED else value

    @staticmethod
    def _limit(path: str, content: bytes) -> int | None:
        value = _number(path, content)
        return None if value >= _V1_UNLIMITED else value


class CgroupV2(_Directory):
    """A directory of the unified hierarchy, version 2.

    ``memory.high`` is a limit too: above it the kernel slows the processes down and reclaims. The slab that can be
    reclaimed is credited where the kernel reports it.

    Args:
        directory: The directory, for example ``/sys/fs/cgroup/some.slice``.
    """

    limit_files: ClassVar[tuple[LimitFile, ...]] = (
        LimitFile("memory.max", kills=True),
        LimitFile("memory.high", kills=False),
    )
    _usage_file = "memory.current"
    _names = (b"active_file", b"inactive_file", b"file_dirty", b"file_writeback", b"file_mapped", b"anon", b"shmem")
    _figure = re.compile(rb"^(" + b"|".join((*_names, _SLAB)) + rb") (\d+)$", re.MULTILINE)

    def hierarchical_limit(self) -> int | None:
        """None: version 2 does not tell about ancestors that cannot be seen."""
        return None

    @staticmethod
    def _limit(path: str, content: bytes) -> int | None:
        return None if content.strip() == b"max" else _number(path, content)


def _text(file: KeptFile) -> bytes | None:
    try:
        return file.read()
    except OSError:
        return None


def _number(path: str, content: bytes) -> int:
    text = content.strip()
    if not text.isdigit():
        raise ValueError(f"{path}: holds {content[:80]!r}; expected a number of bytes")
    return int(text)
