"""A cache under a real memory cgroup: its bytes come back when pressure rises, and the process lives."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

MIB = 1024 * 1024

PROGRAM = """
import json, sys, threading, time
from asyncmem import MemoryConfig, MemoryRuntime
from asyncmem.events import PressureLevel

MIB = 2**20
essential = sys.argv[1] == "critical"
target = {"medium": 0.76, "high": 0.89, "critical": 0.96}[sys.argv[1]]

class Cache:
    name = "pages"
    def __init__(self, essential):
        self.essential, self.told, self.pages, self.lock = essential, [], [], threading.Lock()
    def fill(self, nbytes):
        with self.lock:
            self.pages += [bytearray(b"x" * 65536) for _ in range(nbytes // 65536)]
    def shrink(self, level):
        with self.lock:
            self.told.append(level.value)
            keep = {"low": len(self.pages), "medium": len(self.pages) // 2}.get(level.value, 0)
            given = (len(self.pages) - keep) * 65536
            del self.pages[keep:]
            return given

def until(condition):
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end, (cache.told, memory.statistics().pressure, memory.statistics().reclaim)
        time.sleep(0.02)

with MemoryRuntime(MemoryConfig(interval=0.1, log_alerts=False)) as memory:
    cache = Cache(essential)
    memory.reclaimers.add(cache)
    before, limit, _ = memory.admission.tightest()
    cache.fill(int(limit * target) - before)
    until(lambda: cache.told)
    first = cache.told[0]
    until(lambda: memory.pressure.level is PressureLevel.LOW and cache.told[-1] == "low")
    used = memory.admission.tightest().used
    statistics = memory.statistics()
print(json.dumps({
    "first": first, "before": before, "used": used, "limit": limit, "told": cache.told,
    "freed": statistics.reclaim.bytes_freed, "errors": statistics.reclaim.errors + statistics.actions.errors,
    "running": statistics.actions.running,
}))
"""


@pytest.mark.parametrize("level", ["medium", "high", "critical"])
def test_bytes_come_back_before_the_limit(memory_cgroup: Any, level: str) -> None:
    """Filled up to a level, it shrinks until pressure is over; what is essential is not told that it is high.

    Growth that nobody foresaw widens the guard band, and with it every level may begin earlier than it would.
    """
    memory_cgroup.limit = 1024 * MIB
    done = memory_cgroup.run([sys.executable, "-c", PROGRAM, level], timeout=100)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert memory_cgroup.oom_kills == 0
    assert set(seen["told"]) <= {"medium", "critical", "low"} | ({"high"} if level != "critical" else set())
    assert seen["first"] != "low"
    assert seen["told"][-1] == "low"
    assert seen["used"] < 0.7 * seen["limit"]
    assert seen["freed"] > 50 * MIB
    assert seen["errors"] == 0
