"""Learned costs over a restart: what is kept, and that no file, however broken, keeps a process from running."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from asyncmem import MemoryConfig, MemoryRuntime
from asyncmem.admission import CostsFile
from asyncmem.testing import SyntheticLimits, SyntheticSampler
from asyncmem.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.admission.conftest import World

GOOD = {"peaks": [[0.0, 40.0, 1.0]], "growth": [], "begin": [0.5, 0.25], "fall": 1.0}


def saved(**classes: object) -> bytes:
    """A file as it is written, with the classes given."""
    return json.dumps({"format": "asyncmem costs", "version": 1, "classes": classes}).encode()


def runtime(path: object) -> MemoryRuntime:
    """A runtime on 1000 MiB that keeps its costs there."""
    memory = SyntheticSampler("100MiB")
    config = MemoryConfig(guard_band=0, monitoring=False, log_alerts=False, costs_path=str(path))
    return MemoryRuntime(config, sampler=memory, machine=memory, limits=SyntheticLimits(memory, "1000MiB"))


def test_a_restart_does_not_begin_blind(world: Callable[..., World], tmp_path: Path) -> None:
    """What took five runs to learn is there at once, and many may run from the first request on."""
    first = world()
    first.run_alone("resize", 40, times=8)
    assert CostsFile(tmp_path / "costs", first.controller).save()
    second = world()
    assert CostsFile(tmp_path / "costs", second.controller).load()
    permits = [second.controller.try_acquire("resize") for _ in range(10)]
    assert all(permits)
    assert permits[0] is not None
    assert 40 * MIB <= permits[0].reserved <= 90 * MIB


def test_a_runtime_keeps_its_costs(tmp_path: Path) -> None:
    """Read at the start, written at the end; nothing but the file is left, and it is nobody's draft."""
    path = tmp_path / "costs"
    path.write_bytes(saved(resize=GOOD))
    with capture_logs() as logs, runtime(path) as memory:
        assert memory.statistics().admission.task_classes["resize"].peak == pytest.approx(40 * MIB, rel=0.3)
    assert logs == []
    assert json.loads(path.read_bytes())["classes"].keys() == {"resize"}
    assert list(tmp_path.iterdir()) == [path]


BROKEN = {
    "nothing": b"",
    "half a file": saved(resize=GOOD)[:60],
    "bytes": bytes(range(256)) * 10,
    "another program's": b'{"version": 3}',
    "a later version": saved(resize=GOOD).replace(b'"version": 1', b'"version": 2'),
    "a list": b"[]",
    "deep lists": b'{"other":' + b"[" * 200_000,
    "deep objects": b'{"classes":' + b'{"a":' * 200_000,
    "not a number": saved(resize=GOOD).replace(b"40.0", b"NaN"),
    "negative": saved(resize=GOOD).replace(b"40.0", b"-40.0"),
    "beyond floats": saved(resize=GOOD).replace(b"40.0", b"1e999"),
    "beyond machines": saved(resize=GOOD).replace(b"40.0", b"1e23"),
    "no peaks": saved(resize=GOOD | {"peaks": []}),
    "text for a number": saved(resize=GOOD | {"fall": "much"}),
    "too much": saved(resize=GOOD) + b" " * (17 * MIB),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_corrupt_file_is_started_without(tmp_path: Path, content: bytes) -> None:
    """A warning that says which file and what to do; nothing of it is taken over, and it is replaced at the end."""
    path = tmp_path / "costs"
    path.write_bytes(content)
    with capture_logs() as logs, runtime(path) as memory:
        assert memory.statistics().admission.task_classes == {}
        memory.admission.acquire_nowait("resize").record()
        memory.admission.acquire_nowait("resize").record()
    (warning,) = logs
    assert (warning["event"], warning["log_level"]) == ("saved_costs_unusable", "warning")
    assert warning["path"] == str(path)
    assert len(warning["error"]) < 1000
    with capture_logs() as logs, runtime(path):
        pass
    assert logs == []


@pytest.mark.parametrize("path", ["/proc/costs", "/nonexistent/costs", "/", "", "a\0b", "x" * 5000])
def test_a_place_that_cannot_be_written_costs_a_warning(path: str) -> None:
    """Start, save and stop go on."""
    with capture_logs() as logs:
        with runtime(path) as memory:
            memory.admission.acquire_nowait("resize").record()
        assert not memory.is_running
    assert {log["log_level"] for log in logs} <= {"warning"}
    if path:  # empty may count as not set
        assert "saving_costs_failed" in {log["event"] for log in logs}


def test_a_full_disk_leaves_the_old_file(world: Callable[..., World], tmp_path: Path) -> None:
    """And no draft."""
    w = world()
    w.run_alone("resize", 40, times=3)
    path = tmp_path / "costs"
    path.write_bytes(b"old")
    draft = path.with_name(f"costs.{os.getpid()}.tmp")
    draft.symlink_to("/dev/full")
    with capture_logs() as logs:
        assert not CostsFile(path, w.controller).save()
    assert [log["event"] for log in logs] == ["saving_costs_failed"]
    assert path.read_bytes() == b"old"
    assert not draft.is_symlink()


def test_what_has_not_changed_is_not_written_again(world: Callable[..., World], tmp_path: Path) -> None:
    """Once a minute, for ever: a flash card would notice."""
    w = world()
    w.run_alone("resize", 40, times=3)
    file = CostsFile(tmp_path / "costs", w.controller)
    assert file.save()
    (tmp_path / "costs").unlink()
    assert file.save()
    assert not (tmp_path / "costs").exists()
    w.run_alone("resize", 80, times=3)
    assert file.save()
    assert (tmp_path / "costs").exists()
