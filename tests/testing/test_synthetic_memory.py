from __future__ import annotations

import pytest

from asyncmem._protocols import ProcessMemory
from asyncmem.limits import BoundKind, Limits
from asyncmem.sampling import MachineSampler, ProcessSampler
from asyncmem.testing import SyntheticLimits, SyntheticSampler
from asyncmem.units import MIB


def test_a_sampler_reads_what_it_was_given() -> None:
    """As a process and as a machine, from numbers and from text."""
    memory = SyntheticSampler("40MiB", machine="100MiB")
    process: ProcessSampler = memory
    machine: MachineSampler = memory
    nbytes = 40 * MIB
    assert process.read() == ProcessMemory(rss=nbytes, vms=nbytes, working_set=nbytes, data=nbytes)
    assert (process.working_set(), process.threads(), process.open_files()) == (nbytes, 1, 0)
    assert (machine.total(), machine.available()) == (100 * MIB, 60 * MIB)
    memory.used = 7
    assert (process.working_set(), machine.available()) == (7, 100 * MIB - 7)


def test_a_machine_never_has_less_than_nothing() -> None:
    """A process larger than the machine leaves 0 available."""
    memory = SyntheticSampler(machine=100)
    memory.used = 101
    assert memory.available() == 0


def test_an_error_is_raised_by_every_reading_until_it_is_taken_back() -> None:
    """Of the process and of the machine."""
    memory = SyntheticSampler(5)
    readings = [
        memory.read,
        memory.working_set,
        memory.threads,
        memory.open_files,
        memory.total,
        memory.available,
    ]
    memory.error = ProcessLookupError("gone")
    for reading in readings:
        with pytest.raises(ProcessLookupError, match="gone"):
            reading()
    memory.error = None
    assert all(reading() is not None for reading in readings)


def test_limits_change_at_the_next_refresh() -> None:
    """Until then the old bounds are the same object, which is how the controller knows that nothing changed."""
    memory = SyntheticSampler("10MiB")
    synthetic = SyntheticLimits(memory, "100MiB")
    limits: Limits = synthetic
    before = limits.bounds
    synthetic.resize("50MiB")
    assert limits.bounds is before
    assert limits.binding().limit == 100 * MIB
    assert limits.refresh()
    assert limits.binding().limit == 50 * MIB
    assert not limits.refresh()
    assert limits.bounds == (limits.binding(),)


def test_a_resize_to_the_same_changes_nothing() -> None:
    """As with the limits of a real system."""
    limits = SyntheticLimits(SyntheticSampler(), "100MiB")
    limits.resize(100 * MIB)
    assert not limits.refresh()


def test_the_bound_measures_its_sampler() -> None:
    """Setting the one shows in the other; the last reading stands while there is an error."""
    memory = SyntheticSampler("10MiB")
    meter = SyntheticLimits(memory, "100MiB").binding().meter
    assert meter.used() == 10 * MIB
    memory.used = 20 * MIB
    assert meter.used() == 20 * MIB
    memory.error = OSError("gone")
    assert meter.used() == 20 * MIB


@pytest.mark.parametrize(("enforced", "kind"), [(True, BoundKind.CGROUP), (False, BoundKind.CONFIGURED)])
def test_the_kernel_kills_at_it_or_does_not(enforced: bool, kind: BoundKind) -> None:
    """As a cgroup's limit, or as one from the settings."""
    bound = SyntheticLimits(SyntheticSampler(), "1GiB", enforced=enforced).binding()
    assert (bound.kind, bound.enforced, bound.kills) == (kind, enforced, enforced)
