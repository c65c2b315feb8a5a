"""A process's and the machine's memory through psutil, for systems without Linux's ``/proc``.

Covers what `linux` and `machine` cover, in the same words and five to ten times slower. Does not cover what a system
does not tell: where it has no figure for shared or private pages, the larger one that it has stands in, so that used
memory is never understated. The only module that imports psutil, and it does so at the first use.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from asyncmem._protocols import ProcessMemory
from asyncmem.sampling.forks import forget_after_fork

if TYPE_CHECKING:
    import psutil

__all__ = ["PsutilMachine", "PsutilSampler"]


class PsutilSampler:
    """Reads one process through psutil; about 10 µs a reading on Linux.

    psutil's errors for a process that is gone or out of reach become `OSError`, as `MemorySampler` has it.

    Args:
        pid: Whose memory; None is whoever asks, in a forked child the child.
    """

    __slots__ = ("__weakref__", "_pid", "_process")

    def __init__(self, pid: int | None = None) -> None:
        self._pid: Final = pid
        self._process: psutil.Process | None = None
        forget_after_fork(self)

    def read(self) -> ProcessMemory:
        """Read now.

        Raises:
            OSError: The process is gone or may not be read.
        """
        import psutil  # noqa: PLC0415 - Linux never needs it

        try:
            info = self._opened().memory_info()
        except psutil.Error as error:
            raise _as_os_error(error) from error
        return ProcessMemory(
            rss=info.rss,
            vms=info.vms,
            working_set=max(0, info.rss - getattr(info, "shared", 0)),
            data=getattr(info, "data", info.vms),
        )

    def working_set(self) -> int:
        """Resident bytes without the shared ones, where the system tells them apart; else all that is resident.

        Raises:
            OSError: The process is gone or may not be read.
        """
        return self.read().working_set

    def threads(self) -> int:
        """Threads of the process.

        Raises:
            OSError: The process is gone or may not be read.
        """
        import psutil  # noqa: PLC0415 - Linux never needs it

        try:
            return self._opened().num_threads()
        except psutil.Error as error:
            raise _as_os_error(error) from error

    def open_files(self) -> int:
        """Descriptors that the process has open; handles on Windows.

        Raises:
            OSError: The process is gone or may not be read.
        """
        import psutil  # noqa: PLC0415 - Linux never needs it

        try:
            process = self._opened()
            if sys.platform == "win32":
                return process.num_handles()
            return process.num_fds()
        except psutil.Error as error:
            raise _as_os_error(error) from error

    def after_fork(self) -> None:
        """Forget the parent's process."""
        self._process = None

    def _opened(self) -> psutil.Process:
        if self._process is None:
            import psutil  # noqa: PLC0415 - Linux never needs it

            self._process = psutil.Process(self._pid)
        return self._process


class PsutilMachine:
    """Reads the machine through psutil; about 25 µs a reading on Linux."""

    __slots__ = ()

    source: Final = "psutil.virtual_memory"

    def total(self) -> int:
        """Bytes that the machine has."""
        import psutil  # noqa: PLC0415 - Linux never needs it

        return psutil.virtual_memory().total

    def available(self) -> int:
        """Bytes that the machine could still give without swapping."""
        import psutil  # noqa: PLC0415 - Linux never needs it

        return psutil.virtual_memory().available


def _as_os_error(error: Exception) -> OSError:
    import psutil  # noqa: PLC0415 - Linux never needs it

    if isinstance(error, psutil.NoSuchProcess):
        return ProcessLookupError(str(error))
    if isinstance(error, psutil.AccessDenied):
        return PermissionError(str(error))
    return OSError(str(error))
