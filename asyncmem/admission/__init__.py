"""The decision in front of each piece of work: what it needs, what there is, who is next.

========== ===================================================================
module     what it does
========== ===================================================================
controller joins the others: admit, queue or reject
gate       promises bytes under one lock, and queues
locking    that lock, in which giving back never waits
semaphore  the same gate over a fixed number of bytes
headroom   how much may be promised, from bounds, promises and expectations
learning   what task classes cost, learned from tasks that overlap
steps      measures unknown work in its own steps
costs_file keeps what was learned for the next process
pricing    what one piece of work is charged
queue      the order of those that wait
waiter     one of them, and its priority
forecast   how long they will wait
refusals   what is said to those that are refused
waiting    the way into the queue
watching   looks at memory while work is in flight
defence    looks after each sample whether memory has to be defended
emergency  what is called for when it has
permit     what admission hands out
statistics what the controller tells about itself
arguments  checks of what callers hand in
========== ===================================================================

Where limits come from: `asyncmem.limits`. How frameworks use it: `asyncmem.middleware`, `asyncmem.guards`.
"""

from __future__ import annotations

from asyncmem.admission.arguments import check_deadline, checked_size
from asyncmem.admission.controller import STEPPED_FROM, AdmissionController
from asyncmem.admission.costs_file import CostsFile
from asyncmem.admission.gauge import guard_band
from asyncmem.admission.learning import CostModel, LearnedCostModel, TaskClassCost
from asyncmem.admission.permit import Canceller, Permit, current_permit
from asyncmem.admission.queue import FairQueue, WaitQueue
from asyncmem.admission.semaphore import MemorySemaphore, SemaphoreStatistics
from asyncmem.admission.statistics import AdmissionStatistics
from asyncmem.admission.waiter import Priority, Waiter, checked_priority

__all__ = [
    "STEPPED_FROM",
    "AdmissionController",
    "AdmissionStatistics",
    "Canceller",
    "CostModel",
    "CostsFile",
    "FairQueue",
    "LearnedCostModel",
    "MemorySemaphore",
    "Permit",
    "Priority",
    "SemaphoreStatistics",
    "TaskClassCost",
    "WaitQueue",
    "Waiter",
    "check_deadline",
    "checked_priority",
    "checked_size",
    "current_permit",
    "guard_band",
]
