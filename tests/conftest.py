"""Fixtures for all tests: a made-up system of files, and a real memory cgroup."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from asyncmem.limits import LimitFinder

# How long an example takes says how busy the machine is: a stall of 200 ms failed whatever test it met.
settings.register_profile("asyncmem", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("asyncmem")

PAGE = os.sysconf("SC_PAGE_SIZE")
V1_UNLIMITED = 9223372036854771712
V1_MOUNT = Path("/sys/fs/cgroup/memory")

V2_STAT = ("anon", "file", "shmem", "file_mapped", "file_dirty", "file_writeback", "inactive_file", "active_file")
V1_STAT = ("rss", "cache", "shmem", "mapped_file", "dirty", "writeback", "inactive_file", "active_file")


class FakeSystem:
    """A ``/proc`` and a cgroup filesystem in a directory; files are rewritten in place, as the kernel's are."""

    def __init__(self, root: Path) -> None:
        self.proc = root / "proc"
        self.fs = root / "fs"
        self.fs.mkdir()
        (self.proc / "self").mkdir(parents=True)
        self._mounts: list[str] = []
        self.process()
        self.machine(total=1 << 40, available=1 << 39)
        self.member("0::/")
        (self.proc / "self/mountinfo").write_text("")

    def process(self, *, working_set: int = 0, shared: int = 0, vms: int = 0, data: int = 0, threads: int = 1) -> None:
        """Set what the process's own files say, in bytes."""
        resident = (working_set + shared) // PAGE
        statm = f"{vms // PAGE} {resident} {shared // PAGE} 1 0 {data // PAGE} 0\n"
        (self.proc / "self/statm").write_text(statm)
        fields = " ".join(["S", *["0"] * 16, str(threads), *["0"] * 30])
        (self.proc / "self/stat").write_text(f"1 (a name) with) brackets) {fields}\n")

    def machine(self, *, total: int, available: int) -> None:
        """Set the machine's memory, in bytes."""
        text = f"MemTotal:       {total // 1024} kB\nMemFree:  1 kB\nMemAvailable:   {available // 1024} kB\n"
        (self.proc / "meminfo").write_text(text)

    def member(self, *lines: str) -> None:
        """Set ``/proc/self/cgroup``."""
        (self.proc / "self/cgroup").write_text("".join(f"{line}\n" for line in lines))

    def mount(self, point: str, kind: str, *, root: str = "/", options: str = "rw") -> Path:
        """Add a mount; `point` and `root` as mountinfo writes them."""
        self._mounts.append(f"31 23 0:28 {root} {point} rw,relatime shared:9 - {kind} {kind} {options}\n")
        (self.proc / "self/mountinfo").write_text("1 0 8:1 / / rw - ext4 /dev/root rw\n" + "".join(self._mounts))
        directory = self.fs / point.lstrip("/").replace("\\040", " ")
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def mount_v2(self, *, point: str = "/sys/fs/cgroup", root: str = "/") -> Path:
        """Mount version 2."""
        return self.mount(point, "cgroup2", root=root)

    def mount_v1(self, *, point: str = "/sys/fs/cgroup/memory", root: str = "/") -> Path:
        """Mount version 1's memory controller, with another controller beside it."""
        self.mount("/sys/fs/cgroup/cpu", "cgroup", options="rw,cpu")
        return self.mount(point, "cgroup", root=root, options="rw,memory")

    def group_v2(
        self, directory: Path, *, maximum: int | str = "max", high: int | str = "max", usage: int = 0, **stat: int
    ) -> None:
        """Write the files of a version 2 directory; figures of ``memory.stat`` by name, the rest 0."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "memory.max").write_text(f"{maximum}\n")
        (directory / "memory.high").write_text(f"{high}\n")
        (directory / "memory.current").write_text(f"{usage}\n")
        figures = dict.fromkeys(V2_STAT, 0) | stat
        (directory / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in figures.items()))

    def group_v1(
        self,
        directory: Path,
        *,
        limit: int = V1_UNLIMITED,
        hierarchical: int | None = None,
        usage: int = 0,
        **stat: int,
    ) -> None:
        """Write the files of a version 1 directory; figures of the subtree by name, the rest 0."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (directory / "memory.usage_in_bytes").write_text(f"{usage}\n")
        lines = [f"{name} 7777777\n" for name in V1_STAT]  # the group's own figures, which must not be taken
        if hierarchical is not None:
            lines.append(f"hierarchical_memory_limit {hierarchical}\n")
        lines += [f"total_{name} {value}\n" for name, value in (dict.fromkeys(V1_STAT, 0) | stat).items()]
        (directory / "memory.stat").write_text("".join(lines))

    def finder(self, **settings: Any) -> LimitFinder:
        """A finder on this system, without rlimits unless they are given."""
        settings.setdefault("getrlimit", lambda _which: (-1, -1))
        return LimitFinder(proc_root=self.proc, fs_root=self.fs, **settings)


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop() -> Iterator[None]:
    """A blocking call of ours on an event loop's thread raises `blockbuster.BlockingError`.

    Files of ``/proc`` and of cgroups are no disk: the kernel answers from memory, in microseconds.
    """
    with blockbuster_ctx(["asyncmem", "asyncmem_services"]) as guard:
        guard.functions["os.read"].can_block_in("asyncmem/sampling/_files.py", {"read_once"})
        guard.functions["os.stat"].can_block_in("asyncmem/sampling/hierarchy.py", {"_locate"})
        yield


@pytest.fixture
def fake_system(tmp_path: Path) -> FakeSystem:
    """A made-up system without any cgroup, on a machine of 1 TiB."""
    return FakeSystem(tmp_path)


class MemoryCgroup:
    """A real memory cgroup (version 1), a child of the root of the hierarchy.

    Everything about it is read from the kernel when asked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._processes: list[subprocess.Popen[Any]] = []

    @property
    def limit(self) -> int:
        """Bytes at which the kernel kills."""
        return self._number("memory.limit_in_bytes")

    @limit.setter
    def limit(self, value: int) -> None:
        (self.path / "memory.limit_in_bytes").write_text(str(value))

    @property
    def usage(self) -> int:
        """Bytes charged now, page cache included."""
        return self._number("memory.usage_in_bytes")

    @property
    def failcnt(self) -> int:
        """How often the limit was hit."""
        return self._number("memory.failcnt")

    @property
    def oom_kills(self) -> int:
        """Processes that the kernel has killed here."""
        lines = (self.path / "memory.oom_control").read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process that is inside from its first instruction; it is killed when the test ends."""
        inside = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.path), *argv]
        process = subprocess.Popen(inside, **options)
        self._processes.append(process)
        return process

    def run(self, argv: Sequence[str], *, timeout: float = 60.0, **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a process inside to its end, and take what it writes; `timeout` in seconds."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        process = self.popen(argv, **options)
        output, errors = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(argv, process.returncode, output, errors)

    def remove(self) -> None:
        """Kill what is left inside and remove the directory."""
        for process in self._processes:
            with process:
                process.kill()
        deadline = time.monotonic() + 30.0
        while True:
            for pid in (self.path / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            try:
                self.path.rmdir()
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)  # the kernel gives no sign when the last process has left
            else:
                return

    def _number(self, name: str) -> int:
        return int((self.path / name).read_text())


def not_here(reason: str) -> NoReturn:
    """This machine cannot run the test: it is skipped, and under CI it fails, so that nothing is missed there."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture
def memory_cgroup() -> Iterator[MemoryCgroup]:
    """A real memory cgroup without a limit yet; skips where none can be made, and fails there under CI."""
    path = V1_MOUNT / f"asyncmem-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        if not (V1_MOUNT / "memory.usage_in_bytes").exists():
            raise FileNotFoundError(errno.ENOENT, "no memory controller of version 1", str(V1_MOUNT))
        path.mkdir()
    except OSError as error:
        not_here(f"no memory cgroup can be made here: {error}")
    group = MemoryCgroup(path)
    yield group
    group.remove()
