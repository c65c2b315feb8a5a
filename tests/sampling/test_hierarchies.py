from __future__ import annotations

from pathlib import Path

import pytest

from asyncmem.sampling.hierarchy import Hierarchy, find_hierarchies


def mountinfo(*mounts: tuple[str, str, str, str]) -> str:
    """Lines of mountinfo from (root, mount point, kind, options of the super block)."""
    lines = [
        f"31 23 0:28 {root} {point} rw,relatime shared:9 master:1 - {kind} {kind} {options}"
        for root, point, kind, options in mounts
    ]
    return "\n".join(["1 0 8:1 / / rw - ext4 /dev/root rw,memory", *lines])


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        pytest.param("/a/b", "/", ["m/a/b", "m/a", "m"], id="host"),
        pytest.param("/", "/", ["m"], id="namespace"),
        pytest.param("/docker/4f2a", "/docker/4f2a", ["m"], id="subtree-itself"),
        pytest.param("/docker/4f2a/x/y", "/docker/4f2a", ["m/x/y", "m/x", "m"], id="below-subtree"),
        pytest.param("/docker/4f2abc", "/docker/4f2a", ["m"], id="name-that-only-begins-alike"),
        pytest.param("/", "/docker/4f2a", ["m"], id="namespaced-path-and-plain-root"),
        pytest.param("/../..", "/", ["m"], id="outside-of-the-namespace"),
        pytest.param("/../sibling", "/..", ["m/sibling", "m"], id="mounted-above-the-namespace"),
        pytest.param("/../../other", "/..", ["m"], id="climbs-out-of-the-mount"),
        pytest.param("/a (deleted)", "/", ["m/a", "m"], id="removed"),
        pytest.param("/a:b c", "/", ["m/a:b c", "m"], id="colon-and-space"),
    ],
)
def test_paths_and_roots_are_joined(path: str, root: str, expected: list[str]) -> None:
    """The mount's root is taken off the path; where that does not work, the mount point is the group."""
    [found] = find_hierarchies(f"0::{path}\n", mountinfo((root, "/m", "cgroup2", "rw")), fs_root="/none")
    assert found.version == 2
    assert list(found.directories) == [f"/none/{directory}" for directory in expected]


def test_mount_points_are_unescaped() -> None:
    """The kernel writes a space as an octal number."""
    [found] = find_hierarchies("0::/\n", mountinfo(("/", r"/my\040c\134groups", "cgroup2", "rw")))
    assert found.directories == ("/my c\\groups",)


def test_version_1_is_the_hierarchy_with_the_memory_controller() -> None:
    """Controllers may be mounted together; another hierarchy of version 1 is no place to look."""
    text = "5:cpu,cpuacct:/x\n4:memory,hugetlb:/y\n1:name=systemd:/z\n"
    mounts = mountinfo(("/", "/c", "cgroup", "rw,cpu,cpuacct"), ("/", "/m", "cgroup", "rw,hugetlb,memory"))
    assert find_hierarchies(text, mounts) == [Hierarchy(1, "/m", ("/m/y", "/m"))]


def test_both_versions_side_by_side() -> None:
    """Version 2 comes first."""
    mounts = mountinfo(("/", "/m", "cgroup", "rw,memory"), ("/", "/u", "cgroup2", "rw"))
    found = find_hierarchies("4:memory:/y\n0::/x\n", mounts)
    assert [(one.version, one.directories[0]) for one in found] == [(2, "/u/x"), (1, "/m/y")]


def test_of_several_mounts_the_one_with_most_ancestors_is_taken() -> None:
    """A bind mount of a subtree beside the whole does not hide the ancestors."""
    mounts = mountinfo(("/a", "/part", "cgroup2", "rw"), ("/", "/whole", "cgroup2", "rw"))
    [found] = find_hierarchies("0::/a/b\n", mounts)
    assert found.directories == ("/whole/a/b", "/whole/a", "/whole")


def test_of_several_mounts_one_that_has_the_group_is_taken(tmp_path: Path) -> None:
    """A mount that should show the group and does not is passed over."""
    (tmp_path / "part/b").mkdir(parents=True)
    mounts = mountinfo(("/", "/whole", "cgroup2", "rw"), ("/a", "/part", "cgroup2", "rw"))
    [found] = find_hierarchies("0::/a/b\n", mounts, fs_root=str(tmp_path))
    assert found.directories == (f"{tmp_path}/part/b", f"{tmp_path}/part")


def test_directories_are_named_below_their_mount() -> None:
    """The mount point itself is the root."""
    hierarchy = Hierarchy(2, "/m", ("/m/a/b", "/m/a", "/m"))
    assert [hierarchy.name_of(directory) for directory in hierarchy.directories] == ["/a/b", "/a", "/"]


@pytest.mark.parametrize("text", ["", "garbage\n", "0::/\n", "4:memory:/\n", "\n:\n::\n"])
def test_no_mount_is_no_hierarchy(text: str) -> None:
    """Lines that mean nothing are passed over."""
    assert find_hierarchies(text, "31 23 0:28 / /m rw\nx - y\n\n") == []
