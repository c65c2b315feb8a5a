"""One place each where the kernel can be listened to: a descriptor, what to wait for, and what it means.

Covers opening, reading and closing. A place that is not there or refuses raises `OSError`; whoever opens it (`events`)
makes a finding of that. The descriptors are closed when nothing refers to their source any more.

Version 1 (Documentation/admin-guide/cgroup-v1/memory.rst, sections 9 and 11): a descriptor of the file to watch and an
``eventfd`` are written into ``cgroup.event_control``. Version 2 (cgroup-v2.rst, accounting/psi.rst): the file itself is
waited on with ``POLLPRI``.
"""

from __future__ import annotations

import os
import re
import select
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

__all__ = [
    "EventCounters",
    "KernelEvent",
    "KernelFinding",
    "KernelSignal",
    "PressureNotice",
    "Source",
    "StallTrigger",
    "UsageThreshold",
]

_FLAGS: Final = os.O_CLOEXEC | os.O_NONBLOCK
_COUNTER: Final = re.compile(rb"^(high|max|oom|oom_kill|oom_group_kill) (\d+)$", re.MULTILINE)
_SIZE: Final = 4096
_STALL_MICROSECONDS: Final = 100_000
_WINDOW_MICROSECONDS: Final = 2_000_000


class KernelSignal(StrEnum):
    """How the kernel has spoken."""

    USAGE = "usage_threshold"
    """Version 1: the usage has crossed a number of bytes, up or down."""
    PRESSURE = "pressure_level"
    """Version 1: it is difficult to reclaim memory in this group."""
    COUNTER = "memory_events"
    """Version 2: the group has hit a limit, or the kernel has killed in it."""
    STALL = "stall"
    """Version 2: tasks of this group waited for memory."""


@dataclass(frozen=True, slots=True)
class KernelEvent:
    """One word of the kernel.

    Args:
        signal: What kind of word.
        path: The file that it is about.
        detail: For people: the bytes, the level, or the counters that have gone up.
    """

    signal: KernelSignal
    path: str
    detail: str


@dataclass(frozen=True, slots=True)
class KernelFinding:
    """One place where the kernel could speak.

    Args:
        signal: What kind of word.
        path: The file.
        listening: Whether it is listened to.
        detail: What for, or why not; one sentence for people.
    """

    signal: KernelSignal
    path: str
    listening: bool
    detail: str


class Source(ABC):
    """A place that is listened to.

    Args:
        signal: What kind of word comes from it.
        path: The file.
        detail: What is listened for.
        descriptor: Open; closed with the source.
        mask: What to wait for.
    """

    def __init__(self, signal: KernelSignal, path: str, detail: str, descriptor: int, mask: int) -> None:
        self._close: Callable[[int], None] = os.close  # kept: module globals may be gone when the interpreter ends
        self.signal: Final = signal
        self.path: Final = path
        self.detail: Final = detail
        self.descriptor: Final = descriptor
        self.mask: Final = mask
        self._open = True

    @abstractmethod
    def take(self, ready: int) -> str | None:
        """Use up what is ready; returns it for people, and None where nothing is new.

        Args:
            ready: As ``poll`` gives it.

        Raises:
            OSError: The place is gone.
        """

    def close(self) -> None:
        """Let the descriptor go."""
        if self._open:
            self._open = False
            self._close(self.descriptor)

    def __del__(self) -> None:
        if getattr(self, "_open", False):
            self.close()


class UsageThreshold(Source):
    """Version 1: the usage of a directory, page cache included, crosses so many bytes. Fires on the way down too.

    The kernel compares after every 128 pages that a processor charges: a crossing by less than that may go untold.

    Raises:
        OSError: The kernel does not offer it here or refuses.
    """

    def __init__(self, directory: str, nbytes: int) -> None:
        path = f"{directory}/memory.usage_in_bytes"
        super().__init__(
            KernelSignal.USAGE, path, f"{nbytes} bytes", _registered(directory, path, str(nbytes)), select.POLLIN
        )

    def take(self, ready: int) -> str | None:  # noqa: ARG002 - an eventfd has one thing to say
        """Crossings since the last time."""
        return f"crossed {self.detail}" if os.eventfd_read(self.descriptor) else None


class PressureNotice(Source):
    """Version 1: reclaim in this directory itself has become difficult.

    ``medium`` is said where much of what is scanned cannot be reclaimed, ``critical`` short of a kill. ``low`` is said
    of any reclaim, also of the page cache that a busy reader leaves behind.

    Raises:
        OSError: The kernel does not offer it here or refuses.
    """

    def __init__(self, directory: str, level: Literal["low", "medium", "critical"]) -> None:
        path = f"{directory}/memory.pressure_level"
        try:
            descriptor = _registered(directory, path, f"{level},local")
        except OSError:
            descriptor = _registered(directory, path, level)  # before Linux 4.13: the children's pressure too
        super().__init__(KernelSignal.PRESSURE, path, level, descriptor, select.POLLIN)

    def take(self, ready: int) -> str | None:  # noqa: ARG002 - an eventfd has one thing to say
        """Notices since the last time."""
        return self.detail if os.eventfd_read(self.descriptor) else None


class EventCounters(Source):
    """Version 2: how often the directory has hit ``memory.high`` and ``memory.max``, and what the kernel has killed.

    Raises:
        OSError: The file cannot be read.
    """

    def __init__(self, path: str) -> None:
        super().__init__(
            KernelSignal.COUNTER, path, "limits hit, kills", os.open(path, os.O_RDONLY | _FLAGS), _PRIORITY
        )
        self._seen = self._read()

    def take(self, ready: int) -> str | None:  # noqa: ARG002 - POLLERR comes with every word of such a file
        """Counters that have gone up since the last time."""
        before, self._seen = self._seen, self._read()
        rises = {name: value - before.get(name, 0) for name, value in self._seen.items()}
        return ", ".join(f"{name} +{rise}" for name, rise in rises.items() if rise > 0) or None

    def _read(self) -> dict[str, int]:
        return {name.decode(): int(value) for name, value in _COUNTER.findall(os.pread(self.descriptor, _SIZE, 0))}


class StallTrigger(Source):
    """Version 2: some task of this directory waited for memory for 100 ms within two seconds.

    The window is the shortest that the kernel allows to those without privileges: a multiple of two seconds.

    Raises:
        OSError: The kernel does not offer it here or refuses.
    """

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | _FLAGS)
        detail = f"{_STALL_MICROSECONDS // 1000} ms of waiting within {_WINDOW_MICROSECONDS // 1_000_000} s"
        super().__init__(KernelSignal.STALL, path, detail, descriptor, _PRIORITY)
        # The kernel overwrites the last byte with the terminator, so one has to be sent or a digit is lost.
        os.write(descriptor, f"some {_STALL_MICROSECONDS} {_WINDOW_MICROSECONDS}\0".encode())

    def take(self, ready: int) -> str | None:
        """That it happened; waiting has used it up."""
        if ready & (_ERROR | _INVALID):
            raise ProcessLookupError(f"{self.path}: the group is gone")
        return self.detail


# Not every system has them all, and importing this must work everywhere.
_PRIORITY: Final = getattr(select, "POLLPRI", 0)
_ERROR: Final = getattr(select, "POLLERR", 0)
_INVALID: Final = getattr(select, "POLLNVAL", 0)


def _registered(directory: str, path: str, what: str) -> int:
    """An eventfd that is told about a file; the two other descriptors are needed only to say so."""
    event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    opened: list[int] = []
    try:
        opened.append(os.open(path, os.O_RDONLY | _FLAGS))
        opened.append(os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | _FLAGS))
        os.write(opened[1], f"{event} {opened[0]} {what}".encode())
    except OSError:
        os.close(event)
        raise
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return event
