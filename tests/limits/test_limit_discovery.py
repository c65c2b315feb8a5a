from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asyncmem.errors import ConfigError, LimitDiscoveryError
from asyncmem.limits import Bound, BoundKind, Finding, FindingOutcome, LimitFinder, discover_limits

if TYPE_CHECKING:
    from tests.conftest import FakeSystem

MIB = 1024 * 1024
GIB = 1024 * MIB


def limits(finder: LimitFinder) -> dict[str, int]:
    """The limits by the bounds' names."""
    return {bound.name: bound.limit for bound in finder.bounds}


def finding(finder: LimitFinder, path: str | Path) -> Finding:
    """What was found at a path."""
    [found] = [found for found in finder.findings if found.path == str(path)]
    return found


def test_v2_every_ancestor_is_a_bound_and_the_tightest_binds(fake_system: FakeSystem) -> None:
    """A generous own limit does not help below a full pod."""
    mount = fake_system.mount_v2()
    fake_system.member("0::/pod/app")
    fake_system.group_v2(mount / "pod/app", maximum=4 * GIB, usage=100 * MIB, anon=100 * MIB)
    fake_system.group_v2(mount / "pod", maximum=5 * GIB, usage=3 * GIB, anon=3 * GIB)
    finder = fake_system.finder()
    assert limits(finder) == {"cgroup:/pod/app:memory.max": 4 * GIB, "cgroup:/pod:memory.max": 5 * GIB}
    assert finder.binding().name == "cgroup:/pod:memory.max"
    assert finder.binding().source == str(mount / "pod/memory.max")
    assert finding(finder, mount / "memory.max").outcome is FindingOutcome.ABSENT


def test_the_binding_bound_follows_the_usage(fake_system: FakeSystem) -> None:
    """Which bound binds is measured when asked, not at the refresh."""
    mount = fake_system.mount_v2()
    fake_system.member("0::/pod/app")
    fake_system.group_v2(mount / "pod/app", maximum=4 * GIB)
    fake_system.group_v2(mount / "pod", maximum=5 * GIB)
    finder = fake_system.finder()
    assert finder.binding().limit == 4 * GIB
    fake_system.group_v2(mount / "pod", maximum=5 * GIB, usage=2 * GIB, anon=2 * GIB)
    assert finder.binding().limit == 5 * GIB


def test_v2_namespaced(fake_system: FakeSystem) -> None:
    """In a container the mount point is the process's own group."""
    mount = fake_system.mount_v2()
    fake_system.group_v2(mount, maximum=2 * GIB)
    assert limits(fake_system.finder()) == {"cgroup:/:memory.max": 2 * GIB}


@pytest.mark.parametrize("path", ["/docker/4f2a", "/", "/../..", "/elsewhere/that/is/not/mounted"])
def test_v2_mounted_from_a_subtree(fake_system: FakeSystem, path: str) -> None:
    """Whatever the path says, the container's own group is found at the mount point."""
    mount = fake_system.mount_v2(root="/docker/4f2a")
    fake_system.member(f"0::{path}")
    fake_system.group_v2(mount, maximum=2 * GIB)
    assert fake_system.finder().binding().source == str(mount / "memory.max")


def test_v2_path_that_is_not_below_the_mount(fake_system: FakeSystem) -> None:
    """A path from outside of the namespace leads to the mount point; what is missing on the way is absent."""
    mount = fake_system.mount_v2()
    fake_system.member("0::/kubepods/pod1/app")
    fake_system.group_v2(mount, maximum=2 * GIB)
    finder = fake_system.finder()
    assert finder.binding().source == str(mount / "memory.max")
    assert finding(finder, mount / "kubepods/pod1/app/memory.max").outcome is FindingOutcome.ABSENT


def test_v2_memory_high_is_a_bound_that_does_not_kill(fake_system: FakeSystem) -> None:
    """A high limit below the maximum binds first; the kernel slows down there and kills at the other."""
    mount = fake_system.mount_v2()
    fake_system.group_v2(mount, maximum=2 * GIB, high=GIB, usage=10 * MIB, anon=10 * MIB)
    finder = fake_system.finder()
    by_name = {bound.name: bound for bound in finder.bounds}
    high, maximum = by_name["cgroup:/:memory.high"], by_name["cgroup:/:memory.max"]
    assert finder.binding() is high
    assert (high.enforced, high.kills) == (False, False)
    assert (maximum.enforced, maximum.kills) == (True, True)
    assert high.meter is maximum.meter


def test_v1_every_ancestor_is_a_bound(fake_system: FakeSystem) -> None:
    """Version 1 keeps its limits in other files and means the same."""
    mount = fake_system.mount_v1()
    fake_system.member("4:memory:/pod/app", "3:cpu:/elsewhere")
    fake_system.group_v1(mount / "pod/app", limit=3 * GIB, usage=10 * MIB, rss=10 * MIB)
    fake_system.group_v1(mount / "pod", limit=2 * GIB, usage=20 * MIB, rss=20 * MIB)
    fake_system.group_v1(mount)
    finder = fake_system.finder()
    assert limits(finder) == {
        "cgroup:/pod/app:memory.limit_in_bytes": 3 * GIB,
        "cgroup:/pod:memory.limit_in_bytes": 2 * GIB,
    }
    assert finder.binding().limit == 2 * GIB
    assert finding(finder, mount / "memory.limit_in_bytes").outcome is FindingOutcome.UNLIMITED


def test_v1_limit_of_an_ancestor_that_is_not_mounted(fake_system: FakeSystem) -> None:
    """The statistics tell the least limit of all ancestors, and it is metered by what can be seen."""
    mount = fake_system.mount_v1(root="/pod/app")
    fake_system.member("4:memory:/pod/app")
    fake_system.group_v1(mount, limit=3 * GIB, hierarchical=GIB, usage=50 * MIB, rss=50 * MIB)
    finder = fake_system.finder()
    assert limits(finder) == {"cgroup:/:memory.limit_in_bytes": 3 * GIB, "cgroup:above": GIB}
    assert finder.binding().name == "cgroup:above"
    assert finder.binding().meter.used() == 50 * MIB
    fake_system.group_v1(mount, limit=GIB, hierarchical=GIB)
    assert finder.refresh()
    assert limits(finder) == {"cgroup:/:memory.limit_in_bytes": GIB}


def test_v1_hidden_limit_seen_from_the_mount_point(fake_system: FakeSystem) -> None:
    """Where the own group is not to be found, the nearest ancestor that is tells."""
    mount = fake_system.mount_v1()
    fake_system.member("4:memory:/not/mounted")
    fake_system.group_v1(mount, hierarchical=GIB)
    assert limits(fake_system.finder()) == {"cgroup:above": GIB}


def test_v1_statistics_that_cannot_be_read(fake_system: FakeSystem) -> None:
    """Whether there is a hidden limit is then unknown, and said to be."""
    mount = fake_system.mount_v1()
    fake_system.member("4:memory:/")
    fake_system.group_v1(mount, limit=2 * GIB)
    (mount / "memory.stat").unlink()
    (mount / "memory.stat").mkdir()
    finder = fake_system.finder()
    assert finding(finder, mount / "memory.stat").outcome is FindingOutcome.UNREADABLE
    assert limits(finder) == {"cgroup:/:memory.limit_in_bytes": 2 * GIB}


def test_v1_meter_of_a_hidden_limit_is_refreshed(fake_system: FakeSystem) -> None:
    """A directory without a limit of its own meters too, and its page cache does not count."""
    mount = fake_system.mount_v1(root="/pod/app")
    fake_system.member("4:memory:/pod/app")
    fake_system.group_v1(mount, hierarchical=GIB, usage=50 * MIB, rss=50 * MIB)
    finder = fake_system.finder()
    fake_system.group_v1(mount, hierarchical=GIB, usage=800 * MIB, rss=50 * MIB, inactive_file=750 * MIB)
    finder.refresh()
    assert finder.binding().meter.used() == 50 * MIB


def test_hybrid(fake_system: FakeSystem) -> None:
    """A version 2 mount without the memory controller does not hide version 1's limits."""
    unified = fake_system.mount_v2(point="/sys/fs/cgroup/unified")
    mount = fake_system.mount_v1()
    fake_system.member("4:memory:/app", "0::/app")
    (unified / "app").mkdir()
    fake_system.group_v1(mount / "app", limit=2 * GIB)
    finder = fake_system.finder()
    assert limits(finder) == {"cgroup:/app:memory.limit_in_bytes": 2 * GIB}
    assert finding(finder, unified / "app/memory.max").outcome is FindingOutcome.ABSENT


def test_escaped_mount_points(fake_system: FakeSystem) -> None:
    """A space in a mount point is no end of it."""
    mount = fake_system.mount_v2(point="/my\\040groups")
    fake_system.group_v2(mount, maximum=GIB)
    assert fake_system.finder().binding().limit == GIB


def test_unlimited_everywhere_leaves_the_machine(fake_system: FakeSystem) -> None:
    """Without any limit the machine's memory binds, metered by what it cannot give."""
    fake_system.group_v2(fake_system.mount_v2())
    fake_system.machine(total=8 * GIB, available=3 * GIB)
    finder = fake_system.finder()
    [bound] = finder.bounds
    assert (bound.kind, bound.limit, bound.meter.used()) == (BoundKind.MACHINE, 8 * GIB, 5 * GIB)
    assert bound.enforced
    assert {found.outcome for found in finder.findings if found.source == "cgroup v2"} == {FindingOutcome.UNLIMITED}


def test_no_cgroups_at_all_leaves_the_machine(fake_system: FakeSystem) -> None:
    """A system without cgroups is told apart from one without limits."""
    (fake_system.proc / "self/cgroup").unlink()
    finder = fake_system.finder()
    assert [bound.kind for bound in finder.bounds] == [BoundKind.MACHINE]
    assert finding(finder, fake_system.proc / "self/cgroup").outcome is FindingOutcome.ABSENT


@pytest.mark.parametrize(
    ("maximum", "high", "use_machine", "counts"),
    [
        (GIB, "max", None, False),
        (16 * GIB, "max", None, True),
        ("max", GIB, None, True),
        ("max", "max", None, True),
        (GIB, "max", True, True),
        (16 * GIB, "max", False, False),
    ],
)
def test_the_machine_counts_only_where_no_cgroup_kills_below_it(
    fake_system: FakeSystem, maximum: int | str, high: int | str, use_machine: bool | None, counts: bool
) -> None:
    """A full host is no reason for a healthy container to refuse work."""
    fake_system.group_v2(fake_system.mount_v2(), maximum=maximum, high=high)
    fake_system.machine(total=8 * GIB, available=GIB)
    finder = fake_system.finder(use_machine=use_machine)
    assert (BoundKind.MACHINE in {bound.kind for bound in finder.bounds}) is counts
    assert finding(finder, fake_system.proc / "meminfo").value == 8 * GIB


def test_an_unreadable_limit_is_not_no_limit(fake_system: FakeSystem) -> None:
    """What cannot be read says so, and the other limits are found all the same."""
    mount = fake_system.mount_v2()
    fake_system.member("0::/app")
    fake_system.group_v2(mount / "app", maximum=GIB)
    (mount / "app/memory.high").unlink()
    (mount / "app/memory.high").mkdir()
    finder = fake_system.finder()
    found = finding(finder, mount / "app/memory.high")
    assert found.outcome is FindingOutcome.UNREADABLE
    assert found.value is None
    assert "IsADirectoryError" in found.detail
    assert limits(finder) == {"cgroup:/app:memory.max": GIB}


def test_garbage_is_unreadable_and_shown(fake_system: FakeSystem) -> None:
    """The finding shows what was there."""
    mount = fake_system.mount_v2()
    fake_system.group_v2(mount, maximum="a lot")
    found = finding(fake_system.finder(), mount / "memory.max")
    assert found.outcome is FindingOutcome.UNREADABLE
    assert "a lot" in found.detail


def test_rlimits_are_metered_by_what_they_count(fake_system: FakeSystem) -> None:
    """The address space by VmSize, data by VmData; they refuse and do not kill."""
    soft = {resource.RLIMIT_AS: 4 * GIB, resource.RLIMIT_DATA: 3 * GIB}
    fake_system.process(vms=900 * MIB, data=600 * MIB, working_set=100 * MIB)
    finder = fake_system.finder(getrlimit=lambda which: (soft[which], -1), use_machine=False)
    assert [(b.name, b.limit, b.meter.used(), b.enforced, b.kills) for b in finder.bounds] == [
        ("RLIMIT_AS", 4 * GIB, 900 * MIB, True, False),
        ("RLIMIT_DATA", 3 * GIB, 600 * MIB, True, False),
    ]


def test_an_rlimit_that_cannot_be_asked_for_is_unreadable(fake_system: FakeSystem) -> None:
    """A system that refuses the question has not said that there is no limit."""

    def refuse(which: int) -> tuple[int, int]:
        raise ValueError(f"no such resource: {which}")

    assert finding(fake_system.finder(getrlimit=refuse), "RLIMIT_AS").outcome is FindingOutcome.UNREADABLE


def test_the_systems_own_rlimits(fake_system: FakeSystem) -> None:
    """Without another function the process's own are asked for."""
    finder = fake_system.finder(getrlimit=None)
    soft, _hard = resource.getrlimit(resource.RLIMIT_AS)
    expected = FindingOutcome.UNLIMITED if soft == resource.RLIM_INFINITY else FindingOutcome.LIMIT
    assert finding(finder, "RLIMIT_AS").outcome is expected


def test_a_configured_limit_is_metered_by_this_process(fake_system: FakeSystem) -> None:
    """It binds like the others and nobody enforces it."""
    fake_system.group_v2(fake_system.mount_v2(), maximum=2 * GIB, usage=900 * MIB, anon=900 * MIB)
    fake_system.process(working_set=200 * MIB)
    bound = fake_system.finder(configured="1GiB").binding()
    assert (bound.kind, bound.limit, bound.meter.used(), bound.enforced, bound.kills) == (
        BoundKind.CONFIGURED,
        GIB,
        200 * MIB,
        False,
        False,
    )


def test_a_configured_share_is_of_the_tightest_limit(fake_system: FakeSystem) -> None:
    """A share follows the limit when that changes."""
    mount = fake_system.mount_v2()
    fake_system.group_v2(mount, maximum=4 * GIB, high=2 * GIB)
    finder = fake_system.finder(configured="50%")
    assert limits(finder)["configured"] == GIB
    fake_system.group_v2(mount, maximum=4 * GIB, high=GIB)
    assert finder.refresh()
    assert limits(finder)["configured"] == GIB // 2


def test_a_share_of_nothing_is_an_error(fake_system: FakeSystem) -> None:
    """The message says where was looked."""
    with pytest.raises(LimitDiscoveryError, match="50% of a limit, and none was found"):
        fake_system.finder(configured="50%", use_machine=False)


@pytest.mark.parametrize("configured", ["a lot", "0%", 0, "0 MiB", "120%", -1])
def test_a_wrong_configured_limit_is_refused(fake_system: FakeSystem, configured: int | str) -> None:
    """A limit that is no quantity, or nothing, is the caller's mistake."""
    with pytest.raises(ConfigError):
        fake_system.finder(configured=configured)


def test_no_limit_at_all_is_an_error(fake_system: FakeSystem) -> None:
    """Nothing to go by is not the same as no limit; the message names the places."""
    (fake_system.proc / "meminfo").write_text("nothing\n")
    with pytest.raises(LimitDiscoveryError, match=r"meminfo: unreadable.*no line 'MemTotal"):
        fake_system.finder()


def test_this_system_has_limits() -> None:
    """Whatever this runs on, something bounds it, and less than the limit is used."""
    finder = discover_limits("90%")
    assert not finder.refresh()
    binding = finder.binding()
    assert 0 < binding.meter.used() < binding.limit
    assert BoundKind.CONFIGURED in {bound.kind for bound in finder.bounds}


def test_bounds_compare_without_their_meters(fake_system: FakeSystem) -> None:
    """The same limit from the same place is the same bound."""
    fake_system.group_v2(fake_system.mount_v2(), maximum=GIB)
    one, other = fake_system.finder(), fake_system.finder()
    assert one.bounds == other.bounds
    assert one.bounds[0].meter is not other.bounds[0].meter
    assert isinstance(one.bounds[0], Bound)
