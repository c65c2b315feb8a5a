"""Where the kernel is listened to, and what is made of what it says; on directory trees."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path
from typing import Any

import pytest

from asyncmem.sampling import KernelEvents, KernelFinding, KernelSignal
from asyncmem.sampling.hierarchy import Hierarchy
from asyncmem.sampling.kernel import sources

MIB = 1024 * 1024
WORD = select.POLLIN | select.POLLPRI | select.POLLERR
"""As the kernel answers for ``memory.events`` when it has changed."""
QUIET = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A version 2 group in which everything is offered."""
    directory = tmp_path / "fs/app"
    directory.mkdir(parents=True)
    (directory / "memory.events").write_text(QUIET)
    (directory / "memory.events.local").write_text(QUIET)
    (directory / "memory.pressure").write_text("some avg10=0.00\n")
    return directory


def listening(group: Path, version: int = 2) -> KernelEvents:
    """Listen to one group."""
    return KernelEvents([Hierarchy(version, str(group.parent), (str(group), str(group.parent)))])  # type: ignore[arg-type]


def open_files() -> set[Path]:
    """The descriptors of this process."""
    return set(Path("/proc/self/fd").iterdir())


def descriptor_of(events: KernelEvents, name: str) -> int:
    """The descriptor of a file by its name."""
    masks: Any = events.descriptors()
    found: dict[str, int] = {Path(source.path).name: number for number, source in masks.sources.items()}
    return found[name]


def found(events: KernelEvents) -> dict[str, KernelFinding]:
    """The findings by the file's name."""
    return {Path(finding.path).name: finding for finding in events.findings()}


def test_counters_that_rise_are_news(group: Path) -> None:
    """Each is told with its rise, once; what others than limits count is not told."""
    events = listening(group)
    descriptor = descriptor_of(events, "memory.events.local")
    assert events.descriptors()[descriptor] == select.POLLPRI
    assert not events.handle([(descriptor, WORD)])
    counters = group / "memory.events.local"
    counters.write_text(QUIET.replace("max 0", "max 3").replace("oom_kill 0", "oom_kill 1"))
    assert events.handle([(descriptor, WORD)])
    assert not events.handle([(descriptor, WORD)])
    counters.write_text(counters.read_text().replace("low 0", "low 9"))
    assert not events.handle([(descriptor, WORD)])
    (event,) = events.drain()
    assert (event.signal, event.detail) == (KernelSignal.COUNTER, "max +3, oom_kill +1")
    assert event.path == str(counters)
    assert events.drain() == ()
    assert events.statistics().received == {KernelSignal.COUNTER: 1}
    assert events.statistics().last == event


def test_the_groups_own_counters_come_first(group: Path) -> None:
    """A child group that runs into its own limit is no matter of ours; before Linux 5.2 nobody told them apart."""
    assert found(listening(group)).keys() == {"memory.events.local", "memory.pressure"}
    (group / "memory.events.local").unlink()
    assert found(listening(group)).keys() == {"memory.events", "memory.pressure"}


def test_a_stall_trigger_is_written_with_its_terminator(group: Path) -> None:
    """Without it the kernel cuts off a digit; a window that is no multiple of two seconds needs privileges."""
    events = listening(group)
    descriptor = descriptor_of(events, "memory.pressure")
    assert (group / "memory.pressure").read_bytes().startswith(b"some 100000 2000000\0")
    assert events.handle([(descriptor, select.POLLPRI)])
    assert events.drain()[0].signal is KernelSignal.STALL


def test_a_group_that_is_gone_is_no_longer_listened_to(group: Path) -> None:
    """The kernel then answers at once for ever, which must not keep the watcher awake."""
    events = listening(group)
    descriptor = descriptor_of(events, "memory.pressure")
    assert not events.handle([(descriptor, select.POLLPRI | select.POLLERR)])
    assert descriptor not in events.descriptors()
    finding = found(events)["memory.pressure"]
    assert not finding.listening
    assert "the group is gone" in finding.detail
    assert not events.handle([(descriptor, select.POLLPRI)]), "one that is not listened to any more says nothing"
    events.close()
    assert not events.handle([(descriptor, select.POLLPRI)])


def test_a_counter_file_that_cannot_be_read_is_dropped(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removed group's file answers with ENODEV."""
    events = listening(group)
    descriptor = descriptor_of(events, "memory.events.local")

    def gone(_descriptor: int, _size: int, _offset: int) -> bytes:
        raise OSError(errno.ENODEV, "No such device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", gone)
        assert not events.handle([(descriptor, WORD)])
    assert events.statistics().listening == 1
    assert "No such device" in found(events)["memory.events.local"].detail


def test_a_place_that_is_always_ready_and_says_nothing_is_dropped(group: Path) -> None:
    """It would have the watcher run in circles."""
    events = listening(group)
    descriptor = descriptor_of(events, "memory.events.local")
    for _ in range(100):
        events.handle([(descriptor, WORD)])
    assert descriptor not in events.descriptors()
    assert not found(events)["memory.events.local"].listening


def test_what_is_not_offered_is_a_finding_and_no_error(tmp_path: Path) -> None:
    """An old kernel, or one without the accounting of stalls."""
    (tmp_path / "fs/app").mkdir(parents=True)
    events = listening(tmp_path / "fs/app")
    assert events.descriptors() == {}
    assert {(one.signal, one.listening, one.detail) for one in events.findings()} == {
        (KernelSignal.COUNTER, False, "not offered here"),
        (KernelSignal.STALL, False, "not offered here"),
    }


def test_what_is_refused_is_a_finding_with_the_reason(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In most containers the cgroup filesystem is read-only: then counters are all there is."""
    real = os.open

    def read_only(path: str, flags: int, *rest: int) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, "Read-only file system", path)
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", read_only)
    events = listening(group)
    findings = found(events)
    assert findings["memory.events.local"].listening
    assert findings["memory.pressure"].detail == "refused: Read-only file system"
    assert events.statistics().listening == 1


def test_a_trigger_that_is_refused_leaves_no_descriptor_behind(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refuses when the text is written, and the file is open by then."""

    def refuse(_descriptor: int, _text: bytes) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(OSError, match="Invalid argument"):
            sources.StallTrigger(str(group / "memory.pressure"))
    assert open_files() == before


class Control:
    """What stands for ``cgroup.event_control``: the texts written to it, and what it refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *refused: str) -> None:
        self.texts: list[str] = []
        self._refused = refused
        monkeypatch.setattr(os, "write", self.write)

    def write(self, _descriptor: int, text: bytes) -> int:
        """Take a text, without the two descriptors before it."""
        what = text.decode().split(" ", 2)[2]
        if what in self._refused:
            raise OSError(errno.EINVAL, "Invalid argument")
        self.texts.append(what)
        return len(text)


@pytest.fixture
def old_group(tmp_path: Path) -> Path:
    """A version 1 group in which everything is offered."""
    directory = tmp_path / "fs/app"
    directory.mkdir(parents=True)
    for name in ("cgroup.event_control", "memory.pressure_level", "memory.usage_in_bytes"):
        (directory / name).touch()
    return directory


def test_version_1_is_asked_for_its_own_pressure(old_group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And for no more than what is serious, for the page cache is reclaimed all the time; thresholds are bytes."""
    control = Control(monkeypatch)
    events = listening(old_group, version=1)
    events.arm({str(old_group): (2000, 1000, 2000)})
    assert all(finding.listening for finding in events.findings())
    assert control.texts == ["medium,local", "critical,local", "1000", "2000"]


def test_before_linux_4_13_the_childrens_pressure_comes_too(old_group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no other to be had."""
    control = Control(monkeypatch, "medium,local", "critical,local")
    assert all(finding.listening for finding in listening(old_group, version=1).findings())
    assert control.texts == ["medium", "critical"]


def test_version_1_may_refuse_all(old_group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told, and no descriptor is left behind."""
    Control(monkeypatch, "medium,local", "critical,local", "medium", "critical", "1000")
    events = listening(old_group, version=1)
    events.arm({str(old_group): (1000,)})
    before = open_files()
    assert [finding.detail for finding in events.findings()] == ["refused: Invalid argument"] * 3
    assert open_files() == before


@pytest.mark.parametrize(("marker", "version"), [("cgroup.controllers", 2), ("cgroup.sane_behavior", 1)])
def test_the_root_is_not_listened_to(group: Path, marker: str, version: int) -> None:
    """What it says is about the whole machine, and pressure elsewhere must not make this process shed."""
    (group / marker).touch()
    events = listening(group, version)
    assert events.descriptors() == {}
    assert events.findings() == ()


def test_a_containers_view_of_its_group_is_no_root(group: Path) -> None:
    """It is mounted where a root would be; only the root itself lacks ``cgroup.events``."""
    (group / "cgroup.controllers").touch()
    (group / "cgroup.events").touch()
    assert listening(group).findings()


def test_the_process_finds_its_own_group(fake_system: Any) -> None:
    """From the same files of ``/proc`` as its limits."""
    fake_system.member("0::/app")
    root = fake_system.mount_v2()
    (root / "app").mkdir()
    (root / "app/memory.events").write_text(QUIET)
    events = KernelEvents(proc_root=fake_system.proc, fs_root=fake_system.fs)
    assert found(events)["memory.events"].listening


def test_without_proc_there_is_nothing_to_listen_to(tmp_path: Path) -> None:
    """Another system."""
    assert KernelEvents(proc_root=tmp_path).descriptors() == {}


def test_thresholds_of_version_2_are_passed_over(group: Path) -> None:
    """It offers none, and its bounds are armed all the same."""
    events = listening(group)
    events.arm({str(group): (100, 200)})
    assert {finding.signal for finding in events.findings()} == {KernelSignal.COUNTER, KernelSignal.STALL}


def test_the_descriptors_are_the_same_object_until_something_changes(group: Path) -> None:
    """So that the watcher need not register them for each wait."""
    events = listening(group)
    masks = events.descriptors()
    assert events.descriptors() is masks
    assert not events.arm({})
    assert events.descriptors() is masks
    assert events.arm({"/elsewhere": (1,)})
    assert events.descriptors() is not masks


def test_closing_closes_everything(group: Path) -> None:
    """As soon as nobody waits there; and listening again opens it again."""
    before = open_files()
    events = listening(group)
    masks = events.descriptors()
    assert len(open_files() - before) == 2
    events.close()
    del masks
    assert open_files() == before
    assert events.statistics().listening == 0
    assert len(events.descriptors()) == 2


def test_a_child_opens_its_own(group: Path) -> None:
    """Even while the parent's thread, which is not in the child, holds on to what it waits for."""
    events = listening(group)
    masks = events.descriptors()
    inherited = set(masks)
    pid = os.fork()
    if pid == 0:
        closed = all(not Path(f"/proc/self/fd/{number}").exists() for number in inherited)
        os._exit(0 if closed and len(events.descriptors()) == 2 and events.descriptors() is not masks else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert events.descriptors() is masks
    for number in masks:
        os.fstat(number)
