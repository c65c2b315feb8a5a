"""A real memory cgroup (version 1) that goes away with whoever made it, also where that one is killed.

A guardian, a shell in a session of its own, waits until the pipe from the maker closes; then it kills what is left
inside and removes the directory. Nothing else removes it, so there is one way for all ends.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["CONTROLLER", "ROOT", "available", "guarded_cgroup", "python"]

CONTROLLER: Final = Path("/sys/fs/cgroup/memory")
ROOT: Final = Path(__file__).parents[3]
_GUARDIAN: Final = """
read -r _
for _ in $(seq 500); do
    while read -r pid; do kill -KILL "$pid"; done < "$0/cgroup.procs"
    rmdir "$0" && exit
    sleep 0.01
done 2> /dev/null
"""


def available() -> bool:
    """Whether cgroups can be made here: this needs root and the memory controller of version 1."""
    return os.geteuid() == 0 and (CONTROLLER / "memory.limit_in_bytes").exists()


@contextlib.contextmanager
def guarded_cgroup(name: str, limit: int) -> Iterator[Path]:
    """A cgroup below the root of the hierarchy, with a limit in bytes."""
    path = CONTROLLER / f"{name}-{os.getpid()}"
    path.mkdir()
    with subprocess.Popen(
        ["/bin/sh", "-c", _GUARDIAN, str(path)], stdin=subprocess.PIPE, start_new_session=True
    ):  # its end closes the pipe, and waits for the guardian
        (path / "memory.limit_in_bytes").write_text(str(limit))
        yield path


def python(module: str, *arguments: str, inside: Path | None = None) -> list[str]:
    """The command that runs a module of this folder, from its first instruction inside a cgroup where one is given."""
    command = [sys.executable, "-m", f"tests.benchmarks._alerts.{module}", *arguments]
    # The shell joins first and becomes the program then: so nothing of it runs outside.
    return (
        command
        if inside is None
        else ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(inside), *command]
    )
