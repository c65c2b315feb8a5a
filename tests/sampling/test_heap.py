"""What the process holds, apart from what its allocator keeps."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asyncmem._protocols import ProcessMemory
from asyncmem.sampling import LiveMeter, _malloc, heap, heap_trimmer
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
        return LiveMeter(sampler, free=self.read, timer=lambda: self.now, cpu=lambda: self.now)


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
    monkeypatch.setattr(heap, "heap_figures", lambda: None)
    memory = SyntheticSampler(1000)
    meter = LiveMeter(memory)
    assert meter.sample() == 1000
    assert meter.retained() is None

    def release() -> None:
        memory.used = 600

    assert meter.trim(release) == 400
    assert meter.sample() == 600


@pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])
def test_a_library_without_the_function_is_no_error(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """There are other C libraries, and systems where none can be opened."""

    def open_library(_name: str | None) -> object:
        raise error

    monkeypatch.setattr(ctypes, "PyDLL", open_library)
    monkeypatch.setattr(ctypes, "CDLL", open_library)
    for function in (_malloc.free_heap_bytes, _malloc.heap_figures, _malloc.heap_trimmer):
        assert function.__wrapped__() is None


def test_real_blocks_show_as_growth_each_time() -> None:
    """30 MiB taken and freed six times: each time they are seen, though after the first the allocator keeps them."""
    program = """
import json
from asyncmem.sampling import LiveMeter, default_sampler
sampler = default_sampler()
meter = LiveMeter(sampler, timer=lambda: 0.0, cpu=lambda: 0.0)
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


class Process:
    """A process with a heap whose free pages can leave the resident set; everything in bytes, kept exactly.

    A sampler and a reader of the heap's figures at once.
    """

    def __init__(self) -> None:
        self.base = 1000
        """Of others than the allocator, touched."""
        self.in_use = self.untouched = 0
        self.resident_free = self.gone_free = 0
        self.now = 0.0

    def read(self) -> ProcessMemory:
        """The process's own figures."""
        resident = self.working_set()
        data = self.base + self.figures().system
        return ProcessMemory(rss=resident, vms=data, working_set=resident, data=data)

    def working_set(self) -> int:
        """What is resident."""
        return self.base + self.in_use - self.untouched + self.resident_free

    def threads(self) -> int:
        """One."""
        return 1

    def open_files(self) -> int:
        """None."""
        return 0

    def figures(self) -> _malloc.HeapFigures:
        """What the allocator says."""
        free = self.resident_free + self.gone_free
        return _malloc.HeapFigures(free=free, in_use=self.in_use, system=self.in_use + free)

    def live(self) -> int:
        """What is really held."""
        return self.base + self.in_use - self.untouched

    def allocate(self, size: int, *, prefer_gone: bool = False, touch: bool = True) -> None:
        """Take from the free blocks first, then from the kernel."""
        order = ("gone_free", "resident_free") if prefer_gone else ("resident_free", "gone_free")
        self.in_use += size
        fresh = size
        for place in order:
            taken = min(fresh, getattr(self, place))
            setattr(self, place, getattr(self, place) - taken)
            fresh -= taken
        if not touch:
            self.untouched += fresh

    def free(self, size: int) -> None:
        """Give touched blocks back to the heap, where they stay."""
        size = min(size, self.in_use - self.untouched)
        self.in_use -= size
        self.resident_free += size

    def trim(self, share: float = 1.0) -> None:
        """Give free pages back to the kernel."""
        gone = int(self.resident_free * share)
        self.resident_free -= gone
        self.gone_free += gone

    def meter(self) -> LiveMeter:
        """A meter on this process that counts every byte."""
        return LiveMeter(
            self, free=lambda: self.figures().free, heap=self.figures, timer=lambda: self.now, cpu=lambda: 0.0
        )


@pytest.fixture(autouse=True)
def every_byte_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests with small numbers would fall below what is negligible."""
    monkeypatch.setattr(heap, "_NEGLIGIBLE", 0)


def test_a_trim_takes_nothing_of_what_is_held() -> None:
    """The free blocks are still there, their pages are not; and reused pages are held again."""
    process = Process()
    meter = process.meter()
    process.allocate(500)
    process.free(400)
    assert meter.sample() == process.live() == 1100
    assert meter.retained() == 400
    assert meter.trim(lambda: process.trim(0.75)) == 300
    assert meter.sample() == process.live() == 1100
    assert meter.retained() == 100
    process.allocate(350)
    assert meter.sample() == process.live() == 1450
    process.free(350)
    assert meter.sample() == process.live() == 1100
    assert meter.retained() == 350


def test_growth_of_others_is_no_reuse_of_trimmed_pages() -> None:
    """Python's small objects live outside of the heap: they are held, however much was trimmed before."""
    process = Process()
    meter = process.meter()
    process.allocate(500)
    process.free(500)
    meter.trim(process.trim)
    process.base += 300
    assert meter.sample() == process.live() == 1300
    process.base -= 300
    assert meter.sample() == process.live() == 1000
    assert meter.retained() == 0


def test_a_mapping_that_is_half_gone_is_not_taken_for_free_bytes() -> None:
    """Its pages have left, and the process's data says nothing of it yet; as seen where a thread gives one back."""
    process = Process()
    meter = process.meter()
    process.allocate(500)
    process.free(400)
    meter.trim(lambda: process.trim(0.5))
    process.base += 300
    assert meter.sample() == process.live() == 1400
    whole = process.working_set
    process.working_set = lambda: whole() - 250  # type: ignore[method-assign]
    assert meter.sample() is None
    del process.working_set
    process.base -= 300
    assert meter.sample() == process.live() == 1100
    assert meter.retained() == 200


def test_pages_that_leave_for_other_reasons_are_believed_in_the_end() -> None:
    """Such as by swapping."""
    process = Process()
    meter = process.meter()
    process.allocate(500)
    process.free(400)
    meter.trim(lambda: process.trim(0.5))
    process.resident_free -= 50
    process.gone_free += 50
    assert meter.sample() is None
    process.now += 0.03
    assert meter.sample() == process.live() == 1100


def test_nothing_is_followed_once_all_free_bytes_are_resident_again() -> None:
    """The quick figure serves again, and what was wrong is forgotten."""
    process = Process()
    meter = process.meter()
    process.allocate(500)
    process.free(500)
    meter.trim(process.trim)
    assert meter._followed is not None
    process.allocate(500)
    process.free(500)
    assert meter.sample() == process.live() == 1000
    assert meter._followed is None


def test_no_figure_straddles_a_trim() -> None:
    """Half of the pages have gone, and the heap says nothing of it: there is no figure then."""
    process = Process()
    meter = process.meter()
    process.allocate(500)
    process.free(500)
    seen: list[int | None] = []

    def release() -> None:
        process.trim(0.5)
        seen.extend((meter.sample(), meter.now()))
        process.trim()

    assert meter.now() == 1000
    assert meter.trim(release) == 500
    assert seen == [None, None]
    assert (meter.sample(), meter.now()) == (1000, 1000)


@pytest.mark.parametrize("ask", ["sample", "now"])
def test_a_reading_that_a_trim_came_between_is_none(ask: str) -> None:
    """Another thread trims between the two readings of one sample."""
    process = Process()
    process.allocate(500)
    process.free(500)
    trims = [True]

    def free() -> int:
        if trims:
            trims.clear()
            meter.trim(process.trim)
        return process.figures().free

    meter = LiveMeter(process, free=free, heap=process.figures, timer=lambda: 0.0, cpu=lambda: 0.0)
    assert getattr(meter, ask)() is None
    assert getattr(meter, ask)() == process.live() == 1000


def test_a_release_that_fails_leaves_the_meter_usable() -> None:
    """What it raises is the caller's; the next sample is as good as any."""
    process = Process()
    meter = process.meter()

    def release() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        meter.trim(release)
    assert meter.sample() == 1000


def test_a_child_is_not_stuck_in_its_parents_trim() -> None:
    """The thread that was at it is not in the child."""
    process = Process()
    meter = process.meter()
    codes = []

    def release() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if meter.sample() == 1000 and meter.trim(lambda: None) == 0 else 1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    meter.trim(release)
    assert codes == [0]


class Blocks(RuleBasedStateMachine):
    """Any order of taking, freeing, touching and trimming, a sample whenever it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Process()
        self.meter = self.process.meter()

    @rule(size=st.integers(1, 10_000), prefer_gone=st.booleans())
    def allocate(self, size: int, prefer_gone: bool) -> None:
        """Take a block, from whichever pages."""
        self.process.allocate(size, prefer_gone=prefer_gone)

    @rule(size=st.integers(1, 10_000))
    def free(self, size: int) -> None:
        """Give blocks back."""
        self.process.free(size)

    @rule(share=st.floats(0, 1))
    def trim(self, share: float) -> None:
        """Trim, more or less of it."""
        before = self.process.resident_free
        freed = self.meter.trim(lambda: self.process.trim(share))
        assert freed == before - self.process.resident_free

    @rule(size=st.integers(1, 10_000))
    def others_grow(self, size: int) -> None:
        """Something outside of the heap."""
        self.process.base += size
        assert self.meter.sample() == self.process.live()

    @invariant()
    def what_is_held_is_told_exactly(self) -> None:
        """Not only about: there is nothing here that a reading could miss."""
        assert self.meter.sample() == self.process.live()
        assert self.meter.retained() == self.process.resident_free


TestBlocks = Blocks.TestCase


def test_untouched_blocks_are_counted_when_they_are_touched() -> None:
    """After a trim too: the blocks in use grow first, the working set later."""
    process = Process()
    meter = process.meter()
    process.allocate(500)
    process.free(500)
    meter.trim(process.trim)
    process.gone_free = 100  # the rest went back as a whole, as glibc does at the upper end
    assert meter.sample() == process.live() == 1000
    process.allocate(900, prefer_gone=True, touch=False)
    process.allocate(50)
    assert process.untouched == 800
    assert meter.sample() == process.live()
    process.untouched = 0
    assert meter.sample() == process.live() == 1950


@pytest.mark.skipif(heap_trimmer() is None, reason="the C library has no malloc_trim")
@pytest.mark.parametrize(
    ("size", "count", "every"), [(1 << 20, 160, 16), (100 * 1024, 1600, 160), (100 * 1024, 1600, 1601)]
)
def test_real_blocks_are_told_within_a_tenth_through_trims(size: int, count: int, every: int) -> None:
    """Taken, freed in any order, trimmed, reused, three times over, sampled often or seldom."""
    program = f"""
import json, random
from asyncmem.sampling import LiveMeter, default_sampler, heap_trimmer
size, count, every = {size}, {count}, {every}
meter, trim = LiveMeter(default_sampler(), timer=lambda: 0.0, cpu=lambda: 0.0), heap_trimmer()
held, worst, trimmed = [], 0.0, []
warm = b"x" * size
del warm
base = meter.sample()
def check():
    global worst
    true = len(held) * size
    worst = max(worst, abs(meter.sample() - base - true) / max(true, count * size // 4))
def move(number, act):
    for index in range(number):
        act()
        if index % every == 0:
            check()
    check()
rng = random.Random(1)
for _ in range(3):
    move(count, lambda: held.append(b"x" * size))
    rng.shuffle(held)
    move(count * 3 // 4, held.pop)
    trimmed.append(meter.trim(trim) / (count * size))
    check()
    move(count // 2, lambda: held.append(b"x" * size))
    move(count // 2, held.pop)
    meter.trim(trim)
    move(len(held), held.pop)
print(json.dumps([worst, trimmed]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    worst, trimmed = json.loads(done.stdout)
    assert min(trimmed) > 0.3, "nothing was trimmed, so that this test shows nothing"
    assert worst <= 0.1
