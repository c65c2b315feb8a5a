"""The file in which learned costs outlive the process, so that a restart does not begin blind.

Covers reading, and writing that leaves the old file or the new one whatever happens in between. What is in the file:
`learning.saved`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from asyncmem.admission.controller import AdmissionController

__all__ = ["CostsFile"]

_LARGEST: Final = 16 * 1024 * 1024
"""A file beyond this size is not one of ours: a thousand classes take some hundred kilobytes."""


class CostsFile:
    """Keeps what a controller has learned in a file. What goes wrong is logged, and keeps nothing from running.

    Args:
        path: The file. Its directory must exist.
        controller: Learns.
    """

    def __init__(self, path: str | os.PathLike[str], controller: AdmissionController) -> None:
        self._path = Path(path)
        self._controller = controller
        self._lock = threading.Lock()
        self._written: bytes | None = None

    def load(self) -> bool:
        """Begin with what the file holds; returns whether it held anything that could be used."""
        try:
            with self._path.open("rb") as file:
                data = file.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise ValueError(f"more than {_LARGEST} bytes")  # noqa: TRY301 - one report for all that can be wrong
            self._controller.load_costs(data)
        except FileNotFoundError:
            return False
        except (OSError, ValueError, RecursionError) as error:
            structlog.get_logger("asyncmem").warning(
                "saved_costs_unusable",
                path=str(self._path),
                error=str(error),
                hint="costs are learned anew, and the file is replaced at the next save",
            )
            return False
        return True

    def save(self) -> bool:
        """Write what was learned, where that is new; returns whether it stands in the file."""
        data = self._controller.save_costs()
        with self._lock:
            if data == self._written:
                return True
            draft: Path | None = None
            try:
                draft = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
                with draft.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(self._path)
            except (OSError, ValueError) as error:
                structlog.get_logger("asyncmem").warning(
                    "saving_costs_failed",
                    path=str(self._path),
                    error=str(error),
                    hint="set costs_path to a file in a directory that this process may write",
                )
                if draft is not None:
                    with contextlib.suppress(OSError, ValueError):
                        draft.unlink()
                return False
            self._written = data
        return True
