"""What `asyncmem doctor` says of systems that are made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asyncmem.cli import doctor as doctor_module
from asyncmem.cli.app import run
from asyncmem.cli.doctor import Report, examine, text
from asyncmem.errors import LimitDiscoveryError
from asyncmem.limits import BoundKind, FindingOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.limits import LimitFinder
    from tests.conftest import FakeSystem

MIB = 1024 * 1024
GIB = 1024 * MIB


def said(report: Report) -> str:
    """The report as it is printed."""
    return "\n".join(line for line, _style in text(report))


def test_figures_are_those_of_the_bound_that_binds(fake_system: FakeSystem) -> None:
    """Limit, guard band, use and what is free add up."""
    fake_system.member("0::/app")
    fake_system.group_v2(fake_system.mount_v2() / "app", maximum=GIB, usage=300 * MIB, anon=200 * MIB, file=100 * MIB)
    report = examine(fake_system.finder(), "100MiB")
    assert (report.limit, report.kind, report.enforced) == (GIB, BoundKind.CGROUP, True)
    assert report.source.endswith("/app/memory.max")
    assert (report.guard_band, report.capacity) == (100 * MIB, 924 * MIB)
    assert report.free == report.capacity - report.used
    lines = said(report).splitlines()
    assert lines[0] == f"limit            1 GiB  from {report.source}"
    assert [line for line in lines if line.startswith("*")] == [f"* 1 GiB       cgroup v2  {report.source}"]


def test_a_path_with_brackets_is_written_as_it_is(
    fake_system: FakeSystem, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no markup, however it looks."""
    fake_system.member("0::/[red]app[/red][/]")
    fake_system.group_v2(fake_system.mount_v2() / "[red]app[/red][/]", maximum=GIB)
    monkeypatch.setattr(doctor_module, "LimitFinder", lambda **_settings: fake_system.finder())
    assert run(["doctor"]) == 0
    assert "/[red]app[/red][/]/memory.max" in capsys.readouterr().out


def test_what_cannot_be_read_is_told_with_the_reason(fake_system: FakeSystem) -> None:
    """There may be a limit, which is worth knowing."""
    fake_system.member("0::/app")
    group = fake_system.mount_v2() / "app"
    fake_system.group_v2(group)
    (group / "memory.max").write_text("garbage\n")
    report = examine(fake_system.finder())
    [finding] = [finding for finding in report.findings if finding.outcome is FindingOutcome.UNREADABLE]
    assert finding.path == f"{group}/memory.max"
    assert f"  unreadable  cgroup v2  {finding.path}  ({finding.detail})" in said(report).splitlines()


def machine_only(system: FakeSystem) -> LimitFinder:
    """Nothing but the machine."""
    return system.finder()


def rlimit(system: FakeSystem) -> LimitFinder:
    """An rlimit below the machine."""
    return system.finder(getrlimit=lambda _which: (GIB, GIB))


def soft(system: FakeSystem) -> LimitFinder:
    """A group that is slowed down at 1 GiB."""
    system.member("0::/app")
    system.group_v2(system.mount_v2() / "app", high=GIB)
    return system.finder()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (machine_only, "nothing else limits this process"),
        (rlimit, "from RLIMIT_AS: beyond it allocations fail"),
        (soft, "/app/memory.high: beyond it the kernel slows the process down"),
    ],
)
def test_it_says_what_a_limit_is_worth(
    fake_system: FakeSystem, make: Callable[[FakeSystem], LimitFinder], words: str
) -> None:
    """A machine, an rlimit and a soft limit are no container's limit."""
    assert words in said(examine(make(fake_system))).splitlines()[0]


def test_more_in_use_than_allowed_leaves_nothing(fake_system: FakeSystem) -> None:
    """And not a negative number."""
    fake_system.member("0::/app")
    fake_system.group_v2(fake_system.mount_v2() / "app", maximum=100 * MIB, usage=99 * MIB, anon=99 * MIB)
    report = examine(fake_system.finder())
    assert report.free == 0
    assert "free               0 B  for work" in said(report).splitlines()


def test_no_limit_at_all_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer is no, and nobody's usage is wrong."""

    def find(**_settings: object) -> LimitFinder:
        raise LimitDiscoveryError("no memory limit was found;\n set one")

    monkeypatch.setattr(doctor_module, "LimitFinder", find)
    assert run(["doctor"]) == 1
    assert capsys.readouterr() == ("", "asyncmem: no memory limit was found; set one\n")
