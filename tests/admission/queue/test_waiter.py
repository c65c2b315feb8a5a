"""What a waiter says of itself, and that callables of users that fail do not stop the queue."""

from __future__ import annotations

import pytest

from asyncmem.admission.waiter import Priority, Waiter, checked_priority
from asyncmem.errors import ConfigError


class Price:
    """A price that counts how often it was asked for, and can fail."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False

    def __call__(self) -> int:
        """The next price."""
        self.asked += 1
        if self.fails:
            raise RuntimeError("a model of the user's")
        return 10 * self.asked


def fail() -> bool:
    """What may go wrong."""
    raise RuntimeError("of the user's")


def test_priced_when_the_version_is_another() -> None:
    """And always where no version is given."""
    waiter = Waiter(5, price=Price())
    assert [waiter.size(version) for version in (1, 1, 2, 2, 1)] == [10, 10, 20, 20, 30]
    assert [waiter.size(), waiter.size(-1), waiter.nbytes] == [40, 50, 50]


def test_a_price_that_fails_stays_what_it_was() -> None:
    """For good; it is not asked again."""
    price = Price()
    waiter = Waiter(5, price=price)
    assert waiter.size(1) == 10
    price.fails = True
    assert [waiter.size(2), waiter.size(3), waiter.size()] == [10, 10, 10]
    assert price.asked == 2


def test_without_a_price_it_is_what_was_asked_for() -> None:
    """Whatever the version."""
    assert [Waiter(5).size(), Waiter(5).size(3)] == [5, 5]


def test_it_may_start_unless_somebody_says_no() -> None:
    """One who cannot say does not keep it out for ever."""
    assert Waiter(1).may_start()
    assert not Waiter(1, may_start=lambda: False).may_start()
    waiter = Waiter(1, may_start=fail)
    assert waiter.may_start()
    assert waiter.may_start()


def test_it_is_abandoned_if_somebody_says_so() -> None:
    """One who cannot say counts as there."""
    assert not Waiter(1).is_abandoned()
    assert Waiter(1, abandoned=lambda: True).is_abandoned()
    assert not Waiter(1, abandoned=fail).is_abandoned()


def test_priorities_by_number() -> None:
    """And nothing else."""
    assert checked_priority(2) is Priority.HIGH
    with pytest.raises(ConfigError, match=r"Priority\.LOW"):
        checked_priority(3)
