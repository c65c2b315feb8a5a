from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asyncmem.sampling import CgroupParts, CgroupV1, CgroupV2

if TYPE_CHECKING:
    from tests.conftest import FakeSystem


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a group is made."""
    return tmp_path / "group"


def test_v1_limits_usage_and_the_word_for_none(fake_system: FakeSystem, directory: Path) -> None:
    """Version 1 writes no limit as a huge number."""
    fake_system.group_v1(directory, usage=700)
    group = CgroupV1(directory)
    assert group.limits() == {"memory.limit_in_bytes": None}
    assert group.usage() == 700
    fake_system.group_v1(directory, limit=900)
    assert group.limits() == {"memory.limit_in_bytes": 900}


@pytest.mark.parametrize("page", [4096, 16384, 65536])
def test_v1_unlimited_on_any_page_size(fake_system: FakeSystem, directory: Path, page: int) -> None:
    """The huge number is 2**63 less one page, whatever a page is."""
    fake_system.group_v1(directory, limit=2**63 - page)
    assert CgroupV1(directory).read_limit("memory.limit_in_bytes") is None


def test_v2_limits_usage_and_the_word_for_none(fake_system: FakeSystem, directory: Path) -> None:
    """Version 2 has two limits and writes none as a word."""
    fake_system.group_v2(directory, maximum=900, usage=700)
    group = CgroupV2(directory)
    assert group.limits() == {"memory.max": 900, "memory.high": None}
    assert group.usage() == 700


def test_droppable_is_clean_unmapped_file_pages(fake_system: FakeSystem, directory: Path) -> None:
    """Dirty, written and mapped pages are taken off; version 1 takes the subtree's figures."""
    fake_system.group_v1(
        directory, active_file=500, inactive_file=300, dirty=50, writeback=20, mapped_file=100, rss=40, shmem=2
    )
    assert CgroupV1(directory).parts() == CgroupParts(droppable=630, anonymous=42)
    fake_system.group_v2(
        directory,
        active_file=500,
        inactive_file=300,
        file_dirty=50,
        file_writeback=20,
        file_mapped=100,
        anon=40,
        shmem=2,
    )
    assert CgroupV2(directory).parts() == CgroupParts(droppable=630, anonymous=42)
    assert CgroupV2(directory).droppable() == 630


def test_droppable_counts_slab_where_it_is_reported(fake_system: FakeSystem, directory: Path) -> None:
    """Only version 2 has the figure."""
    fake_system.group_v2(directory, active_file=500, slab_reclaimable=70)
    assert CgroupV2(directory).droppable() == 570
    fake_system.group_v1(directory, active_file=500, slab_reclaimable=70)
    assert CgroupV1(directory).droppable() == 500


def test_droppable_is_never_negative(fake_system: FakeSystem, directory: Path) -> None:
    """Mapped shared memory is among the mapped pages and not among the file pages."""
    fake_system.group_v2(directory, active_file=500, file_mapped=900)
    assert CgroupV2(directory).droppable() == 0


def test_hierarchical_limit_is_version_1s(fake_system: FakeSystem, directory: Path) -> None:
    """Version 1 tells the least limit of all ancestors; version 2 does not."""
    fake_system.group_v1(directory, hierarchical=5000)
    assert CgroupV1(directory).hierarchical_limit() == 5000
    fake_system.group_v1(directory, hierarchical=2**63 - 4096)
    assert CgroupV1(directory).hierarchical_limit() is None
    assert CgroupV2(directory).hierarchical_limit() is None


@pytest.mark.parametrize("content", ["", "garbage", "-1", "12 34", "1_000", "0x10", "1e9"])
def test_garbage_names_path_and_content(fake_system: FakeSystem, directory: Path, content: str) -> None:
    """What is no number is neither zero nor unlimited."""
    fake_system.group_v2(directory)
    (directory / "memory.max").write_text(content)
    (directory / "memory.current").write_text(content)
    for read in (CgroupV2(directory).usage, CgroupV2(directory).limits):
        with pytest.raises(ValueError, match=r"memory\.(current|max): holds") as caught:
            read()
        assert repr(content.encode()) in str(caught.value)


def test_a_stat_without_a_figure_names_it(fake_system: FakeSystem, directory: Path) -> None:
    """A figure that is missing is not taken for zero: that might credit what is dirty."""
    fake_system.group_v2(directory)
    (directory / "memory.stat").write_text("active_file 500\ninactive_file 1\nanon 1\nshmem 0\nfile_mapped 0\n")
    with pytest.raises(ValueError, match="lacks the figure b'file_dirty'"):
        CgroupV2(directory).parts()


def test_a_directory_that_is_gone_is_an_os_error(directory: Path) -> None:
    """Nothing is opened before it is read."""
    group = CgroupV1(directory)
    with pytest.raises(FileNotFoundError):
        group.usage()
    with pytest.raises(FileNotFoundError):
        group.parts()
    assert str(directory) in repr(group)
    assert group.path == str(directory)
