"""One run: a cgroup, the server in it, the clients, a look from outside, and the figures.

What is seen from outside is in `watch`, what the clients saw is counted in `figures`, cgroups are made in `cgroups`. A
run ends early when the kernel has killed anybody: what is not answered by then is lost.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tests.benchmarks._survival.cgroups import cgroup, end, start_in
from tests.benchmarks._survival.figures import figures, library
from tests.benchmarks._survival.values import MIB, RESULTS, Outcome, Result, ServerSettings, Workload
from tests.benchmarks._survival.watch import Scene, Watch

LEAD: Final = 0.15
"""Seconds between telling the begin and the begin."""
CACHE_FILE: Final = 1536 * MIB
COSTS_VARIABLE: Final = "ASYNCMEM_COSTS_PATH"
"""Where a warm asyncmem reads and saves what it has learned."""
SAVING_SECONDS: Final = 3.0


def run(workload: Workload, policy: str) -> Result:
    """Run one policy under one workload; it takes two seconds longer than what is sent.

    Raises:
        RuntimeError: The server or the clients did not start.
    """
    started, code = time.monotonic(), library()
    environment = workload.environment
    RESULTS.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        whole = stack.enter_context(cgroup(f"asyncmem-survival-{os.getpid()}", workload.limit))
        below = []
        if environment.neighbour is not None:
            below = [stack.enter_context(cgroup(name, None, parent=whole)) for name in ("server", "neighbour")]
        told = stack.enter_context(_neighbours(workload, whole, below))
        settings = ServerSettings(
            policy=policy,
            cgroup=str(whole),
            limit=workload.limit,
            mean_cost=workload.mean_cost,
            set_aside=environment.set_aside,
            sawtooth=environment.sawtooth,
        )
        complaints = stack.enter_context((folder / "complaints").open("w"))
        server = start_in(
            below[0] if below else whole,
            "app",
            msgspec.json.encode(settings).decode(),
            environment={COSTS_VARIABLE: str(costs_path(workload.name))} if policy.endswith("-warm") else None,
            complaints=complaints,
        )
        stack.callback(end, server)
        port = _line(server)
        (folder / "workload").write_bytes(msgspec.json.encode(workload))
        clients = start_in(None, "load", str(folder / "workload"), port, str(folder / "outcomes"))
        stack.callback(end, clients)
        _line(clients)
        begin = time.monotonic() + LEAD
        for process in (clients, *told):
            _tell(process, begin)
        watch = Watch(workload, Scene(whole, below, server, clients), begin)
        watch.run()
        found: dict[str, object] = {}
        if watch.killed_at is None:
            found = _statistics(int(port))
            if policy.endswith("-warm"):
                server.terminate()  # it saves what it has learned
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(SAVING_SECONDS)
        if library() != code and policy.startswith("asyncmem"):
            watch.notes.append("asyncmem was edited during the run: void")
        watch.notes += (folder / "complaints").read_text().splitlines()[-1:]
        outcomes = msgspec.json.decode((folder / "outcomes").read_bytes(), type=list[Outcome])
    return figures(workload, policy, watch, outcomes, found=found, code=code, wall=time.monotonic() - started)


def costs_path(workload: str) -> Path:
    """Where learned costs are kept between runs of one workload."""
    return RESULTS / f"survival-costs-{workload}"


@contextlib.contextmanager
def _neighbours(workload: Workload, whole: Path, below: list[Path]) -> Iterator[list[subprocess.Popen[str]]]:
    """Start what runs beside the server; yields those that want to be told the begin."""
    environment = workload.environment
    with contextlib.ExitStack() as stack:
        told = []
        if environment.neighbour is not None:
            since, until, size = environment.neighbour
            told.append(start_in(below[1], "neighbour", "hold", str(size), str(since), str(until)))
            stack.callback(end, told[0])
        if environment.page_cache:
            file = stack.enter_context(tempfile.NamedTemporaryFile(dir=RESULTS))
            os.truncate(file.fileno(), CACHE_FILE)  # holes: the pages fill the cache, the disk has no part in it
            stack.callback(end, start_in(whole, "neighbour", "read", file.name))
        yield told


def _line(process: subprocess.Popen[str]) -> str:
    """The first line that a process writes: it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"a process did not start, it ended with {process.wait()}: {process.args!r}")
    return line


def _tell(process: subprocess.Popen[str], begin: float) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{begin}\n")
    process.stdin.flush()


def _statistics(port: int) -> dict[str, object]:
    """What the server says of itself; empty when it does not answer within five seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/metrics/statistics")
        found: dict[str, object] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    else:
        return found
    finally:
        connection.close()
