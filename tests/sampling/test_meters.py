from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asyncmem._protocols import ProcessMemory, UsageMeter
from asyncmem.sampling import CgroupMeter, CgroupV2, MachineMeter, ProcessMeter

if TYPE_CHECKING:
    from tests.conftest import FakeSystem


class Group:
    """A version 2 group in a directory, a process in it, and their meter."""

    def __init__(self, system: FakeSystem, directory: Path) -> None:
        self._system = system
        self.directory = directory
        self.own = 0
        self.own_gone = False
        self.time = 0.0
        self.set()
        self.meter = CgroupMeter(CgroupV2(directory), self._working_set, timer=lambda: self.time)

    def set(self, usage: int = 0, **stat: int) -> None:
        """Write usage and parts."""
        self._system.group_v2(self.directory, usage=usage, **stat)

    def lose(self, *names: str) -> None:
        """Make files unreadable, in place."""
        for name in names:
            (self.directory / name).write_text("garbage")

    def _working_set(self) -> int:
        if self.own_gone:
            raise ProcessLookupError
        return self.own


@pytest.fixture
def group(fake_system: FakeSystem, tmp_path: Path) -> Group:
    """A group that uses nothing yet."""
    return Group(fake_system, tmp_path / "group")


def test_page_cache_is_not_used(group: Group) -> None:
    """A service that reads files for ever is not short of memory."""
    group.set(usage=1000, anon=100, inactive_file=850, active_file=40)
    group.own = 90
    assert group.meter.used() == 110


def test_page_cache_since_the_refresh_counts_until_the_next(group: Group) -> None:
    """An old part is taken pessimistically: nobody knows yet what has come."""
    group.set(usage=100, anon=100)
    group.meter.refresh()
    group.set(usage=900, anon=100, inactive_file=800)
    assert group.meter.used() == 900
    group.meter.refresh()
    assert group.meter.used() == 100


def test_what_grows_counts_at_once(group: Group) -> None:
    """Usage is read at the decision."""
    group.set(usage=500, anon=100, inactive_file=400)
    group.meter.refresh()
    group.set(usage=700, anon=300, inactive_file=400)
    assert group.meter.used() == 300


def test_cache_that_was_dropped_while_memory_grew_is_not_credited(group: Group) -> None:
    """Usage stays flat while the process takes the place of the cache: its own working set tells."""
    group.own = 200
    group.set(usage=1000, anon=300, inactive_file=700)
    group.meter.refresh()
    assert group.meter.used() == 300
    group.own = 700
    group.set(usage=1000, anon=800, inactive_file=200)
    assert group.meter.used() == 800


def test_usage_that_falls_by_dropped_cache_frees_nothing(group: Group) -> None:
    """Neighbours' memory does not vanish from the account when the kernel drops cache."""
    group.own = 50
    group.set(usage=1000, anon=400, inactive_file=600)
    group.meter.refresh()
    group.set(usage=500, anon=400, inactive_file=100)
    assert group.meter.used() == 400


def test_what_the_process_frees_is_free_at_once(group: Group) -> None:
    """No refresh is needed to see room come back."""
    group.own = 300
    group.set(usage=1000, anon=400, inactive_file=600)
    group.meter.refresh()
    group.own = 100
    group.set(usage=800, anon=200, inactive_file=600)
    assert group.meter.used() == 200


def test_never_more_than_the_usage_by_growth_alone(group: Group) -> None:
    """When a neighbour frees more than the process takes, the usage is the upper end."""
    group.own = 100
    group.set(usage=900, anon=900)
    group.meter.refresh()
    group.own = 300
    group.set(usage=350, anon=350)
    assert group.meter.used() == 350


def test_the_own_working_set_is_the_least(group: Group) -> None:
    """Memory that was charged before the process came here is still its own."""
    group.own = 500
    group.set(usage=100, anon=100)
    assert group.meter.used() == 500


def test_parts_that_disagree_with_the_usage_are_not_trusted(group: Group) -> None:
    """Statistics lag behind: the credit leaves at least anonymous memory, and the process's own."""
    group.set(usage=500, anon=300, inactive_file=400)
    assert group.meter.used() == 300
    group.set(usage=500, anon=0, inactive_file=500)
    group.own = 250
    group.meter.refresh()
    assert group.meter.used() == 250
    group.own = 0
    group.set(usage=100, inactive_file=900)
    group.meter.refresh()
    assert group.meter.used() == 0


def test_near_the_ceiling_a_neighbours_growth_is_seen(group: Group) -> None:
    """There cache pays for what neighbours take, and only a new reading of the parts shows it."""
    group.set(usage=1000, anon=300, inactive_file=700)
    group.meter.refresh()
    group.set(usage=1000, anon=800, inactive_file=200)
    assert group.meter.used() == 300
    group.meter.ceiling = 1000
    assert group.meter.used() == 800


def test_near_the_ceiling_once_is_enough(group: Group) -> None:
    """Usage that was at the ceiling and is below it now may have traded cache in between."""
    group.meter.ceiling = 1000
    group.set(usage=1000, anon=300, inactive_file=700)
    group.meter.refresh()
    group.set(usage=900, anon=800, inactive_file=100)
    assert group.meter.used() == 800


def test_early_readings_wait_where_they_are_slow(fake_system: FakeSystem, tmp_path: Path) -> None:
    """No more than a twentieth of the time goes into reading the parts early."""
    now = iter([0.0, 0.001, 0.020, 0.022, 0.023, 0.1, 0.1])
    directory = tmp_path / "group"
    fake_system.group_v2(directory, usage=1000, anon=300, inactive_file=700)
    meter = CgroupMeter(CgroupV2(directory), lambda: 0, ceiling=1000, timer=lambda: next(now))
    meter.refresh()
    fake_system.group_v2(directory, usage=1000, anon=800, inactive_file=200)
    assert meter.used() == 300
    assert meter.used() == 800


def test_without_parts_nothing_is_credited(group: Group) -> None:
    """What cannot be known to be droppable is in use."""
    group.set(usage=1000, anon=300, inactive_file=700)
    group.lose("memory.stat")
    assert group.meter.used() == 1000


def test_without_a_usage_the_last_one_grows_with_the_process(group: Group) -> None:
    """A group that vanishes leaves its last figures, and the process's growth on top."""
    group.own = 100
    group.set(usage=500, anon=200, inactive_file=300)
    group.meter.refresh()
    group.lose("memory.current", "memory.stat")
    assert group.meter.used() == 200
    group.own = 180
    assert group.meter.used() == 280
    group.meter.refresh()
    assert group.meter.used() == 580
    for own in (20, 180, 20, 180):
        group.own = own
        group.meter.refresh()
    assert group.meter.used() == 580


def test_without_usage_from_the_beginning_the_process_counts(group: Group) -> None:
    """The least that is known is used."""
    group.own = 100
    group.lose("memory.current", "memory.stat")
    assert group.meter.used() == 100


def test_without_the_process_the_group_counts(group: Group) -> None:
    """A sampler that fails does not make a group's figures go away."""
    group.own = 100
    group.set(usage=500, anon=200, inactive_file=300)
    assert group.meter.used() == 200
    group.own_gone = True
    group.set(usage=600, anon=300, inactive_file=300)
    assert group.meter.used() == 300


def test_closing_and_reading_again(group: Group) -> None:
    """Close lets descriptors go and nothing else."""
    group.set(usage=500, anon=200, inactive_file=300)
    assert group.meter.used() == 200
    group.meter.close()
    assert group.meter.used() == 200


class Process:
    """A process that can vanish."""

    def __init__(self) -> None:
        self.now = ProcessMemory(rss=4, vms=3, working_set=2, data=1)
        self.gone = False

    def read(self) -> ProcessMemory:
        """Read now."""
        if self.gone:
            raise ProcessLookupError
        return self.now


def test_a_process_meter_reads_its_figure() -> None:
    """Each rlimit counts something else."""
    process = Process()
    meters: list[UsageMeter] = [
        ProcessMeter(process, "working_set"),
        ProcessMeter(process, "vms"),
        ProcessMeter(process, "data"),
    ]
    assert [meter.used() for meter in meters] == [2, 3, 1]
    process.now = ProcessMemory(rss=40, vms=30, working_set=20, data=10)
    for meter in meters:
        meter.refresh()
    assert [meter.used() for meter in meters] == [20, 30, 10]


def test_a_process_meters_last_reading_stands() -> None:
    """A process that never could be read is an error; one that cannot now is not."""
    process = Process()
    process.gone = True
    meter = ProcessMeter(process, "working_set")
    with pytest.raises(ProcessLookupError):
        meter.used()
    process.gone = False
    assert meter.used() == 2
    process.gone = True
    assert meter.used() == 2


class Machine:
    """A machine that can become unreadable."""

    def __init__(self) -> None:
        self.size = 1000
        self.free = 600
        self.broken = False

    def total(self) -> int:
        """Its size."""
        return self._or_fail(self.size)

    def available(self) -> int:
        """What it could give."""
        return self._or_fail(self.free)

    def _or_fail(self, value: int) -> int:
        if self.broken:
            raise ValueError("no such line")
        return value


def test_the_machine_uses_what_it_cannot_give() -> None:
    """Total less available, and at least this process; its size is read again at a refresh."""
    machine, own = Machine(), [0]
    meter = MachineMeter(machine, lambda: own[0])
    assert meter.used() == 400
    own[0] = 450
    meter.refresh()
    assert meter.used() == 450
    machine.size, machine.free = 2000, 1100
    meter.refresh()
    assert meter.used() == 900


def test_the_machine_is_not_read_for_every_decision() -> None:
    """Within ten milliseconds only the process's own growth is added; then the machine is read again."""
    machine, own, now = Machine(), [100], [0.0]
    meter = MachineMeter(machine, lambda: own[0], timer=lambda: now[0])
    assert meter.used() == 400
    machine.free -= 200
    own[0] = 150
    assert meter.used() == 450
    now[0] = 0.011
    assert meter.used() == 600


def test_a_process_that_cannot_be_read_leaves_the_machines_reading() -> None:
    """Its last working set stands, and the machine itself is still read."""
    machine, gone, now = Machine(), [False], [0.0]

    def own() -> int:
        if gone[0]:
            raise ProcessLookupError
        return 100

    meter = MachineMeter(machine, own, timer=lambda: now[0])
    assert meter.used() == 400
    gone[0] = True
    assert meter.used() == 400
    machine.free -= 50
    now[0] = 1.0
    assert meter.used() == 450


def test_an_unreadable_machine_grows_with_the_process() -> None:
    """The last reading stands, and what the process has grown since is added."""
    machine, own = Machine(), [100]
    meter = MachineMeter(machine, lambda: own[0])
    assert meter.used() == 400
    machine.broken = True
    own[0] = 150
    assert meter.used() == 450
    assert meter.used() == 450
