"""The decision in front of each piece of work: what it needs, what there is, who is next.

========== ===================================================================
module     what it does
========== ===================================================================
controller joins the others: admit, queue or reject
gate       promises bytes under one lock, and queues
locking    that lock, in which giving back never waits
semaphore  the same gate over a fixed number of bytes
headroom   how much may be promised, from bounds and promises
queue      the order of those that wait
waiter     one of them, and its priority
refusals   what is said to those that are refused
costs      what a task class costs, learned
attribution what each of several overlapping tasks has used
permit     what admission hands out
========== ===================================================================

Where limits come from: `asyncmem.limits`. How frameworks use it: `asyncmem.middleware`, `asyncmem.guards`.
"""

from __future__ import annotations

from asyncmem.admission.controller import AdmissionController, AdmissionStatistics, check_deadline
from asyncmem.admission.costs import CostModel, TaskClassCost, WindowedCostModel
from asyncmem.admission.headroom import guard_band
from asyncmem.admission.permit import Permit, current_permit
from asyncmem.admission.queue import FairQueue, WaitQueue
from asyncmem.admission.semaphore import MemorySemaphore, SemaphoreStatistics
from asyncmem.admission.waiter import Priority, Waiter, checked_priority

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
    "Waiter",
    "WindowedCostModel",
    "check_deadline",
    "checked_priority",
    "current_permit",
    "guard_band",
]
