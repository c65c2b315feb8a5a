"""What tasks cost, learned from the bytes that the process holds while they run.

`LearnedCostModel` (`model`) follows tasks from sample to sample; `task_class` is what the request path asks;
`evidence` makes a price of what was found; `tracks` and `stages` say how tasks in flight are remembered; `saved`
brings it over a restart. `protocols` is what another way of learning would have to offer.

Not here: reading memory (`sampling`), and what is admitted (`controller`, `gate`).
"""

from __future__ import annotations

from asyncmem.admission.learning.model import LearnedCostModel
from asyncmem.admission.learning.protocols import CostModel, Running, TaskClassCost, TaskCosts
from asyncmem.admission.learning.task_class import TaskClass

__all__ = ["CostModel", "LearnedCostModel", "Running", "TaskClass", "TaskClassCost", "TaskCosts"]
