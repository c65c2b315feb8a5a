from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from asyncmem._protocols import MemorySampler, ProcessMemory
from asyncmem.sampling import (
    LinuxSampler,
    MachineMemory,
    ProcessSampler,
    PsutilMachine,
    PsutilSampler,
    default_machine,
    default_sampler,
    working_set_of,
)

if TYPE_CHECKING:
    from tests.conftest import FakeSystem

MIB = 1024 * 1024
BOTH = pytest.mark.parametrize("sampler", [LinuxSampler(), PsutilSampler()], ids=["linux", "psutil"])


def test_linux_takes_the_fields_apart(fake_system: FakeSystem) -> None:
    """The working set is what is resident and not shared; pages become bytes."""
    fake_system.process(working_set=30 * MIB, shared=10 * MIB, vms=200 * MIB, data=60 * MIB, threads=7)
    sampler = LinuxSampler(fake_system.proc)
    assert sampler.read() == ProcessMemory(rss=40 * MIB, vms=200 * MIB, working_set=30 * MIB, data=60 * MIB)
    assert sampler.working_set() == 30 * MIB
    assert sampler.threads() == 7


@BOTH
def test_agrees_with_the_kernel(sampler: ProcessSampler) -> None:
    """On this system a reading is near to what the process's status says."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kib = {name: int(status[name].split()[0]) for name in ("VmRSS", "VmSize", "RssAnon", "VmData")}
    read = sampler.read()
    assert read.rss / 1024 == pytest.approx(kib["VmRSS"], rel=0.1)
    assert read.vms / 1024 == pytest.approx(kib["VmSize"], rel=0.1)
    assert read.working_set / 1024 == pytest.approx(kib["RssAnon"], rel=0.1)
    assert read.data / 1024 == pytest.approx(kib["VmData"], rel=0.2)


@BOTH
def test_sees_what_was_allocated(sampler: ProcessSampler) -> None:
    """Touched memory shows up in the working set at once."""
    before = sampler.working_set()
    block = b"x" * (64 * MIB)
    assert sampler.working_set() - before > 50 * MIB
    assert len(block) == 64 * MIB


def test_counts_threads() -> None:
    """Both samplers count the threads of a process that waits with three of them."""
    # Not of this process: a thread that was joined is the kernel's for a moment longer.
    script = (
        "import threading; print(len([threading.Thread(target=input, daemon=True).start() for _ in '12']), flush=True);"
        "threading.Event().wait()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"2\n"
            samplers: list[ProcessSampler] = [LinuxSampler(pid=process.pid), PsutilSampler(process.pid)]
            assert [sampler.threads() for sampler in samplers] == [3, 3]
        finally:
            process.kill()


@BOTH
def test_counts_open_files(sampler: ProcessSampler) -> None:
    """One more open file is one more."""
    before = sampler.open_files()
    with Path(__file__).open():
        assert sampler.open_files() == before + 1


def test_counts_open_files_of_another_process() -> None:
    """Both samplers agree on a process that waits, once it has opened what it opens to begin with."""
    argv = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert LinuxSampler(pid=process.pid).open_files() == PsutilSampler(process.pid).open_files() > 0
        finally:
            process.kill()


def test_a_process_that_is_gone_is_an_os_error() -> None:
    """Both samplers say so in the words of `MemorySampler`."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    samplers: list[ProcessSampler] = [LinuxSampler(pid=process.pid), PsutilSampler(process.pid)]
    for sampler in samplers:
        assert sampler.read().rss > 0
    process.communicate(b"\n")
    for sampler in samplers:
        with pytest.raises((ProcessLookupError, FileNotFoundError)):
            sampler.read()
        with pytest.raises((ProcessLookupError, FileNotFoundError)):
            sampler.threads()
        with pytest.raises((ProcessLookupError, FileNotFoundError)):
            sampler.open_files()


def test_psutil_refusals_become_permission_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may not be read is an `OSError` too."""

    def refuse(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "memory_info", refuse)
    with pytest.raises(PermissionError):
        PsutilSampler().read()


def test_machine_reads_total_and_available(fake_system: FakeSystem) -> None:
    """The kernel's kB are KiB."""
    fake_system.machine(total=8 * MIB, available=3 * MIB)
    machine = MachineMemory(fake_system.proc)
    assert (machine.total(), machine.available()) == (8 * MIB, 3 * MIB)


def test_what_was_closed_is_opened_again(fake_system: FakeSystem) -> None:
    """Whoever lets the descriptors go may still ask; the files are read anew."""
    fake_system.process(working_set=10 * MIB)
    process, machine = LinuxSampler(fake_system.proc), MachineMemory(fake_system.proc)
    assert (process.working_set(), machine.total()) == (10 * MIB, 1 << 40)
    process.close()
    machine.close()
    (fake_system.proc / "self/statm").unlink()
    (fake_system.proc / "meminfo").unlink()
    fake_system.process(working_set=20 * MIB)
    fake_system.machine(total=1 << 30, available=1 << 29)
    assert (process.working_set(), machine.total()) == (20 * MIB, 1 << 30)


def test_machine_without_the_line_names_file_and_line(fake_system: FakeSystem) -> None:
    """A meminfo that says nothing is no zero."""
    (fake_system.proc / "meminfo").write_text("MemFree: 1 kB\n")
    with pytest.raises(ValueError, match="meminfo: no line 'MemAvailable"):
        MachineMemory(fake_system.proc).available()


def test_both_machines_agree() -> None:
    """Linux's file and psutil tell the same size."""
    assert MachineMemory().total() == PsutilMachine().total()
    assert MachineMemory().available() == pytest.approx(PsutilMachine().available(), rel=0.1)


def test_the_default_is_linux_where_its_files_are_and_else_psutil(tmp_path: Path) -> None:
    """The choice is made by looking and not by the system's name."""
    assert isinstance(default_sampler(), LinuxSampler)
    assert isinstance(default_machine(), MachineMemory)
    assert isinstance(default_sampler(str(tmp_path)), PsutilSampler)
    assert isinstance(default_machine(str(tmp_path)), PsutilMachine)


def test_a_sampler_that_only_reads_still_gives_its_working_set() -> None:
    """The least that a sampler can do is enough."""

    class Least:
        def read(self) -> ProcessMemory:
            return ProcessMemory(rss=4, vms=3, working_set=2, data=1)

    least: MemorySampler = Least()
    assert working_set_of(least)() == 2
    linux = LinuxSampler()
    assert working_set_of(linux) == linux.working_set


def test_nothing_happens_at_import() -> None:
    """Importing opens no file, starts no thread and leaves psutil alone."""
    script = (
        "import os, sys, threading; before = os.listdir('/proc/self/fd');"
        "import asyncmem.sampling, asyncmem.limits;"
        "assert os.listdir('/proc/self/fd') == before and threading.active_count() == 1;"
        "assert 'psutil' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
