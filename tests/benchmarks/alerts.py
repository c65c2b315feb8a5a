"""How soon a handler hears that memory has crossed its line, and what a flood of alerts costs everybody else.

Crossings happen in a real cgroup of 256 MiB: memory grows past the begin of the guard band, where a threshold is set as
well, and the first critical alert counts, whatever raised it. The time is from before the write that took the usage
past the line to the call of a handler: an immediate one (on the watcher's thread) and an async one (on the loop). With
kernel events (pushed) and without (polled), while the process does nothing and while it is busy; see
`_alerts.crossing` for who grows and what busy means. To reach: p99 at most 10 ms pushed, at most one period polled:
`interval` while nothing is in flight, 10 ms while something is.

Flood: 100 000 alerts at full speed to a sync and an async handler that take a millisecond each, and to a stream that
nobody reads. To reach: constant memory, every alert accounted for. And the throughput of a guarded hello-world with
such handlers and alerts beside it, alternating with none. To reach: 0.98 of it.

Crossings need root and the memory controller of cgroup version 1. The whole takes under two minutes.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from tests.benchmarks._alerts import hello
from tests.benchmarks._alerts.crossing import Case, Crossing
from tests.benchmarks._alerts.flood import Flooded
from tests.benchmarks._alerts.group import ROOT, available, guarded_cgroup, python
from tests.benchmarks._alerts.growth import MIB

LIMIT: Final = 256 * MIB
IDLE_INTERVAL: Final = 0.1
"""Seconds of `interval` where an idle process is polled: a tenth of the default, so that a hundred crossings end."""
PUSHED_MS: Final = 10.0
BUSY_PERIOD_MS: Final = 10.0
THROUGHPUT: Final = 0.98
GENTLE: Final = ("100/s", "1000/s")
"""Floods that requests are not to feel. Of a thread that never pauses they feel the thread."""
WAY: Final = {
    "grown": "growth over",
    "heard": "kernel heard",
    "looked": "look begun",
    "immediate": "handler",
    "awaited": "async handler",
}
FEW: Final = 5
"""The case that is known to be lost is measured on one in so many crossings: each can take a second."""


CASES: Final = (
    Case(pushed=True, grows="neighbour", load="idle"),
    Case(pushed=True, grows="itself", load="idle"),
    Case(pushed=True, grows="itself", load="serving"),
    Case(pushed=True, grows="itself", load="computing"),
    Case(pushed=True, grows="itself", load="spinning"),
    Case(pushed=False, grows="neighbour", load="idle", interval=IDLE_INTERVAL),
    Case(pushed=False, grows="itself", load="serving"),
)


class Spread(msgspec.Struct, frozen=True):
    """Milliseconds of many crossings."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Of one at least. The centiles are readings that were made: p99 of a hundred is the second from above."""
        found = sorted(1000 * each for each in seconds)
        p50, p99 = (found[math.ceil(share * len(found)) - 1] for share in (0.5, 0.99))
        return cls(p50, p99, found[-1])

    def __str__(self) -> str:
        return f"{self.p50:7.2f} {self.p99:8.2f} {self.max:8.2f}"


def cross(case: Case, crossings: int) -> list[Crossing]:
    """Run a case in a cgroup of its own."""
    with guarded_cgroup("asyncmem-bench-alerts", LIMIT) as path:
        command = python("crossing", msgspec.json.encode(case).decode(), str(path), str(crossings), inside=path)
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
        return msgspec.json.decode(done.stdout, type=list[Crossing])


def reach(case: Case) -> float:
    """Milliseconds within which a handler is to be called, at the 99th centile."""
    if case.pushed:
        return PUSHED_MS
    return 1000 * case.interval if case.load == "idle" else BUSY_PERIOD_MS


def crossings(cases: Sequence[Case], count: int) -> dict[str, object]:
    """Measure the cases and print a row of each."""
    print(f"{'':36}    n  missed  pushed   immediate p50      p99      max    async p50      p99      max   to reach")
    figures: dict[str, object] = {}
    for case in cases:
        found = cross(case, max(1, count // FEW) if case.load == "spinning" else count)
        told = [each for each in found if each.immediate is not None and each.awaited is not None]
        stations = {
            name: Spread.of(seen)
            for name in WAY
            if (seen := [at for each in told if (at := getattr(each, name)) is not None])
        }
        pushed = sum(each.heard is not None for each in told)
        missed = len(found) - len(told)
        figures[case.name] = {
            "crossings": len(found),
            "missed": missed,
            "kernel_came_first": pushed,
            "kinds": dict(Counter(each.kind for each in told)),
            "milliseconds": {name: msgspec.to_builtins(spread) for name, spread in stations.items()},
            "to_reach_p99": reach(case),
        }
        later = math.inf if missed else max(stations[name].p99 for name in ("immediate", "awaited"))
        print(
            f"{case.name:>36} {len(found):4} {missed:7} {pushed:7}   {stations.get('immediate', '-')!s:>24}      "
            f"{stations.get('awaited', '-')!s:>24}   {_judged(later, reach(case))}\n{'':36} on the way, median: "
            + ", ".join(f"{text} {stations[name].p50:.2f} ms" for name, text in WAY.items() if name in stations),
            flush=True,
        )
    return figures


def flood(count: int) -> dict[str, object]:
    """Measure the flood and print what became of it."""
    done = subprocess.run(python("flood", str(count)), cwd=ROOT, check=True, stdout=subprocess.PIPE)
    found = msgspec.json.decode(done.stdout, type=Flooded)
    print(
        f"{found.alerts} alerts to {found.receivers} receivers: {found.delivered} delivered, {found.dropped} dropped, "
        f"{found.other} failed, {found.waiting} wait, {found.unaccounted} unaccounted for\n"
        f"resident: {found.rss_before / MIB:.1f} MiB before, {found.rss_peak / MIB:.1f} at most, "
        f"{found.rss_after / MIB:.1f} after\n"
        f"one alert: {found.emit_us:.1f} µs beside its handlers ({found.emit_worst_us:.1f} in the slowest thousand), "
        f"{found.emit_alone_us:.1f} alone",
        flush=True,
    )
    return {**msgspec.to_builtins(found), "unaccounted": found.unaccounted}


def throughput(rounds: int, seconds: float) -> dict[str, object]:
    """Measure a hello-world beside floods and print what is left of it."""
    base, shares = hello.measure(rounds, seconds)
    print(f"hello-world, guarded, no alerts: {base:.0f} requests/s; of that, beside a flood:")
    figures: dict[str, object] = {"requests_per_second": base}
    for name in hello.FLOODS:
        if name not in shares:
            continue
        found = {
            what: _quartiles([getattr(each, what) for each in shares[name]])
            for what in ("throughput", "cpu", "emitted")
        }
        figures[name] = found
        low, middle, high = found["throughput"]
        verdict = _judged(-middle, -THROUGHPUT) if name in GENTLE else ""
        print(
            f"{name:>36}  {middle:.3f} ({low:.3f} to {high:.3f})   CPU per request {found['cpu'][1]:.3f}   "
            f"{found['emitted'][1]:.0f} alerts/s   {verdict}",
            flush=True,
        )
    return figures


def _quartiles(values: list[float]) -> list[float]:
    return statistics.quantiles(values if len(values) > 1 else values * 2, n=4, method="inclusive")


def _judged(value: float, bound: float) -> str:
    return f"{abs(bound):g} {'reached' if value <= bound else 'NOT REACHED'}"


def main(arguments: Sequence[str] = ()) -> dict[str, object]:
    """Measure, print tables, return the figures."""
    parser = argparse.ArgumentParser(prog="alerts", description="how soon alerts come, and what a flood of them costs")
    parser.add_argument("--crossings", type=int, default=100, help="of each case")
    parser.add_argument("--case", default="", help="only cases with this in their name")
    parser.add_argument("--alerts", type=int, default=100_000, help="in the flood")
    parser.add_argument("--rounds", type=int, default=12, help="of the hello-world")
    parser.add_argument("--seconds", type=float, default=0.25, help="of each measurement of the hello-world")
    options = parser.parse_args(arguments)
    figures: dict[str, object] = {"run_crossings": available()}
    if available():
        figures["crossings"] = crossings([case for case in CASES if options.case in case.name], options.crossings)
    else:
        print("alerts: crossings need root and the memory controller of cgroup version 1; not run")
    figures["flood"] = flood(options.alerts)
    figures["throughput"] = throughput(options.rounds, options.seconds)
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
