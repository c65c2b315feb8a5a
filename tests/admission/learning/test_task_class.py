"""What the request path asks: prices, whether another may start, and that it is cheap to come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.admission.learning.conftest import Process

MIB = 1024 * 1024


def test_nobody_knows_a_new_class(process: Process) -> None:
    """It reserves a quarter of what there is, and never less than 64 KiB."""
    new = process.model.find("new")
    assert not new.is_known()
    assert new.price(0.0, 400 * MIB) == 100 * MIB
    assert new.price(0.0, 0) == 64 * 1024
    assert process.model.statistics()["new"].cost is None
    assert process.model.statistics()["new"].coverage_alone is None


def test_an_unknown_class_has_little_company_but_never_waits_for_solitude(process: Process) -> None:
    """One may start, two more with each that has ended, one more for each second that some run."""
    new = process.model.find("new")
    assert new.may_start(process.now)
    first = process.begin("new", 5.0)
    assert not new.may_start(process.now)
    assert new.may_start(process.now + 1.0)
    assert not new.may_start(process.now - 10.0)
    process.begin("new", 5.0)
    process.end(first)
    assert new.may_start(process.now)
    process.begin("new", 5.0)
    process.begin("new", 5.0)
    assert not new.may_start(process.now)
    process.sample(100)
    assert new.may_start(process.now)


def test_a_known_class_may_always_start(process: Process) -> None:
    """Eight that ended are enough: two may be as small as the next is large."""
    for _ in range(8):
        process.one("a", 10.0)
    for _ in range(50):
        assert process.model.find("a").may_start(process.now)
        process.begin("a", 10.0)


def test_the_first_tasks_leave_a_margin_that_shrinks(process: Process) -> None:
    """Twice the first peak, half as much again once another was told apart well, and a little after twenty."""
    prices = []
    for _ in range(20):
        process.one("a", 100.0)
        prices.append(process.price("a") / 100.0)
    assert prices[0] == pytest.approx(2.0, abs=0.1)
    assert prices[2] == pytest.approx(1.5, abs=0.1)
    assert 1.0 < prices[-1] < 1.15


def test_tasks_too_short_to_be_seen_become_cheap(process: Process) -> None:
    """Dozens that no sample has met cost the least there is; without samples nothing is concluded."""
    for _ in range(100):
        process.end(process.begin("hello"))
    assert not process.model.find("hello").is_known()
    assert process.price("hello") > 100.0
    process.sample(2)
    process.end(process.begin("hello"))
    assert process.model.find("hello").is_known()
    assert process.model.find("hello").price(0.0, process.most) == 64 * 1024
    # One that is seen says more.
    process.one("hello", 12.0)
    assert process.price("hello") > 12.0


def test_a_class_of_which_few_are_ever_seen_is_known_by_those(process: Process) -> None:
    """It need not wait until eight have been: of a quick route that takes as long as its tasks take to meet samples."""
    process.one("quick", 2.0)
    known = process.model.find("quick")
    assert not known.steady_price
    process.sample(2)
    for _ in range(30):
        process.end(process.begin("quick"))
        process.sample()
    assert known.is_known()
    assert known.steady_price == known.price(0.0, process.most) > 2 * MIB


def test_fresh_tasks_count_whole_and_leave_no_trace(process: Process) -> None:
    """Until a sample has seen them their reservations are to come; after they left nothing is."""
    tasks = [process.begin("a", reserved=10 * MIB) for _ in range(5)]
    assert process.model.to_come == 50 * MIB
    assert process.model.find("a").in_flight == 5
    for task in tasks:
        process.end(task)
    assert process.model.to_come == 0.0
    assert process.model.find("a").in_flight == 0
    assert not process.model.fresh


def test_absurd_sizes_have_finite_prices(process: Process) -> None:
    """Whatever a client claims, the price is a number of bytes."""
    for i in range(20):
        process.one("upload", 1.0 + i, size=float(i * MIB + 1), samples=3)
    assert process.model.statistics()["upload"].per_byte > 0.0
    upload = process.model.find("upload")
    for size in (0.0, -5.0, 1e-300, 1e300, float("inf"), float("nan")):
        assert 64 * 1024 <= upload.price(size, process.most) <= 1 << 62


def test_the_margin_alone_keeps_no_task_out(process: Process) -> None:
    """What fits on average is never priced beyond what there is; what does not fit even so is."""
    process.one("huge", 850.0)
    huge = process.model.find("huge")
    assert huge.price(0.0, 4096 * MIB) > 1600 * MIB
    assert huge.price(0.0, 900 * MIB) == 900 * MIB
    assert huge.price(0.0, 700 * MIB) == pytest.approx(850 * MIB, rel=0.02)


def test_what_an_unfinished_task_has_held_says_nothing_of_what_is_to_come(process: Process) -> None:
    """It makes the next one dearer at once; but that it may grow as much again, nobody has seen."""
    task = process.begin("job", 500.0, reserved=100 * MIB)
    process.sample(2)
    assert process.price("job") > 500.0
    task.holds = 100.0
    process.sample(2)
    assert process.model.to_come == 0.0
