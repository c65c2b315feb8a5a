"""What reading memory costs: a snapshot against psutil, the monitor's share of a processor, the slowdown of a program.

Readings are timed side by side in one process, round by round, so that a machine that changes its speed does so for all
of them; the median of the rounds counts, and for comparisons the median of the ratios. CPU use is processor time over
wall time: of a monitor that is asked once a second, of a runtime at a 1 s interval without work, and of one with a
permit held all the while, so that the watcher looks as often as it ever does far from the limit. The slowdown is that
of a program which computes in pure Python and allocates, under a permit of a runtime that was started, against the same
without any, alternating in one process; tracemalloc is off. To reach: at most 2 µs for the reading on the hot
path, 1 % of a processor, 5 % slowdown.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from asyncmem import MemoryMonitor
from asyncmem.sampling import Cgroup, CgroupMeter, CgroupV1, CgroupV2, LiveMeter, default_machine, default_sampler
from asyncmem.sampling.hierarchy import find_hierarchies

ROUNDS = 21
CALLS = 2000
CPU_SECONDS = 10
SLOWDOWN_ROUNDS = 40

CPU = f"""
import json, sys, time
from asyncmem import MemoryConfig, MemoryMonitor, MemoryRuntime
mode = sys.argv[1]
def share(between):
    begin, wall = time.process_time(), time.perf_counter()
    for _ in range({CPU_SECONDS}):
        time.sleep(1)
        between()
    return 100 * (time.process_time() - begin) / (time.perf_counter() - wall)
if mode == "monitor":
    monitor = MemoryMonitor()
    print(json.dumps(share(monitor.capture_snapshot)))
else:
    with MemoryRuntime(MemoryConfig(interval=1.0, log_alerts=False)) as runtime:
        time.sleep(0.5)
        if mode == "idle":
            print(json.dumps(share(lambda: None)))
        else:
            with runtime.guard("held", cost="1MiB"):
                print(json.dumps(share(lambda: None)))
"""

BUSY = f"""
import json, time
from asyncmem import MemoryConfig, MemoryRuntime
def work():
    total, kept = 0, []
    for number in range(500_000):
        total += number % 7
        if number % 50 == 0:
            kept.append(bytes(2000))
        if len(kept) > 500:
            kept.clear()
    return total
def plain():
    begin, wall = time.process_time(), time.perf_counter()
    for _ in range(5):
        work()
    return time.process_time() - begin, time.perf_counter() - wall
def watched():
    with MemoryRuntime(MemoryConfig(interval=1.0, log_alerts=False)) as runtime, runtime.guard("busy", cost="4MiB"):
        return plain()
plain(), watched()
rounds = []
for number in range({SLOWDOWN_ROUNDS}):
    first, second = (plain, watched) if number % 2 == 0 else (watched, plain)
    seconds = {{first.__name__: first(), second.__name__: second()}}
    rounds.append([100 * (w / p - 1) for p, w in zip(seconds["plain"], seconds["watched"])])
print(json.dumps(rounds))
"""


def _microseconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - begin) / CALLS * 1e6


def _readings() -> dict[str, Callable[[], object]]:
    sampler, machine, process = default_sampler(), default_machine(), psutil.Process()
    monitor = MemoryMonitor(history=10)
    readings: dict[str, Callable[[], object]] = {
        "statm: working set": sampler.working_set,
        "statm: all figures": sampler.read,
        "machine: available": machine.available,
        "live meter": LiveMeter(sampler, timer=lambda: 0.0).sample,
        "capture_snapshot": monitor.capture_snapshot,
        "psutil memory_info": process.memory_info,
        "psutil virtual_memory": psutil.virtual_memory,
        "psutil both": lambda: (process.memory_info(), psutil.virtual_memory()),
    }
    if (cgroup := _own_cgroup()) is not None:
        meter = CgroupMeter(cgroup, sampler.working_set)
        meter.refresh()
        readings["cgroup: usage file"] = cgroup.usage
        readings["cgroup: usage without cache"] = meter.used
        readings["cgroup: memory.stat"] = meter.refresh
    return readings


def _own_cgroup() -> Cgroup | None:
    """The process's own group, whether or not it has a limit."""
    found = find_hierarchies(*(Path("/proc/self", name).read_text() for name in ("cgroup", "mountinfo")))
    for hierarchy in found:
        cgroup = (CgroupV1 if hierarchy.version == 1 else CgroupV2)(hierarchy.directories[0])
        with contextlib.suppress(OSError):
            cgroup.usage()
            return cgroup
    return None


def _fresh(program: str, mode: str = "") -> object:
    done = subprocess.run([sys.executable, "-c", program, mode], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _table(rows: dict[str, float], unit: str, reach: dict[str, float]) -> None:
    for name, value in rows.items():
        bound = f"   to reach: at most {reach[name]:g}" if name in reach else ""
        print(f"{name:>34}  {value:8.2f} {unit}{bound}")


def main() -> dict[str, object]:
    """Measure, print a table, return the figures."""
    readings = _readings()
    rounds = [{name: _microseconds(call) for name, call in readings.items()} for _ in range(ROUNDS)]
    costs = {name: statistics.median(entry[name] for entry in rounds) for name in readings}
    _table(costs, "µs", {"statm: working set": 2, "cgroup: usage file": 2})
    pairs = {
        "memory_info over statm": ("psutil memory_info", "statm: all figures"),
        "virtual_memory over meminfo": ("psutil virtual_memory", "machine: available"),
        "both over capture_snapshot": ("psutil both", "capture_snapshot"),
    }
    ratios = {name: [entry[peer] / entry[ours] for entry in rounds] for name, (peer, ours) in pairs.items()}
    _table({f"psutil {name}": statistics.median(values) for name, values in ratios.items()}, "×", {})

    modes = ("monitor", "idle", "held")
    names = {"monitor": "monitor at 1 s", "idle": "runtime without work", "held": "runtime with a permit held"}
    cpu = {names[mode]: float(str(_fresh(CPU, mode))) for mode in modes}
    _table(cpu, "% of a processor", {names["monitor"]: 1, names["idle"]: 1})

    pairs_of_both: list[list[float]] = _fresh(BUSY)  # type: ignore[assignment]
    slowdowns = dict(zip(("processor time", "wall time"), zip(*pairs_of_both, strict=True), strict=True))
    slower = {f"slowdown, {name}": statistics.median(values) for name, values in slowdowns.items()}
    _table(slower, "%", dict.fromkeys(slower, 5))
    return {
        "microseconds": costs,
        "psutil_ratios": {
            name: {"median": statistics.median(values), "spread": [min(values), max(values)]}
            for name, values in ratios.items()
        },
        "cpu_percent": cpu,
        "slowdown_percent": {
            name: {"median": statistics.median(values), "spread": [min(values), max(values)]}
            for name, values in slowdowns.items()
        },
    }
