"""What the process holds, apart from what its allocator keeps."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys

import pytest

from asyncmem.sampling import LiveMeter, heap
from asyncmem.testing import SyntheticSampler


class Heap:
    """A heap whose free bytes are set by hand, and the time it takes to ask for them."""

    def __init__(self, free: int = 0, *, seconds: float = 0.0) -> None:
        self.free = free
        self.seconds = seconds
        self.now = 100.0
        self.asked = 0

    def read(self) -> int:
        """The free bytes; time passes."""
        self.asked += 1
        self.now += self.seconds
        return self.free

    def meter(self, sampler: SyntheticSampler) -> LiveMeter:
        """A meter on this heap."""
        return LiveMeter(sampler, free=self.read, timer=lambda: self.now)


def test_free_bytes_of_the_heap_are_not_held() -> None:
    """They rise and fall with the blocks, while the working set stays."""
    memory, blocks = SyntheticSampler(1000), Heap(free=300)
    meter = blocks.meter(memory)
    assert meter.sample() == 700
    blocks.free = 900
    assert meter.sample() == 100
    memory.used = 1200
    assert meter.sample() == 300


def test_it_is_never_negative() -> None:
    """Pages that have left the resident set are still free in the heap."""
    assert Heap(free=1001).meter(SyntheticSampler(1000)).sample() == 0


def test_there_is_no_figure_where_the_process_cannot_be_read() -> None:
    """And a fresh one once it can."""
    memory, blocks = SyntheticSampler(1000), Heap(free=300)
    meter = blocks.meter(memory)
    memory.error = ProcessLookupError()
    assert meter.sample() is None
    memory.error = None
    assert meter.sample() == 700


def test_a_slow_heap_is_asked_a_twentieth_of_the_time() -> None:
    """In between there is no figure, for a block that was just freed would count as held."""
    memory, blocks = SyntheticSampler(1000), Heap(free=300, seconds=0.004)
    meter = blocks.meter(memory)
    assert meter.sample() == 700
    blocks.free = 900
    assert meter.sample() is None
    blocks.now += 0.079
    assert meter.sample() is None
    blocks.now += 0.002
    assert meter.sample() == 100

    begin, asked = blocks.now, blocks.asked
    for _ in range(10_000):
        blocks.now += 0.000_5
        meter.sample()
    share = (blocks.asked - asked) * blocks.seconds / (blocks.now - begin)
    assert 0.04 < share <= 1 / 20


def test_without_such_a_library_nothing_is_subtracted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The working set is then what is held."""
    monkeypatch.setattr(heap, "free_heap_bytes", lambda: None)
    assert LiveMeter(SyntheticSampler(1000)).sample() == 1000


@pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])
def test_a_library_without_the_function_is_no_error(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """There are other C libraries, and systems where none can be opened."""

    def open_library(_name: str | None) -> object:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", open_library)
    assert heap.free_heap_bytes.__wrapped__() is None


def test_real_blocks_show_as_growth_each_time() -> None:
    """30 MiB taken and freed six times: each time they are seen, though after the first the allocator keeps them."""
    program = """
import json
from asyncmem.sampling import LiveMeter, default_sampler
sampler = default_sampler()
meter = LiveMeter(sampler, timer=lambda: 0.0)
growth, kept = [], []
resident = sampler.working_set()
for _ in range(6):
    before = meter.sample()
    block = b"x" * (30 * 2**20)
    growth.append((meter.sample() - before) / 2**20)
    del block
    kept.append((sampler.working_set() - resident) / 2**20)
print(json.dumps([growth, kept]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    growth, kept = json.loads(done.stdout)
    assert growth == pytest.approx([30] * 6, abs=2)
    assert max(kept) > 25, "the allocator gave everything back, so that this test shows nothing"
