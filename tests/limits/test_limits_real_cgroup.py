from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import MemoryCgroup

MIB = 1024 * 1024
SHARED = Path("/dev/shm")  # noqa: S108 - a file there is shared memory, which is the point

CHILD = """
import json, os, sys
from asyncmem.limits import discover_limits
finder, kept, MIB = discover_limits(), [], 1 << 20
for line in sys.stdin:
    command, _, argument = line.strip().partition(" ")
    changed = None
    if command == "refresh":
        changed = finder.refresh()
    elif command == "notice":
        changed = finder.has_changed()
    elif command == "allocate":
        kept.append(b"x" * (int(argument) * MIB))
    elif command == "free":
        kept.clear()
    elif command == "share":
        with open(argument, "wb") as file:
            file.write(b"x" * (32 * MIB))
    elif command == "flood":
        with open(argument, "wb") as file:
            for _ in range(80):
                file.write(b"x" * MIB)
            os.fsync(file.fileno())
        with open(argument, "rb") as file:
            while file.read(MIB):
                pass
    bound = finder.binding()
    answer = {"name": bound.name, "kind": bound.kind, "limit": bound.limit, "used": bound.meter.used()}
    print(json.dumps(answer | {"changed": changed}), flush=True)
"""


class Child:
    """A process in the group that reports what it finds."""

    def __init__(self, group: MemoryCgroup) -> None:
        self.group = group
        self._process = group.popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, command: str) -> dict[str, Any]:
        """Give a command and take the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(command, file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@pytest.fixture
def child(memory_cgroup: MemoryCgroup) -> Iterator[Child]:
    """A process in a group of 128 MiB."""
    memory_cgroup.limit = 128 * MIB
    child = Child(memory_cgroup)
    yield child
    assert memory_cgroup.oom_kills == 0


def test_finds_the_limit_that_is_set(child: Child) -> None:
    """The binding bound is the group's own, with the kernel's number."""
    answer = child.ask("look")
    assert answer["kind"] == "cgroup"
    assert answer["name"] == f"cgroup:/{child.group.path.name}:memory.limit_in_bytes"
    assert answer["limit"] == 128 * MIB
    assert 0 < answer["used"] <= child.group.usage + 8 * MIB


def test_sees_a_limit_changed_while_running(child: Child) -> None:
    """A resize in place is noticed at once, and seen at the next refresh."""
    assert child.ask("refresh")["changed"] is False
    assert child.ask("notice")["changed"] is False
    child.group.limit = 96 * MIB
    assert child.ask("notice")["changed"] is True
    answer = child.ask("refresh")
    assert (answer["changed"], answer["limit"]) == (True, 96 * MIB)


def test_a_real_flood_of_page_cache_is_not_used(child: Child, tmp_path: Path) -> None:
    """Writing and reading a file larger than half the limit leaves the room that there was."""
    before = child.ask("refresh")["used"]
    child.ask(f"flood {tmp_path / 'flood'}")
    after = child.ask("refresh")["used"]
    assert child.group.usage - before > 60 * MIB
    assert after - before < 16 * MIB


def test_growth_paid_for_with_dropped_cache_is_seen(child: Child, tmp_path: Path) -> None:
    """In a group full of cache the usage stays flat while the process grows; the meter needs no refresh to see it."""
    before = child.ask("refresh")["used"]
    child.ask(f"flood {tmp_path / 'flood'}")
    child.ask("refresh")
    answer = child.ask("allocate 64")
    assert answer["used"] - before > 60 * MIB
    assert child.group.usage <= 128 * MIB
    freed = child.ask("free")
    assert answer["used"] - freed["used"] > 50 * MIB


def test_shared_memory_paid_for_with_dropped_cache_is_seen(child: Child, tmp_path: Path) -> None:
    """Shared memory is in no process's working set; near the limit the meter looks for it."""
    for number in (1, 2):
        child.ask(f"flood {tmp_path / str(number)}")
    before = child.ask("refresh")["used"]
    shared = SHARED / child.group.path.name
    try:
        answer, end = child.ask(f"share {shared}"), time.monotonic() + 60
        while answer["used"] - before <= 28 * MIB and time.monotonic() < end:
            answer = child.ask("look")  # an early reading waits for twenty times what the last one took
        assert answer["used"] - before > 28 * MIB
    finally:
        shared.unlink(missing_ok=True)


def test_the_fixture_sees_the_kernel_kill(memory_cgroup: MemoryCgroup) -> None:
    """A process that takes more than the limit is killed and counted; later tests rely on it."""
    memory_cgroup.limit = 64 * MIB
    done = memory_cgroup.run([sys.executable, "-c", "b'x' * (1 << 28)"])
    assert done.returncode == -9
    assert memory_cgroup.oom_kills == 1
    assert memory_cgroup.failcnt > 0
    assert memory_cgroup.limit == 64 * MIB
