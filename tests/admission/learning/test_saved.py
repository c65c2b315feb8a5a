"""What was learned survives a restart, and nothing else is mistaken for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pytest

if TYPE_CHECKING:
    from tests.admission.learning.conftest import Process

MIB = 1024 * 1024


def _file(*, peaks: list[list[float]], growth: list[list[float]]) -> bytes:
    """A file of the right shape."""
    entry = {"peaks": peaks, "growth": growth, "begin": [0, 0], "fall": 0}
    return msgspec.json.encode({"format": "asyncmem costs", "version": 1, "classes": {"a": entry}})


def test_a_restart_does_not_begin_blind(process: Process, new_process: Callable[[], Process]) -> None:
    """Prices, slopes and the way that memory comes are there at once."""
    process.traffic({"a": 40.0, "b": 150.0}, 80)
    for i in range(30):
        size = (0.1 + i / 10) * MIB
        process.one("upload", 2.0 + 30.0 * size / MIB, size=size, samples=3)
    process.model.find("never ran")
    again = new_process()
    again.model.load(process.model.dump()())
    assert again.model.version > 0
    assert "never ran" not in again.model.statistics()
    for name in ("a", "b"):
        assert again.model.find(name).is_known()
        assert again.price(name) == pytest.approx(process.price(name), rel=0.15)
    assert again.price("upload", 2.0 * MIB) == pytest.approx(62.0 * 1.1, rel=0.2)


def test_what_was_saved_is_soon_overruled(process: Process, new_process: Callable[[], Process]) -> None:
    """A new version of the application that needs three times as much is known after a few tasks."""
    process.traffic({"a": 40.0}, 80)
    again = new_process()
    again.model.load(process.model.dump()())
    again.traffic({"a": 120.0}, 12)
    assert again.price("a") > 120.0
    lighter = new_process()
    lighter.model.load(process.model.dump()())
    lighter.traffic({"a": 10.0}, 110)
    assert lighter.price("a") < 20.0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"format": "other", "version": 1, "classes": {}}',
        b'{"format": "asyncmem costs", "version": 99, "classes": {}}',
        b'{"format": "asyncmem costs", "version": 1, "classes": {"a": {"peaks": []}}}',
        _file(peaks=[], growth=[]),
        _file(peaks=[[0, -1, 0]], growth=[]),
        _file(peaks=[[0, 1, 0]], growth=[[1, 1e99, 0]]),
    ],
)
def test_alien_data_is_refused_with_a_reason(process: Process, data: bytes) -> None:
    """Nothing is taken over from what this library has not written."""
    with pytest.raises(ValueError, match="saved costs"):
        process.model.load(data)
    assert not process.model.statistics()


def test_no_more_classes_are_loaded_than_are_kept(process: Process, new_process: Callable[[], Process]) -> None:
    """A file of many classes fills the model to its bound, with those that were used last."""
    for i in range(30):
        process.one(f"/{i}", 5.0, samples=2)
    again = new_process()
    again.model._max_classes = 10
    again.model.load(process.model.dump()())
    assert sorted(again.model.statistics()) == sorted(f"/{i}" for i in range(20, 30))


def test_the_file_is_small(process: Process) -> None:
    """A class takes a kilobyte or two, however many tasks it has seen."""
    process.traffic({"a": 40.0}, 150)
    data = process.model.dump()()
    assert len(data) < 2500
    assert msgspec.json.decode(data)["version"] == 1
