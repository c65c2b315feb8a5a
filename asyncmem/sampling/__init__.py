"""Reading memory: of this process, of the machine, of cgroups; and the thread that does so regularly.

What is covered:

- `linux`, `portable`: one process, through ``/proc`` or psutil, in the words of `ProcessSampler`.
- `machine`, `portable`: the machine, in the words of `MachineSampler`.
- `cgroup`: one directory of the cgroup filesystem, version 1 or 2; `hierarchy` finds the directories.
- `meters`: how much is used of a bound, page cache left out.
- `heap`: what the process holds apart from what its allocator keeps.
- `watcher`: the one background thread; `period`: how soon it should look again.
- `kernel`: what the kernel says of its own accord.
- `forks`: what a forked child must forget.

What is not: which limits there are and which binds (`asyncmem.limits`), snapshots and trends (`asyncmem.monitor`),
decisions (`asyncmem.admission`). Nothing is opened or started before it is asked for, and every root path can be put in
from outside.
"""

from __future__ import annotations

from asyncmem.sampling._files import read_once
from asyncmem.sampling._malloc import heap_trimmer
from asyncmem.sampling.cgroup import Cgroup, CgroupParts, CgroupV1, CgroupV2
from asyncmem.sampling.heap import LiveMeter
from asyncmem.sampling.kernel import KernelEvent, KernelEvents, KernelEventStatistics, KernelFinding, KernelSignal
from asyncmem.sampling.linux import LinuxSampler
from asyncmem.sampling.machine import MachineMemory
from asyncmem.sampling.meters import CgroupMeter, MachineMeter, ProcessMeter
from asyncmem.sampling.period import GrowthRate, next_period
from asyncmem.sampling.portable import PsutilMachine, PsutilSampler
from asyncmem.sampling.protocols import MachineSampler, ProcessSampler, working_set_of
from asyncmem.sampling.watcher import Watcher, WatcherStatistics

__all__ = [
    "Cgroup",
    "CgroupMeter",
    "CgroupParts",
    "CgroupV1",
    "CgroupV2",
    "GrowthRate",
    "KernelEvent",
    "KernelEventStatistics",
    "KernelEvents",
    "KernelFinding",
    "KernelSignal",
    "LinuxSampler",
    "LiveMeter",
    "MachineMemory",
    "MachineMeter",
    "MachineSampler",
    "ProcessMeter",
    "ProcessSampler",
    "PsutilMachine",
    "PsutilSampler",
    "Watcher",
    "WatcherStatistics",
    "default_machine",
    "default_sampler",
    "heap_trimmer",
    "next_period",
    "working_set_of",
]


def default_sampler(proc_root: str = "/proc") -> ProcessSampler:
    """This process's sampler: Linux's own files where they can be read, else psutil.

    Args:
        proc_root: Where procfs is mounted.
    """
    return LinuxSampler(proc_root) if _readable(proc_root, "self/statm") else PsutilSampler()


def default_machine(proc_root: str = "/proc") -> MachineSampler:
    """The machine's sampler: Linux's own file where it can be read, else psutil.

    Args:
        proc_root: Where procfs is mounted.
    """
    return MachineMemory(proc_root) if _readable(proc_root, "meminfo") else PsutilMachine()


def _readable(proc_root: str, name: str) -> bool:
    try:
        return bool(read_once(f"{proc_root}/{name}"))
    except OSError:
        return False
