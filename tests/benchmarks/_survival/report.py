"""The table and the picture of what the store holds; runs nothing.

Goodput is the share of requests answered within their deadline, as a mean over seeds. It is given as a share of the
clairvoyant's and of the oracle's, which is the best static semaphore of that workload (one that was killed counts with
what it had answered by then). Losses are printed like wins.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Final

import msgspec

from tests.benchmarks._survival.figures import library
from tests.benchmarks._survival.policies import POLICIES
from tests.benchmarks._survival.values import MIB, Result
from tests.benchmarks._survival.workloads import SHAPES, make

if TYPE_CHECKING:
    from tests.benchmarks._survival.store import Cell

OVERVIEW: Final = {
    "none": "nothing",
    "rss-0.8": "503 above 80 % RSS",
    "pause-0.8": "pause above 80 %",
    "bytes-fixed": "one cost for all",
    "vegas": "Vegas limit",
    "static": "best semaphore",
    "clairvoyant": "knows every true cost",
    "asyncmem": "asyncmem",
}
"""Policies of the table in the README, and how they are called there."""
COLOURS: Final = ("#1565c0", "#2e7d32", "#8d6e63", "#ef6c00", "#6a1b9a", "#00838f", "#ad1457", "#9e9d24", "#546e7a")
WIDTH: Final = 840
HEIGHT: Final = 320
LEFT: Final = 56
TOP: Final = 28
LEGEND: Final = 18
CURVES_PER_SECOND: Final = 20


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy came to under one workload, over its seeds; shares between 0 and 1, seconds."""

    workload: str
    policy: str
    runs: int
    kills: int
    goodput: float
    worst: float
    refused: float
    errors: float
    late: float
    lost: float
    idle_sheds: int
    peak_working_set: float
    peak_usage: float
    p50: float | None
    p99: float | None
    recovery: float | None
    server_cpu: float
    libraries: int


def summarise(results: Iterable[Result]) -> dict[tuple[str, str], Summary]:
    """One summary per workload and policy, in the order of both."""
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.workload, result.policy].append(result)
    order = [(workload, policy) for workload in SHAPES for policy in POLICIES]
    return {key: _summary(*key, groups[key]) for key in order if key in groups}


def _summary(workload: str, policy: str, runs: Sequence[Result]) -> Summary:
    def mean(values: Iterable[float]) -> float:
        return statistics.fmean(values)

    latencies = [latency for run in runs for latency in run.latency.values()]
    recoveries = [run.recovery for run in runs if run.recovery is not None]
    return Summary(
        workload=workload,
        policy=policy,
        runs=len(runs),
        kills=sum(run.killed for run in runs),
        goodput=mean(run.in_time / run.requests for run in runs),
        worst=min(run.in_time / run.requests for run in runs),
        refused=mean(sum(run.refused.values()) / run.requests for run in runs),
        errors=mean(sum(run.errors.values()) / run.requests for run in runs),
        late=mean(run.late / run.requests for run in runs),
        lost=mean(run.lost / run.requests for run in runs),
        idle_sheds=sum(run.idle_sheds or 0 for run in runs),
        peak_working_set=max(run.peak_working_set for run in runs),
        peak_usage=max(run.peak_usage for run in runs),
        p50=statistics.median(latency.p50 for latency in latencies) if latencies else None,
        p99=max((latency.p99 for latency in latencies), default=None),
        recovery=statistics.median(recoveries) if recoveries else None,
        server_cpu=mean(run.server_cpu for run in runs),
        libraries=len({run.library for run in runs}),
    )


def oracles(summaries: Mapping[tuple[str, str], Summary]) -> dict[str, Summary]:
    """The best static semaphore of each workload: no kill goes before goodput."""
    best: dict[str, Summary] = {}
    for (workload, policy), summary in summaries.items():
        if policy.startswith("static-"):
            other = best.get(workload)
            if other is None or (-summary.kills, summary.goodput) > (-other.kills, other.goodput):
                best[workload] = summary
    return best


def markdown(summaries: Mapping[tuple[str, str], Summary]) -> str:
    """A table for each workload, and one of all with what counts most."""
    best = oracles(summaries)
    lines = [
        (
            "| workload | policy | kills | goodput | of clairvoyant | of oracle | refused | errors | late | lost "
            "| idle sheds | peak W/L | p50 s | p99 s | recovery s | cpu s |"
        ),
        "| --- | --- | ---: |" + " ---: |" * 13,
    ]
    for (workload, policy), found in summaries.items():
        clairvoyant = summaries.get((workload, "clairvoyant"))
        oracle = best.get(workload)
        name = f"{policy} (oracle)" if oracle is found else policy
        cells = (
            workload,
            name,
            f"{found.kills}/{found.runs}",
            f"{found.goodput:.1%}",
            _share(found, clairvoyant),
            _share(found, oracle),
            f"{found.refused:.1%}",
            f"{found.errors:.1%}",
            f"{found.late:.1%}",
            f"{found.lost:.1%}",
            str(found.idle_sheds),
            f"{found.peak_working_set:.2f}",
            _seconds(found.p50),
            _seconds(found.p99),
            _seconds(found.recovery),
            f"{found.server_cpu:.1f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    now = library()
    stale = sorted({workload for (workload, policy), found in summaries.items() if found.libraries > 1})
    lines += ["", f"asyncmem as of {now}." + (f" Runs of several versions in: {', '.join(stale)}." if stale else "")]
    return "\n".join(lines) + "\n"


def overview(summaries: Mapping[tuple[str, str], Summary]) -> str:
    """One line for each workload, as in the README: the share in time, and who was killed."""
    best = oracles(summaries)
    lines = ["| workload | " + " | ".join(OVERVIEW.values()) + " |", "| --- |" + " ---: |" * len(OVERVIEW)]
    for workload in SHAPES:
        cells = []
        for policy in OVERVIEW:
            found = best.get(workload) if policy == "static" else summaries.get((workload, policy))
            slots = f" ({found.policy.removeprefix('static-')})" if found is not None and policy == "static" else ""
            cells.append("–" if found is None else _fate(found) + slots)
        lines.append(f"| {workload} | " + " | ".join(cells) + " |")
    for policy, name in OVERVIEW.items():
        runs = sum(found.runs for (_, other), found in summaries.items() if other == policy)
        lines += [f"\n{runs} runs of {name}."] if runs else []
    return "\n".join(lines) + "\n"


def _fate(found: Summary) -> str:
    if not found.kills:
        return f"{100 * found.goodput:.0f} %"
    how_often = "" if found.kills == found.runs else f" {found.kills} of {found.runs}"
    return f"**killed**{how_often}, {100 * found.goodput:.0f} %"


def _share(found: Summary, other: Summary | None) -> str:
    return "–" if other is None or not other.goodput else f"{found.goodput / other.goodput:.0%}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def picture(workload: str, results: Mapping[Cell, Result]) -> str:
    """Memory over time against the limit: the curve of each policy's first seed, as SVG."""
    first: dict[str, Result] = {}
    for cell, result in sorted(results.items()):
        if cell.workload == workload:
            first.setdefault(cell.policy, result)
    shown = {policy: first[policy] for policy in POLICIES if policy in first}
    limit = make(workload, 0).limit / MIB
    seconds = max((len(result.curve) for result in shown.values()), default=1) / CURVES_PER_SECOND
    highest = limit * 1.1

    def x(second: float) -> float:
        return LEFT + second / seconds * WIDTH

    def y(mib: float) -> float:
        return TOP + HEIGHT - mib / highest * HEIGHT

    bottom = TOP + HEIGHT
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} '
            f'{bottom + 40 + LEGEND * (len(shown) + 1)}" font-family="sans-serif" font-size="13">'
        ),
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT}" y="18">{escape(workload)}: working set in MiB over seconds</text>',
    ]
    parts += [
        f'<text x="{LEFT - 8}" y="{y(mib) + 4:.1f}" text-anchor="end" fill="#555">{mib}</text>'
        f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(mib):.1f}" y2="{y(mib):.1f}" stroke="#eee"/>'
        for mib in range(0, int(limit), 100)
    ]
    parts += [
        f'<text x="{x(second):.1f}" y="{bottom + 18}" text-anchor="middle" fill="#555">{second}</text>'
        for second in range(int(seconds) + 1)
    ]
    parts.append(
        f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(limit):.1f}" y2="{y(limit):.1f}" stroke="#c62828" '
        f'stroke-dasharray="6 4"/><text x="{LEFT + 6}" y="{y(limit) - 5:.1f}" fill="#c62828">limit {limit:.0f}</text>'
    )
    for row, (policy, result) in enumerate(shown.items()):
        colour = COLOURS[row % len(COLOURS)]
        line = " ".join(f"{x(at / CURVES_PER_SECOND):.1f},{y(mib):.1f}" for at, mib in enumerate(result.curve))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
        if result.killed and result.curve:
            end = (len(result.curve) - 1) / CURVES_PER_SECOND
            parts.append(f'<text x="{x(end):.1f}" y="{y(result.curve[-1]):.1f}" fill="{colour}">✕</text>')
        parts.append(
            f'<text x="{LEFT}" y="{bottom + 40 + LEGEND * row}" fill="{colour}">{escape(policy)}: '
            f"{'killed, ' if result.killed else ''}{result.in_time} of {result.requests} in time</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
