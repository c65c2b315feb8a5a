"""Finished runs, one JSON line each, so that a matrix of hours can be stopped and taken up again.

A line counts only for the shape that its workload has now: after a change of a shape its runs are made anew. Lines of
another version of `Result` do not count either; they are left where they are.

``recorded.jsonl`` beside this module has the runs that the README's table was made from, without their curves and
statistics: what takes hours can so be made in several sittings. It counts only where it is asked for, for it is of
another machine than yours.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from tests.benchmarks._survival.figures import shape
from tests.benchmarks._survival.policies import POLICIES
from tests.benchmarks._survival.values import RESULTS, Result
from tests.benchmarks._survival.workloads import SHAPES, make

LINES: Final = RESULTS / "survival.jsonl"
RECORDED: Final = Path(__file__).with_name("recorded.jsonl")


class Cell(NamedTuple):
    """One run of the matrix."""

    workload: str
    policy: str
    seed: int


class Store:
    """The finished runs of a file.

    Args:
        path: The file.
        recorded: Another file whose runs count where this one has none; it is written by `record` alone.
    """

    def __init__(self, path: Path = LINES, *, recorded: Path | None = None) -> None:
        self._path = path
        self._recorded = recorded
        self._path.parent.mkdir(exist_ok=True)
        self._shapes: dict[tuple[str, int], str] = {}

    def add(self, result: Result) -> None:
        """Write one run down, at once."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(result) + b"\n")

    def read(self) -> dict[Cell, Result]:
        """The latest run of each cell whose workload still has the shape that it had then."""
        found: dict[Cell, Result] = {}
        for result in [*_results(self._recorded), *_results(self._path)]:
            if result.workload in SHAPES and result.policy in POLICIES and result.shape == self._shape(result):
                found[Cell(result.workload, result.policy, result.seed)] = result
        return found

    def record(self, path: Path) -> None:
        """Write the latest runs down for good, without what is large."""
        kept = [msgspec.structs.replace(result, statistics={}, curve=[]) for result in self.read().values()]
        kept.sort(key=lambda result: (result.policy, result.workload, result.seed))
        path.write_bytes(b"".join(msgspec.json.encode(result) + b"\n" for result in kept))

    def forget(self, cells: Collection[Cell]) -> None:
        """Drop the runs of some cells."""
        if not self._path.exists():
            return
        kept = []
        for line in self._path.read_bytes().splitlines():
            result = _decoded(line)
            if result is None or Cell(result.workload, result.policy, result.seed) not in cells:
                kept.append(line + b"\n")
        self._path.write_bytes(b"".join(kept))

    def _shape(self, result: Result) -> str:
        key = (result.workload, result.seed)
        if key not in self._shapes:
            self._shapes[key] = shape(make(*key))
        return self._shapes[key]


def _results(path: Path | None) -> list[Result]:
    if path is None or not path.exists():
        return []
    return [result for line in path.read_bytes().splitlines() if (result := _decoded(line)) is not None]


def _decoded(line: bytes) -> Result | None:
    """A line as a result; None if another version of this benchmark wrote it."""
    try:
        return msgspec.json.decode(line, type=Result)
    except msgspec.ValidationError:
        return None
