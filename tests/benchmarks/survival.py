"""Who survives: real servers under a real memory limit, with asyncmem and with what else could protect them.

Each run starts a server inside a memory cgroup (version 1, needs root), sends it a schedule from another process and
lets the kernel kill it where its policy fails. Finished runs are kept in ``.bench/survival.jsonl``, and a run that is
there is not repeated: the whole takes hours and may be stopped at any time.

::

    python -m tests.benchmarks.survival --workloads steady,burst --policies asyncmem,static-4 --seeds 0-4
    python -m tests.benchmarks.survival --report --picture burst

``make bench ONLY=survival`` runs the default matrix: asyncmem with 20 seeds, the others with 3. Traffic shapes are in
`_survival.workloads` and `_survival.hostile`, policies in `_survival.policies`, one run in `_survival.runner`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from tests.benchmarks._survival import cgroups, report
from tests.benchmarks._survival.policies import POLICIES
from tests.benchmarks._survival.runner import run
from tests.benchmarks._survival.store import RECORDED, Cell, Store
from tests.benchmarks._survival.values import RESULTS, Result
from tests.benchmarks._survival.workloads import SHAPES, make

SEEDS: Final = range(20)
PEER_SEEDS: Final = range(3)
RUN_SECONDS: Final = 14.0
"""What a run takes about, until one has been seen."""
VOID: Final = "void"
"""In the notes of a run that must not count: the code changed while it ran."""
TABLE: Final = RESULTS / "survival.md"


def default_policies() -> tuple[str, ...]:
    """All policies; saved costs only where this asyncmem knows of them."""
    from asyncmem.config import MemoryConfig  # noqa: PLC0415 - the peers run where asyncmem cannot be imported

    known = {field.name for field in msgspec.structs.fields(MemoryConfig)}
    return tuple(policy for policy in POLICIES if policy != "asyncmem-warm" or "costs_path" in known)


def matrix(workloads: Sequence[str], policies: Sequence[str], seeds: Sequence[int] | None) -> list[Cell]:
    """The runs to make, the first seed of all before the second of any; without seeds each policy has its own."""
    cells = [
        Cell(workload, policy, seed)
        for workload in workloads
        for policy in policies
        for seed in ((SEEDS if policy.startswith("asyncmem") else PEER_SEEDS) if seeds is None else seeds)
    ]
    return sorted(cells, key=lambda cell: cell.seed)


def fill(store: Store, cells: Sequence[Cell]) -> None:
    """Make the runs that are not there yet, and say how far it is."""
    there = store.read()
    missing = [cell for cell in cells if cell not in there]
    print(f"{len(cells) - len(missing)} runs are there, {len(missing)} to go", flush=True)
    begin = time.monotonic()
    for done, cell in enumerate(missing):
        each = (time.monotonic() - begin) / done if done else RUN_SECONDS
        result = run(make(cell.workload, cell.seed), cell.policy)
        if VOID not in " ".join(result.notes):
            store.add(result)
        print(f"[{done + 1}/{len(missing)}, {each * (len(missing) - done) / 60:.0f} min] {line(result)}", flush=True)


def line(result: Result) -> str:
    """One run in one line."""
    end = f"KILLED at {result.killed_at:.1f} s" if result.killed_at is not None else "survived"
    refused, errors = sum(result.refused.values()), sum(result.errors.values())
    return (
        f"{result.workload:18} {result.policy:13} seed {result.seed:2}  {end:16} {result.in_time}/{result.requests} in "
        f"time, {result.late} late, {refused} refused, {errors} errors, {result.lost} lost, idle sheds "
        f"{result.idle_sheds}, peak W/L {result.peak_working_set:.2f}, cpu {result.server_cpu:.1f} s, "
        f"{result.wall:.0f} s {' '.join(result.notes)}"
    )


def write_report(store: Store, pictures: Sequence[str]) -> dict[str, object]:
    """Print the table, write it and the pictures; returns the figures."""
    results = store.read()
    summaries = report.summarise(results.values())
    text = report.markdown(summaries)
    TABLE.write_text(text)
    print(text)
    print(report.overview(summaries))
    for workload in pictures:
        path = RESULTS / f"survival-{workload}.svg"
        path.write_text(report.picture(workload, results))
        print(f"picture: {path}")
    return {"run": True, "summaries": [msgspec.to_builtins(summary) for summary in summaries.values()]}


def main(arguments: Sequence[str] = ()) -> dict[str, object]:
    """Make the runs that are missing, then report; without arguments the default matrix."""
    parser = argparse.ArgumentParser(prog="survival", description="who survives under a real memory limit")
    parser.add_argument("--workloads", type=_names(tuple(SHAPES)), default=list(SHAPES), help="names, by commas")
    parser.add_argument("--policies", type=_names(POLICIES), default=None, help="names, by commas")
    parser.add_argument("--seeds", type=_seeds, default=None, help="for example 0-19 or 0,3,5")
    parser.add_argument("--fresh", action="store_true", help="repeat what is there")
    parser.add_argument("--report", action="store_true", help="report what is there, run nothing")
    parser.add_argument("--picture", type=_names(tuple(SHAPES)), default=["burst"], help="workloads to draw")
    parser.add_argument("--recorded", action="store_true", help="count the runs in _survival/recorded.jsonl as well")
    parser.add_argument("--record", action="store_true", help="write all runs there when done")
    options = parser.parse_args(arguments)
    store = Store(recorded=RECORDED if options.recorded else None)
    if options.report:
        if options.record:
            store.record(RECORDED)
        return write_report(store, options.picture)
    if not cgroups.available():
        print("survival: needs root and the memory controller of cgroup version 1; not run")
        return {"run": False}
    policies = default_policies() if options.policies is None else options.policies
    cells = matrix(options.workloads, policies, options.seeds)
    if options.fresh:
        store.forget(set(cells))
    try:
        fill(store, cells)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept")
    if options.record:
        store.record(RECORDED)
    return write_report(store, options.picture)


def _names(known: Sequence[str]) -> _Parse:
    return _Parse(known)


class _Parse:
    """Reads a list of known names."""

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known

    def __call__(self, text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in self._known:
                raise argparse.ArgumentTypeError(f"no {name!r}; there are: {', '.join(self._known)}")
        return names


def _seeds(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
