"""Real memory cgroups (version 1) for a run: made, joined by processes that are started in them, and removed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from tests.benchmarks._survival.values import ROOT

CONTROLLER: Final = Path("/sys/fs/cgroup/memory")
REMOVAL_ATTEMPTS: Final = 200
REMOVAL_SECONDS: Final = 0.01


def available() -> bool:
    """Whether cgroups can be made here: this needs root and the memory controller of version 1."""
    return os.geteuid() == 0 and (CONTROLLER / "memory.limit_in_bytes").exists()


@contextlib.contextmanager
def cgroup(name: str, limit: int | None, *, parent: Path = CONTROLLER) -> Iterator[Path]:
    """A cgroup with a limit in bytes (None: that of its parent), which is removed when all in it have ended."""
    path = parent / name
    path.mkdir()
    try:
        if limit is not None:
            (path / "memory.limit_in_bytes").write_text(str(limit))
        yield path
    finally:
        for _ in range(REMOVAL_ATTEMPTS):
            with contextlib.suppress(OSError):
                path.rmdir()
                break
            time.sleep(REMOVAL_SECONDS)


def start_in(
    path: Path | None,
    module: str,
    *arguments: str,
    environment: dict[str, str] | None = None,
    complaints: IO[str] | None = None,
) -> subprocess.Popen[str]:
    """Start a module of this package with pipes, inside a cgroup if one is given; `complaints` takes its errors."""
    command = [sys.executable, "-m", f"tests.benchmarks._survival.{module}", *arguments]
    if path is not None:
        # The shell joins first and becomes the program then: so nothing of it runs outside.
        command = ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(path), *command]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process, wait for it, close its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
