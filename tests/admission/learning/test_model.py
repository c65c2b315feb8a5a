"""Costs are found out from what the process holds, alone and in company."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from asyncmem.admission.learning import LearnedCostModel

if TYPE_CHECKING:
    from tests.admission.learning.conftest import Process, Task

MIB = 1024 * 1024


def test_a_task_alone_is_measured(process: Process) -> None:
    """Tasks that nothing overlaps are known to within the noise of the reading."""
    for _ in range(5):
        process.one("a", 40.0)
    known = process.model.statistics()["a"]
    assert known.peak == pytest.approx(40 * MIB, rel=0.05)
    assert known.coverage_alone == 1.0
    assert 40.0 < process.price("a") < 52.0


def test_classes_that_are_never_alone_are_told_apart(process: Process) -> None:
    """With four in flight at any time each class gets its own cost, and not a share of all."""
    process.traffic({"small": 4.0, "middle": 40.0, "large": 150.0}, 150)
    peaks = {name: known.peak / MIB for name, known in process.model.statistics().items()}
    assert peaks == pytest.approx({"small": 4.0, "middle": 40.0, "large": 150.0}, rel=0.12)
    assert process.model.held / MIB == pytest.approx(sum(task.holds for task in process.tasks), abs=5.0)


def test_memory_that_comes_late_is_expected(process: Process) -> None:
    """A class that allocates after 100 ms is priced by its peak, and until then counted as yet to come."""
    for _ in range(20):
        task = process.begin("late")
        process.sample(4)
        process.begin("flat", 20.0)
        process.sample(8)
        task.holds = 60.0
        process.sample(12)
        for running in [*process.tasks]:
            process.end(running)
            process.sample(2)
    assert process.model.statistics()["late"].peak == pytest.approx(60 * MIB, rel=0.1)
    task = process.begin("late")
    process.sample(5)
    assert process.model.to_come >= 55 * MIB
    task.holds = 60.0
    process.sample(3)
    assert process.model.to_come < 30 * MIB


def test_one_slope_serves_sizes_never_seen(process: Process) -> None:
    """From bodies up to 1 MiB follows what one of 4 MiB needs."""
    for i in range(40):
        size = (0.05 + 0.95 * process.random.random()) * MIB
        task = process.begin("upload", 2.0 + 30.0 * size / MIB, size=size)
        process.begin("other", 25.0) if i % 2 else None
        process.sample(4)
        process.end(task)
        process.sample(2)
        while len(process.tasks) > 1:
            process.end(process.tasks[0])
            process.sample(2)
    assert process.model.statistics()["upload"].per_byte == pytest.approx(30.0, rel=0.1)
    assert 122.0 <= process.price("upload", 4.0 * MIB) <= 122.0 * 1.4
    assert process.price("upload", 0.1 * MIB) < 10.0
    # Without a size it reserves what covers nearly all.
    assert process.price("upload") > 25.0


def test_a_cost_that_rises_is_relearned_after_a_few_tasks(process: Process) -> None:
    """Fourfold from one task to the next: six tasks later the price covers it."""
    process.traffic({"a": 20.0, "b": 40.0}, 60)
    version = process.model.version
    process.traffic({"a": 80.0, "b": 40.0}, 20)
    assert process.price("a") > 80.0
    assert process.price("b") < 60.0
    assert process.model.version > version


def test_a_cost_that_falls_is_unlearned(process: Process) -> None:
    """A quarter from one task to the next: a hundred tasks later nothing is held back for what is no more."""
    process.traffic({"a": 80.0, "b": 40.0}, 60)
    process.traffic({"a": 20.0, "b": 40.0}, 260)
    assert process.price("a") < 30.0


def test_tasks_that_never_end_are_learned_while_they_run(process: Process) -> None:
    """Connections that stay open make their class cheaper with time, known in the end, and dearer when they grow."""
    guess = process.price("websocket")
    connections = [process.begin("websocket", 10.0) for _ in range(3)]
    process.sample(500)
    assert process.price("websocket") < guess / 2
    assert not process.model.find("websocket").is_known()
    process.sample(1200)
    assert process.model.find("websocket").is_known()
    assert 10.0 < process.price("websocket") < 40.0
    for connection in connections:
        connection.holds = 90.0
        process.sample(10)
    assert process.price("websocket") > 80.0


def test_tasks_that_have_shown_little_may_still_be_waiting(process: Process) -> None:
    """Thirty-six uploads trickled in, took nothing meanwhile, and were taken for small; then all allocated at once."""
    guess = process.price("upload")
    process.begin("upload", 0.5)
    process.sample(100)
    assert process.price("upload") == guess


def test_a_crowd_is_counted_and_not_followed(process: Process) -> None:
    """Hundreds at once are learned as a class, and what they hold is known."""
    process.traffic({"a": 2.0}, 10)
    crowd = [process.begin("a", 2.0) for _ in range(400)]
    process.sample(100)
    assert process.model.held / MIB == pytest.approx(800.0, rel=0.05)
    assert len(process.model._tracks) < 40
    for i, task in enumerate(crowd):
        process.end(task)
        process.sample(1 if i % 10 == 0 else 0)
    process.sample(3)
    for task in [*process.tasks]:
        process.end(task)
    process.sample(3)
    assert process.model.held == 0.0
    assert process.model.to_come == 0.0
    assert len(process.model._terms.terms) == 2


def test_a_crowd_of_an_unknown_class_teaches_it(process: Process) -> None:
    """Declared work can come in hundreds before anything is known of it."""
    for _ in range(200):
        process.begin("declared", 3.0, reserved=8 * MIB)
    process.sample(300)
    assert 3.0 < process.price("declared") < 6.0


def test_crowds_with_sizes_are_weighed_by_them(process: Process) -> None:
    """What a crowd holds follows from the sizes of its inputs."""
    for _ in range(30):
        size = process.random.uniform(0.1, 1.0) * MIB
        process.one("upload", 1.0 + 10.0 * size / MIB, size=size, samples=3)
    for _ in range(100):
        size = process.random.uniform(0.1, 1.0) * MIB
        process.begin("upload", 1.0 + 10.0 * size / MIB, size=size)
    process.sample(30)
    assert process.model.held / MIB == pytest.approx(sum(task.holds for task in process.tasks), rel=0.05)


def test_a_leak_is_the_base_s_and_no_task_s(process: Process) -> None:
    """While the process grows by 20 MiB a minute under load, the price stays."""
    process.traffic({"a": 40.0}, 20)
    for _ in range(60):
        process.traffic({"a": 40.0}, 5)
        process.base += 0.1
    assert process.model.base / MIB == pytest.approx(process.base, abs=4.0)
    assert process.price("a") < 55.0


def test_what_a_task_leaves_behind_becomes_the_base_s(process: Process) -> None:
    """A cache that is filled once and stays does not weigh on the class that filled it for long."""
    process.traffic({"a": 20.0}, 20, company=2)
    process.base += 60.0
    process.traffic({"a": 20.0}, 60, company=2)
    assert process.price("a") < 40.0
    for task in [*process.tasks]:
        process.end(task)
    process.sample(5)
    assert process.model.base / MIB == pytest.approx(process.base, abs=2.0)


def test_work_may_be_in_flight_at_the_first_sample() -> None:
    """A model that begins in the middle of the work learns all the same."""
    model = LearnedCostModel()
    model.sample(None, 0.0)
    assert model.samples == 0


def test_readings_that_are_none_change_nothing(process: Process) -> None:
    """Without a true figure tasks stay unseen, and are counted by their reservations."""
    process.begin("a", 30.0, reserved=50 * MIB)
    for live in (None, -1, 10**30):
        process.model.sample(live, process.now)
    assert process.model.to_come == 50 * MIB
    process.sample(3)
    assert process.model.held / MIB == pytest.approx(30.0, abs=2.0)


def test_tasks_that_failed_teach_nothing(process: Process) -> None:
    """A cancelled task gives its memory back, and no evidence."""
    task = process.begin("a", 30.0)
    process.sample(5)
    process.end(task, learn=False)
    process.sample(3)
    assert process.model.held == 0.0
    assert process.model.statistics()["a"].samples == 0
    assert not process.model.find("a").is_known()


def test_names_from_outside_do_not_fill_the_memory() -> None:
    """The class that was not asked for longest goes, unless tasks of it run."""
    model = LearnedCostModel(max_classes=10)

    class Running:
        admitted_at, reserved, size, is_open, stage, declared, guessed = 0.0, 1, 0.0, True, -1, False, False
        taken, measured, is_stepping = -1, -1, False

    running = Running()
    busy = model.find("busy")
    busy.enter(running)
    for i in range(1000):
        model.find(f"/{i}")
    assert len(model.statistics()) == 10
    assert model.find("busy") is busy


def one_in_ten(process: Process, *, measured: bool, small: float, large: float) -> None:
    """Run 420 tasks of which one in ten is large; all wait for 20 samples first and then take all at once."""
    rng = random.Random(7)  # noqa: S311 - reproducible
    running: list[tuple[Task, float, int]] = []
    begun = 0
    while begun < 420 or running:
        if begun < 420 and len(running) < 6 and rng.random() < 0.4:
            begun += 1
            peak = large if rng.random() < 0.1 else small * rng.uniform(0.9, 1.1)
            task = process.begin("x")
            if measured:
                task.taken = task.measured = 0
            running.append((task, peak, 0))
        process.sample()
        after = []
        for task, peak, age in running:
            if age == 20:
                task.holds = peak
                if measured:
                    task.taken = task.measured = int(peak * MIB)
            if age == 30:
                process.end(task)
            else:
                after.append((task, peak, age + 1))
        running = after


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize(("small", "large"), [(0.6, 40.0), (3.0, 120.0)])
def test_what_has_not_begun_may_become_large(process: Process, measured: bool, small: float, large: float) -> None:
    """Ten that hold nothing yet, as when a dependency hangs: all of what they have reserved is kept for them."""
    one_in_ten(process, measured=measured, small=small, large=large)
    tasks = [process.begin("x") for _ in range(10)]
    for task in tasks:
        if measured:
            task.taken = task.measured = 0
    for _ in range(8):
        process.sample()
    assert process.model.unneeded <= 0.05 * sum(task.reserved for task in tasks)


def test_what_turned_out_small_frees_what_it_has_reserved(process: Process) -> None:
    """Not so what was declared; and the end of a task takes its part away at once."""
    one_in_ten(process, measured=True, small=3.0, large=120.0)
    tasks = [process.begin("x") for _ in range(4)]
    for task in tasks:
        task.holds, task.taken, task.measured = 3.0, 3 * MIB, 3 * MIB
        task.declared = task is tasks[0]
    for _ in range(8):
        process.sample()
    reserved = tasks[1].reserved
    assert reserved > 100 * MIB
    assert 2.8 * reserved < process.model.unneeded < 3 * reserved
    process.end(tasks[1])
    assert 1.8 * reserved < process.model.unneeded < 2 * reserved
    for task in (tasks[0], tasks[2], tasks[3]):
        process.end(task)
    assert abs(process.model.unneeded) < 1


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_waiting_takes_is_no_tasks(process: Process, share: float) -> None:
    """Whether those that wait take all that they may, or none of it."""
    for _ in range(60):
        task = process.begin("x")
        process.waiting = 40.0
        process.waits = 40.0 * share
        for _ in range(3):
            process.sample()
        task.holds = 20.0
        for _ in range(3):
            process.sample()
        process.end(task)
        process.sample()
    assert 19.0 < process.price("x") < 26.0


def test_steps_are_believed_while_another_one_is_under_way(process: Process) -> None:
    """A busy loop is nearly always in the midst of one; what it has taken so far is nothing against the others."""
    for _ in range(8):
        process.one("a", 40.0)
    tasks = [process.begin("a") for _ in range(4)]
    for task in tasks:
        task.taken = task.measured = 0
    process.sample()
    for task, holds in zip(tasks, (10.0, 20.0, 30.0), strict=False):
        task.holds, task.taken, task.measured = holds, int(holds * MIB), int(holds * MIB)
    tasks[3].is_stepping, tasks[3].holds = True, 3.0
    process.sample(3)
    held = [process.model._tracks[task].term.value for task in tasks]
    assert held[:3] == pytest.approx([10.0, 20.0, 30.0])
    tasks[3].holds = 200.0
    process.sample()
    assert [process.model._tracks[task].measured for task in tasks[:3]] == pytest.approx([10.0, 20.0, 30.0])
