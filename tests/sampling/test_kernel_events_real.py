"""What the real kernel says about a real cgroup: a child process is short of memory, and the watcher's wait ends."""

from __future__ import annotations

import contextlib
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncmem.sampling import KernelEvent, KernelEvents, KernelSignal, Watcher
from asyncmem.sampling.hierarchy import Hierarchy
from asyncmem.sampling.kernel import sources
from tests.conftest import not_here

MIB = 1024 * 1024
LONG = 60.0
UNIFIED = Path("/sys/fs/cgroup/unified")

GROW = f"""
import sys
for line in sys.stdin:
    block = b"x" * (int(line) * {MIB})
    print(len(block), flush=True)
"""


class Heard:
    """A watcher that would sleep for a minute, and what it hears of the kernel."""

    def __init__(self, events: KernelEvents) -> None:
        self.events = events
        self.all: list[KernelEvent] = []
        self.ticks = 0
        self._news = threading.Condition()
        self.watcher = Watcher(self.tick, idle_interval=LONG, events=events)

    def tick(self) -> None:
        """Take in what was heard."""
        self.events.descriptors()  # opened here, so that whoever has seen the tick knows that it listens
        with self._news:
            self.ticks += 1
            self.all += self.events.drain()
            self._news.notify_all()

    def until(self, condition: Callable[[KernelEvent], bool]) -> bool:
        """Wait for such an event."""
        with self._news:
            return self._news.wait_for(lambda: any(map(condition, self.all)), LONG / 2)

    def until_ticks(self, ticks: int) -> bool:
        """Wait for that many ticks."""
        with self._news:
            return self._news.wait_for(lambda: self.ticks >= ticks, LONG / 2)

    def prompt(self) -> None:
        """Have it tick, as the runtime does, which arms in a tick; wait for that."""
        for _ in range(2):  # the first may be one that was under way
            ticks = self.ticks
            self.watcher.prompt()
            assert self.until_ticks(ticks + 1)

    def forget(self) -> None:
        """Begin anew."""
        with self._news:
            self.all.clear()


@pytest.fixture
def heard(memory_cgroup: Any) -> Iterator[Heard]:
    """Listen to the version 1 cgroup; its limit is 160 MiB."""
    memory_cgroup.limit = 160 * MIB
    listening = Heard(KernelEvents([Hierarchy(1, str(memory_cgroup.path.parent), (str(memory_cgroup.path),))]))
    yield listening
    listening.watcher.stop()
    listening.events.close()


def grown(child: subprocess.Popen[str], mebibytes: int) -> None:
    """Have the child hold a block of that size and no other."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{mebibytes}\n")
    child.stdin.flush()
    assert child.stdout.readline() == f"{mebibytes * MIB}\n"


def test_a_usage_threshold_ends_the_watchers_wait_both_ways(memory_cgroup: Any, heard: Heard) -> None:
    """Up and down; and when it is armed elsewhere, there."""
    path = str(memory_cgroup.path)
    heard.events.arm({path: (70 * MIB,)})
    heard.watcher.start()
    assert heard.until_ticks(1)
    child = memory_cgroup.popen([sys.executable, "-c", GROW], stdin=-1, stdout=-1, text=True)
    for size in (90, 1):
        grown(child, size)
        assert heard.until(lambda event: event.detail == f"crossed {70 * MIB} bytes")
        heard.forget()
    heard.events.arm({path: (55 * MIB, 140 * MIB)})
    heard.prompt()
    grown(child, 80)
    assert heard.until(lambda event: event.detail == f"crossed {55 * MIB} bytes")
    assert {event.signal for event in heard.all} == {KernelSignal.USAGE}
    assert heard.watcher.statistics().prompted >= 3


def test_an_event_comes_within_milliseconds(memory_cgroup: Any, heard: Heard) -> None:
    """From the crossing to the tick; the child tells when it has crossed, so the figure is an upper bound."""
    heard.events.arm({str(memory_cgroup.path): (70 * MIB,)})
    heard.watcher.start()
    assert heard.until_ticks(1)
    child = memory_cgroup.popen([sys.executable, "-c", GROW], stdin=-1, stdout=-1, text=True)
    grown(child, 1)
    late = []
    for size in (90, 1) * 5:
        heard.forget()
        grown(child, size)
        begin = time.monotonic()
        assert heard.until(lambda event: event.signal is KernelSignal.USAGE)
        late.append(time.monotonic() - begin)
    assert min(late) < 0.1, "the others say how busy the machine is"


def test_pressure_of_the_group_is_told(memory_cgroup: Any, heard: Heard) -> None:
    """Reclaim that finds nothing more: the last that is heard before the kernel kills."""
    heard.watcher.start()
    assert heard.until_ticks(1)
    child = memory_cgroup.popen([sys.executable, "-c", f"x = b'x' * (200 * {MIB})"])
    assert child.wait(LONG) == -9
    assert heard.until(lambda event: event.signal is KernelSignal.PRESSURE and event.detail == "critical")


@pytest.fixture
def unified() -> Iterator[Path]:
    """A real version 2 group, without the memory controller; skips where none can be made, and fails there under CI."""
    path = UNIFIED / f"asyncmem-test-{time.monotonic_ns()}"
    try:
        path.mkdir()
    except OSError as error:
        not_here(f"no version 2 group can be made here: {error}")
    yield path
    for _ in range(500):
        with contextlib.suppress(OSError):
            path.rmdir()
            return
        time.sleep(0.01)  # the kernel gives no sign when the last process has left
    path.rmdir()


def test_a_stall_of_the_group_is_told(memory_cgroup: Any, unified: Path, tmp_path: Path) -> None:
    """The stalls of version 2 are counted in its groups whichever controller makes a process wait for memory."""
    if not (unified / "memory.pressure").exists():
        not_here("the kernel does not account for stalls")
    memory_cgroup.limit = 32 * MIB
    heard = Heard(KernelEvents([Hierarchy(2, str(UNIFIED), (str(unified), str(UNIFIED)))]))
    (stall,) = [finding for finding in heard.events.findings() if finding.signal is KernelSignal.STALL]
    assert stall.listening
    heard.watcher.start()
    try:
        # Pages that must be written before they can be given back: whoever wants more has to wait for them.
        program = f"""
import os
open({str(unified / "cgroup.procs")!r}, "w").write(str(os.getpid()))
file = os.open({str(tmp_path / "dirty")!r}, os.O_RDWR | os.O_CREAT)
while True:
    os.lseek(file, 0, 0)
    for _ in range(200):
        os.write(file, b"x" * {MIB})
"""
        child = memory_cgroup.popen([sys.executable, "-c", program])
        try:
            assert heard.until(lambda event: event.signal is KernelSignal.STALL)
        finally:
            child.kill()
            child.wait()
    finally:
        heard.watcher.stop()
        heard.events.close()


def test_a_change_of_a_real_file_is_seen_and_used_up(unified: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``memory.events`` is not to be had here; ``cgroup.events`` is made by the same code of the kernel."""
    monkeypatch.setattr(sources, "_COUNTER", re.compile(rb"^(populated) (\d+)$", re.MULTILINE))
    counters = sources.EventCounters(str(unified / "cgroup.events"))
    poll = select.poll()
    poll.register(counters.descriptor, counters.mask)
    assert poll.poll(0) == []
    with subprocess.Popen(["sleep", "60"]) as child:
        (unified / "cgroup.procs").write_text(str(child.pid))
        ((number, ready),) = poll.poll(LONG * 1000)
        assert number == counters.descriptor
        assert ready & select.POLLPRI
        assert counters.take(ready) == "populated +1"
        assert poll.poll(0) == []
        child.kill()
    assert poll.poll(LONG * 1000) != []
    assert counters.take(select.POLLPRI) is None


def test_a_removed_group_keeps_nobody_awake(memory_cgroup: Any, unified: Path) -> None:
    """The kernel answers every wait at its files at once from then on: so they are let go."""
    groups = [memory_cgroup.path / "inner", unified / "inner"]
    for group in groups:
        group.mkdir()
    first, second = (str(group) for group in groups)
    heard = Heard(KernelEvents([Hierarchy(1, "/nowhere", (first,)), Hierarchy(2, "/nowhere", (second,))]))
    heard.events.arm({first: (MIB,)})
    heard.watcher.start()
    try:
        assert heard.until_ticks(1)
        before = heard.events.statistics().listening
        assert before >= 3
        for group in groups:
            group.rmdir()
        while heard.events.statistics().listening == before:
            time.sleep(0)
        heard.prompt()
        assert heard.ticks < 12
        heard.events.arm({first: (2 * MIB,)})
        assert not any(finding.listening for finding in heard.events.findings())
    finally:
        heard.watcher.stop()
        for group in groups:
            with contextlib.suppress(FileNotFoundError):
                group.rmdir()
