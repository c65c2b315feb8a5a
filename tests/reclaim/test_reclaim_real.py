"""Reclaim on the real heap: what is kept comes back, and no more time goes into it than is allowed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from asyncmem.reclaim import collect_garbage, trim_heap
from asyncmem.reclaim import trim as trim_module
from asyncmem.sampling import heap_trimmer

needs_trim = pytest.mark.skipif(heap_trimmer() is None, reason="the C library has no malloc_trim")

PROGRAM = """
import gc, json, random, time
from asyncmem.reclaim import Reclaim, default_reclaimers
from asyncmem.sampling import LiveMeter, default_sampler
MIB = 2**20
sampler = default_sampler()
meter = LiveMeter(sampler, timer=lambda: 0.0, cpu=lambda: 0.0)
reclaim = Reclaim(sampler.working_set, default_reclaimers(meter))
blocks = [b"x" * 100_000 for _ in range(1500)]
random.Random(1).shuffle(blocks)
peak, live_before = sampler.working_set(), meter.sample()
kept = blocks[:150]
del blocks
retained, live_freed = sampler.working_set(), meter.sample()
begin = time.perf_counter()
report = reclaim.run(quiet=True)
seconds = time.perf_counter() - begin
after, live_after = sampler.working_set(), meter.sample()
print(json.dumps({
    "freed": (live_before - live_freed) / MIB, "held_back": (retained - (peak - 135_000_000)) / MIB,
    "given_back": (retained - after) / MIB, "reported": report.bytes_freed / MIB,
    "jump": (live_after - live_freed) / MIB, "seconds": seconds, "actions": [a.name for a in report.actions],
    "again": [a.name for a in reclaim.run(quiet=True).actions],
}))
"""


@needs_trim
def test_what_the_heap_keeps_comes_back() -> None:
    """And what the process holds does not seem to change by that; a second trim is not even tried."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    seen = json.loads(done.stdout)
    assert seen["freed"] == pytest.approx(129, abs=3)
    assert seen["held_back"] > 50, "the heap kept nothing, so that this test shows nothing"
    assert seen["given_back"] > 50
    assert seen["reported"] == pytest.approx(seen["given_back"], abs=1)
    assert abs(seen["jump"]) < 3
    assert seen["actions"] == ["heap"]
    assert seen["again"] == []


def test_collecting_frees_cycles() -> None:
    """The number of objects is the collector's."""
    ring: list[object] = []
    ring.append(ring)
    del ring
    assert collect_garbage() >= 1
    assert collect_garbage(0) >= 0


def test_without_such_a_library_nothing_is_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are other C libraries."""
    monkeypatch.setattr(trim_module, "heap_trimmer", lambda: None)
    assert trim_heap() is False
