"""A real process under a real limit passes the thresholds of its alerts, and the kernel says so at once."""

from __future__ import annotations

import sys
from typing import Any

SCRIPT = """
import queue, time
from asyncmem import MemoryConfig, MemoryRuntime

def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, memory.statistics()
        time.sleep(0.01)

def grow(percent):
    snapshot = memory.monitor.capture_snapshot()
    blocks.append(b"x" * int(snapshot.limit * percent / 100 - snapshot.working_set))

blocks, told = [], queue.SimpleQueue()
with MemoryRuntime(MemoryConfig(interval=60.0, log_alerts=False)) as memory:
    memory.alerts.add_handler(lambda alert: alert.rule == "percent" and told.put(alert.level), immediate=True)
    until(lambda: memory.statistics().kernel_events.listening == 6)
    memory.alerts.set_threshold("info", percent=60)
    memory.check_now()
    until(lambda: memory.statistics().kernel_events.listening == 7)
    for percent in (65, 84):
        grow(percent)
        print(told.get(timeout=20))
"""


def test_the_kernel_tells_when_a_threshold_is_passed(memory_cgroup: Any) -> None:
    """Within a minute's interval, far below the guard band, and also at a threshold that was set later."""
    memory_cgroup.limit = 256 * 1024 * 1024
    done = memory_cgroup.run([sys.executable, "-c", SCRIPT])
    assert (done.returncode, done.stdout.split()) == (0, ["info", "warning"]), done.stderr
