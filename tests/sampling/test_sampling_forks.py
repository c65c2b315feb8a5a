from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable

from asyncmem.sampling import CgroupMeter, CgroupParts, LinuxSampler, ProcessSampler, PsutilSampler
from asyncmem.sampling.forks import forget_after_fork

MIB = 1024 * 1024


def in_child(check: Callable[[], None]) -> int:
    """Run `check` in a forked child; 0 if it raised nothing."""
    pid = os.fork()
    if pid == 0:
        try:
            check()
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a second test run
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_childs_sampler_reads_the_child() -> None:
    """Descriptors opened before the fork do not go on reading the parent."""
    samplers: list[ProcessSampler] = [LinuxSampler(), PsutilSampler()]
    before = [sampler.working_set() for sampler in samplers]

    def grow() -> None:
        block = b"x" * (128 * MIB)
        for sampler, then in zip(samplers, before, strict=True):
            assert sampler.working_set() - then > 100 * MIB
            assert sampler.threads() == 1
        del block

    assert in_child(grow) == 0
    for sampler, then in zip(samplers, before, strict=True):
        assert sampler.working_set() - then < 50 * MIB


def test_a_childs_meter_begins_anew() -> None:
    """Growth in the child is counted from the child's own working set, not from the parent's."""

    class Group:
        path = "/group"
        limit_files = ()

        def usage(self) -> int:
            return 1000

        def parts(self) -> CgroupParts:
            return CgroupParts(droppable=800, anonymous=200)

        def droppable(self) -> int:
            return 800

        def read_limit(self, name: str) -> int | None:
            return self.limits().get(name)

        def limits(self) -> dict[str, int | None]:
            return {}

        def limit_texts(self) -> tuple[bytes | None, ...]:
            return ()

        def hierarchical_limit(self) -> int | None:
            return None

        def close(self) -> None: ...

    own = [10]
    meter = CgroupMeter(Group(), lambda: own[0])
    assert meter.used() == 200

    def fork_with_more() -> None:
        own[0] = 150
        assert meter.used() == 200

    assert in_child(fork_with_more) == 0
    own[0] = 150
    assert meter.used() == 340


def test_only_what_is_alive_is_told() -> None:
    """What asked to be told is not kept alive by that."""
    told: list[str] = []

    class Holder:
        def __init__(self, name: str) -> None:
            self.name = name

        def after_fork(self) -> None:
            told.append(self.name)

    kept, dropped = Holder("kept"), Holder("dropped")
    forget_after_fork(kept)
    forget_after_fork(dropped)
    del dropped

    def look() -> None:
        assert told == ["kept"]

    assert in_child(look) == 0
    assert told == []


def test_a_watcher_starts_anew_in_a_child() -> None:
    """The child has no thread until it wakes the watcher; the parent's goes on."""
    script = """
import os, threading
from asyncmem.sampling import Watcher
ticked = threading.Event()
def tick():
    ticked.set()
    return None
watcher = Watcher(tick, idle_interval=60.0, busy_interval=0.001)
watcher.start()
assert ticked.wait(10)
pid = os.fork()
if pid == 0:
    code = 1
    try:
        ticked = threading.Event()
        assert not watcher.statistics().running
        watcher.wake()
        assert ticked.wait(10)
        assert watcher.statistics().running
        watcher.stop()
        assert not watcher.statistics().running
        ticked = threading.Event()
        watcher.wake()
        assert not watcher.statistics().running
        code = 0
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert watcher.statistics().running
watcher.stop()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)
