"""The look from outside: memory of the cgroup every 5 ms, kills, processor time, and the limit when it is lowered."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.benchmarks._survival.memory import CgroupMemory
from tests.benchmarks._survival.values import MIB, Workload

PERIOD: Final = 0.005
CURVE_SECONDS: Final = 0.05
CPU_LOOKS: Final = 20
"""Processor time is read at each 20th look: the last reading before a kill counts."""
LOWERING_SECONDS: Final = 0.05
"""Period in which the lower limit is tried again: the kernel refuses one below what is in use."""


class Scene(NamedTuple):
    """What there is to look at: the cgroup with the limit, all that lie below it, server and clients."""

    whole: Path
    below: Sequence[Path]
    server: subprocess.Popen[str]
    clients: subprocess.Popen[str]


class Watch:
    """What was seen of a run. Memory is a share of the limit in force, `curve` has MiB by 50 ms since the begin."""

    def __init__(self, workload: Workload, scene: Scene, begin: float) -> None:
        self.killed_at: float | None = None
        self.peak_usage = 0.0
        self.peak_working_set = 0.0
        self.curve: dict[int, float] = {}
        self.server_cpu = 0.0
        self.notes: list[str] = []
        self._scene = scene
        self._begin = begin
        self._lowered = workload.environment.lowered

    def run(self) -> None:
        """Look until the clients have ended, or the server has; then the clients are told to end."""
        scene = self._scene
        memory = CgroupMemory(scene.whole)
        # A kill is counted where the victim was, and not where the limit is.
        all_of_it = [memory, *(CgroupMemory(path) for path in scene.below)]
        cpu_before = _cpu(scene.server.pid)
        looks = 0
        while scene.clients.poll() is None:
            self._sample(memory)
            if looks % CPU_LOOKS == 0:
                self.server_cpu = max(self.server_cpu, _cpu(scene.server.pid) - cpu_before)
            looks += 1
            killed = any(cgroup.kills for cgroup in all_of_it)
            if killed or scene.server.poll() is not None:
                self.killed_at = time.monotonic() - self._begin
                if not killed:
                    self.notes.append(f"the server ended by itself: {scene.server.returncode}")
                elif not self._server_has_gone():
                    self.notes.append("the neighbour was killed, not the server")
                scene.clients.terminate()
                scene.clients.wait()
                break
            self._lower()
            time.sleep(PERIOD)
        if self._lowered is not None and self.killed_at is None:
            self.notes.append("the limit was never lowered")
        for cgroup in all_of_it:
            cgroup.close()

    def _sample(self, memory: CgroupMemory) -> None:
        since = time.monotonic() - self._begin
        usage, cache, limit = memory.usage, memory.cache, memory.limit
        working_set = max(0, usage - cache)
        self.peak_usage = max(self.peak_usage, usage / limit)
        self.peak_working_set = max(self.peak_working_set, working_set / limit)
        if since >= 0:
            at = int(since / CURVE_SECONDS)
            self.curve[at] = max(self.curve.get(at, 0.0), working_set / MIB)

    def _lower(self) -> None:
        """Try to write the limit down when its time has come, and again later where the kernel refuses."""
        since = time.monotonic() - self._begin
        if self._lowered is None or since < self._lowered[0]:
            return
        try:
            (self._scene.whole / "memory.limit_in_bytes").write_text(str(self._lowered[1]))
        except OSError:
            self._lowered = (since + LOWERING_SECONDS, self._lowered[1])
        else:
            self._lowered = None
            self.notes.append(f"limit lowered at {since:.2f} s")

    def _server_has_gone(self) -> bool:
        """Whether it ends within a second: the kernel takes its time to tear down what it has killed."""
        try:
            self._scene.server.wait(1)
        except subprocess.TimeoutExpired:
            return False
        return True


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process has used; 0 if it has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
