"""The benchmark of alerts, too small to say anything about speed: it runs, counts, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.benchmarks import alerts
from tests.benchmarks._alerts.group import CONTROLLER, ROOT, available
from tests.conftest import not_here

KILLED = """
import os, signal, subprocess
from tests.benchmarks._alerts.group import guarded_cgroup
with guarded_cgroup("asyncmem-test-alerts", 64 * 2**20) as path:
    inside = subprocess.Popen(["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec sleep 60', str(path)])
    while not (path / "cgroup.procs").read_text():
        pass
    print(path, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _needs_cgroups() -> None:
    if not available():
        not_here("no memory cgroup can be made here")


def test_each_crossing_is_told_and_each_alert_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Pushed and polled, a flood, and requests beside it; one line in the table for each."""
    _needs_cgroups()
    small = ["--case", "neighbour", "--crossings", "2", "--alerts", "2000", "--rounds", "1", "--seconds", "0.05"]
    figures = alerts.main(small)
    table = capsys.readouterr().out
    crossings, flood, throughput = (figures[name] for name in ("crossings", "flood", "throughput"))
    assert isinstance(crossings, dict)
    # How many were missed is what the machine was like, and no matter of a test.
    assert {name: case["crossings"] for name, case in crossings.items()} == {
        "pushed, idle, neighbour grows": 2,
        "polled, idle, neighbour grows": 2,
    }
    assert isinstance(flood, dict)
    assert (flood["alerts"], flood["receivers"], flood["unaccounted"]) == (2000, 3, 0)
    assert isinstance(throughput, dict)
    assert {"requests_per_second", "100/s", "1000/s", "full speed"} <= throughput.keys()
    assert all(name in table for name in (*crossings, "2000 alerts", "1000/s"))


def test_a_cgroup_goes_with_its_maker_however_that_ends() -> None:
    """Killed, with a process inside that would have stayed for a minute."""
    _needs_cgroups()
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    path, end = Path(done.stdout.strip()), time.monotonic() + 20
    assert path.parent == CONTROLLER
    while path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
