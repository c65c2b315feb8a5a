"""What the kernel says of its own accord about a cgroup's memory.

- `events`: `KernelEvents`, which listens in all places that there are, and says where it does not and why.
- `sources`: one place each: usage thresholds and pressure of version 1, counters and stalls of version 2.

Polling is the primary path and meets every target without this: in most containers the cgroup filesystem is read-only
and triggers are refused. Where they are not, an event ends the watcher's wait within a millisecond, and no thread more
is needed for it.

An event is a reason to look at once and never more than that: usage counts page cache, and a process that merely writes
a large file under a low limit makes the kernel say ``critical`` again and again.

Only the process's own group is listened to, never the machine: pressure elsewhere must not make a healthy container
shed.
"""

from __future__ import annotations

from asyncmem.sampling.kernel.events import KernelEvents, KernelEventStatistics
from asyncmem.sampling.kernel.sources import KernelEvent, KernelFinding, KernelSignal

__all__ = ["KernelEvent", "KernelEventStatistics", "KernelEvents", "KernelFinding", "KernelSignal"]
