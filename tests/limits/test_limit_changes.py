from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asyncmem.limits import FindingOutcome, LimitFinder

if TYPE_CHECKING:
    from tests.conftest import FakeSystem

MIB = 1024 * 1024
GIB = 1024 * MIB


@pytest.fixture
def group(fake_system: FakeSystem) -> Path:
    """The process's own group of version 2, with a limit of 1 GiB."""
    directory = fake_system.mount_v2() / "app"
    fake_system.member("0::/app")
    fake_system.group_v2(directory, maximum=GIB, usage=300 * MIB, anon=300 * MIB)
    return directory


def outcome(finder: LimitFinder, path: Path) -> tuple[FindingOutcome, int | None]:
    """Outcome and value of what was found at a path."""
    [found] = [found for found in finder.findings if found.path == str(path)]
    return found.outcome, found.value


def test_nothing_changed(fake_system: FakeSystem, group: Path) -> None:
    """Usage alone is no change, and bounds keep their meters."""
    finder = fake_system.finder()
    meter = finder.binding().meter
    fake_system.group_v2(group, maximum=GIB, usage=400 * MIB, anon=400 * MIB)
    assert not finder.refresh()
    assert finder.binding().meter is meter


def test_a_limit_changed_in_place(fake_system: FakeSystem, group: Path) -> None:
    """A resize while running is seen, up and down, with the same meter."""
    finder = fake_system.finder()
    meter = finder.binding().meter
    for limit in (2 * GIB, GIB // 2):
        fake_system.group_v2(group, maximum=limit, usage=300 * MIB, anon=300 * MIB)
        assert finder.refresh()
        assert finder.binding().limit == limit
        assert finder.binding().meter is meter
        assert not finder.refresh()


@pytest.mark.parametrize("file", ["maximum", "high"])
def test_a_change_is_noticed_before_it_is_looked_for(fake_system: FakeSystem, group: Path, file: str) -> None:
    """Also of a directory above, and of one that had no limit; not where only the usage changes."""
    finder = fake_system.finder()
    assert not finder.has_changed()
    for directory in (group, group.parent):
        fake_system.group_v2(directory, **{"maximum": GIB, file: GIB // 2})
        assert finder.has_changed()
        assert finder.refresh()
        assert not finder.has_changed()
    (group / "memory.current").write_text("1\n")
    assert not finder.has_changed()


def test_a_file_that_has_gone_or_come_is_noticed(fake_system: FakeSystem, group: Path) -> None:
    """Whether the file that is held open says anything is the kernel's business; one that cannot be opened is gone."""
    (group / "memory.high").unlink()
    finder = fake_system.finder()
    assert not finder.has_changed()
    fake_system.group_v2(group, maximum=GIB, high=GIB // 2)
    assert finder.has_changed()
    assert finder.refresh()
    assert finder.binding().limit == GIB // 2


def test_a_limit_taken_off(fake_system: FakeSystem, group: Path) -> None:
    """A group that says that it has no limit any more is believed."""
    finder = fake_system.finder()
    fake_system.group_v2(group, usage=300 * MIB, anon=300 * MIB)
    assert finder.refresh()
    assert finder.binding().name == "machine"


def test_the_last_limit_taken_off_stands(fake_system: FakeSystem, group: Path) -> None:
    """Where nothing else bounds the process, the last known limit is better than none."""
    finder = fake_system.finder(use_machine=False)
    fake_system.group_v2(group)
    assert not finder.refresh()
    assert finder.binding().limit == GIB


def test_a_limit_set_later(fake_system: FakeSystem, group: Path) -> None:
    """A group without a limit is looked at again."""
    fake_system.group_v2(group)
    finder = fake_system.finder()
    assert finder.binding().name == "machine"
    fake_system.group_v2(group, maximum=GIB)
    assert finder.refresh()
    assert [bound.limit for bound in finder.bounds] == [GIB]


@pytest.mark.parametrize("content", ["", "garbage"])
def test_a_limit_that_becomes_unreadable_still_holds(fake_system: FakeSystem, group: Path, content: str) -> None:
    """The finding says so, and gives the value that is used."""
    finder = fake_system.finder()
    (group / "memory.max").write_text(content)
    assert not finder.refresh()
    assert finder.binding().limit == GIB
    assert outcome(finder, group / "memory.max") == (FindingOutcome.UNREADABLE, GIB)
    assert not finder.refresh()
    assert finder.binding().limit == GIB


def test_a_group_that_is_removed_leaves_its_limit(fake_system: FakeSystem, group: Path) -> None:
    """The last known limit and usage stand; when the group comes back, it is read again."""
    finder = fake_system.finder()
    shutil.rmtree(group)
    assert not finder.refresh()
    assert finder.binding().limit == GIB
    assert finder.binding().meter.used() == 300 * MIB
    assert outcome(finder, group / "memory.max") == (FindingOutcome.UNREADABLE, GIB)
    fake_system.group_v2(group, maximum=2 * GIB)
    assert finder.refresh()
    assert finder.binding().limit == 2 * GIB


def test_a_process_that_was_moved_takes_its_new_limits(fake_system: FakeSystem, group: Path) -> None:
    """The old group binds no more, though it is still there."""
    finder = fake_system.finder()
    fake_system.group_v2(group.parent / "other", maximum=3 * GIB)
    fake_system.member("0::/other")
    assert finder.refresh()
    assert [bound.name for bound in finder.bounds] == ["cgroup:/other:memory.max"]


def test_a_membership_that_becomes_unreadable_changes_nothing(fake_system: FakeSystem, group: Path) -> None:
    """The groups that are known go on being read."""
    finder = fake_system.finder()
    (fake_system.proc / "self/cgroup").unlink()
    (fake_system.proc / "self/cgroup").mkdir()
    assert not finder.refresh()
    assert outcome(finder, fake_system.proc / "self/cgroup") == (FindingOutcome.UNREADABLE, None)
    fake_system.group_v2(group, maximum=2 * GIB)
    assert finder.refresh()


def test_a_machine_that_becomes_unreadable_keeps_its_size(fake_system: FakeSystem) -> None:
    """The last known size stands."""
    fake_system.machine(total=8 * GIB, available=4 * GIB)
    finder = fake_system.finder()
    (fake_system.proc / "meminfo").write_text("nothing\n")
    assert not finder.refresh()
    assert finder.binding().limit == 8 * GIB
    assert finder.binding().meter.used() == 4 * GIB


def test_a_flood_of_page_cache_is_not_used(fake_system: FakeSystem, group: Path) -> None:
    """Files that were read fill the group to its limit, and leave the room that there was."""
    finder = fake_system.finder()
    fake_system.group_v2(group, maximum=GIB, usage=GIB, anon=300 * MIB, inactive_file=700 * MIB, active_file=24 * MIB)
    finder.refresh()
    assert finder.binding().meter.used() == 300 * MIB


def test_cache_dropped_while_memory_grew(fake_system: FakeSystem, group: Path) -> None:
    """At its limit a group's usage says nothing; what grows is seen without a refresh, as soon as reading is due."""
    fake_system.group_v2(group, maximum=GIB, usage=GIB, anon=300 * MIB, inactive_file=724 * MIB)
    finder = fake_system.finder()
    fake_system.group_v2(group, maximum=GIB, usage=GIB, anon=800 * MIB, inactive_file=224 * MIB)
    meter = finder.binding().meter
    end = time.monotonic() + 60.0
    while (used := meter.used()) == 300 * MIB:  # an early reading takes at most a twentieth of the time
        assert time.monotonic() < end
    assert used == 800 * MIB


def test_dirty_pages_are_used(fake_system: FakeSystem, group: Path) -> None:
    """What has yet to be written cannot be dropped."""
    fake_system.group_v2(group, maximum=GIB, usage=GIB, anon=300 * MIB, inactive_file=724 * MIB, file_dirty=700 * MIB)
    assert fake_system.finder().binding().meter.used() == GIB - 24 * MIB


def test_a_growing_process_is_seen_by_every_ancestor(fake_system: FakeSystem, group: Path) -> None:
    """The process's own growth counts against each bound at once."""
    fake_system.group_v2(group.parent, maximum=4 * GIB, usage=2 * GIB, anon=GIB, inactive_file=GIB)
    fake_system.process(working_set=300 * MIB)
    finder = fake_system.finder()
    fake_system.process(working_set=400 * MIB)
    fake_system.group_v2(group, maximum=GIB, usage=400 * MIB, anon=400 * MIB)
    assert [bound.meter.used() for bound in finder.bounds] == [400 * MIB, GIB + 100 * MIB]
