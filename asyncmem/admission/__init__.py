"""The decision in front of each piece of work: what it needs, what there is, who is next.

========== ===================================================================
module     what it does
========== ===================================================================
controller joins the others: admit, queue or reject
gate       promises bytes under one lock, and queues
semaphore  the same gate over a fixed number of bytes
headroom   how much may be promised, from bounds and promises
queue      the order of those that wait, and priorities
costs      what a task class costs, learned
attribution what each of several overlapping tasks has used
permit     what admission hands out
========== ===================================================================

Where limits come from: `asyncmem.limits`. How frameworks use it: `asyncmem.middleware`, `asyncmem.guards`.
"""

from __future__ import annotations

from asyncmem.admission.controller import AdmissionController, AdmissionStatistics
from asyncmem.admission.costs import CostModel, TaskClassCost, WindowedCostModel
from asyncmem.admission.headroom import guard_band
from asyncmem.admission.permit import Permit, current_permit
from asyncmem.admission.queue import FairQueue, Priority, WaitQueue
from asyncmem.admission.semaphore import MemorySemaphore, SemaphoreStatistics

__all__ = [
    "AdmissionController",
    "AdmissionStatistics",
    "CostModel",
    "FairQueue",
    "MemorySemaphore",
    "Permit",
    "Priority",
    "SemaphoreStatistics",
    "TaskClassCost",
    "WaitQueue",
    "WindowedCostModel",
    "current_permit",
    "guard_band",
]
