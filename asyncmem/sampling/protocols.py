"""What the readers of this package have in common, so that a monitor asks each in the same words.

`MemorySampler` of the vocabulary floor is the least that a sampler can do; what is here can do more, and faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from asyncmem._protocols import MemorySampler

__all__ = ["MachineSampler", "ProcessSampler", "working_set_of"]


@runtime_checkable
class ProcessSampler(MemorySampler, Protocol):
    """Reads the memory of one process, and what a snapshot wants besides."""

    def working_set(self) -> int:
        """The working set alone, in bytes: the quickest reading there is.

        Raises:
            OSError: The process is gone or its files cannot be read.
        """
        ...

    def threads(self) -> int:
        """Threads of the process.

        Raises:
            OSError: The process is gone or its files cannot be read.
        """
        ...

    def open_files(self) -> int:
        """Descriptors that the process has open. The slowest reading: it takes longer the more there are.

        Raises:
            OSError: The process is gone or its files cannot be read.
        """
        ...


class MachineSampler(Protocol):
    """Reads the memory of the machine."""

    def total(self) -> int:
        """Bytes that the machine has.

        Raises:
            OSError: It cannot be read.
            ValueError: What was read says nothing about it.
        """
        ...

    def available(self) -> int:
        """Bytes that the machine could still give without swapping.

        Raises:
            OSError: It cannot be read.
            ValueError: What was read says nothing about it.
        """
        ...


def working_set_of(sampler: MemorySampler) -> Callable[[], int]:
    """The quickest way to a sampler's working set: its own `working_set` where it has one, else a whole reading."""
    if isinstance(sampler, ProcessSampler):
        return sampler.working_set
    return lambda: sampler.read().working_set
