"""From what was seen of a run to its `Result`: outcomes, latencies, recovery."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from tests.benchmarks._survival.values import ROOT, Latency, Outcome, Result, Workload

if TYPE_CHECKING:
    from tests.benchmarks._survival.watch import Watch

ANSWERED: Final = "200"
REFUSALS: Final = ("413", "429", "503")
CALM_SECONDS: Final = 1.0
"""Recovered is who serves all that comes within one second…"""
CALM_LATENCY: Final = 1.0
"""…in at most one second each."""
STEP: Final = 0.1


def figures(
    workload: Workload,
    policy: str,
    watch: Watch,
    outcomes: Sequence[Outcome],
    *,
    found: dict[str, object],
    code: str,
    wall: float,
) -> Result:
    """Count what became of the requests."""
    answered = [outcome for outcome in outcomes if outcome.result == ANSWERED]
    in_time = sum(outcome.seconds <= workload.deadline for outcome in answered)
    gave_up = sum(outcome.result == "gave up" for outcome in outcomes)
    statuses = Counter(outcome.result for outcome in outcomes if outcome.result.isdigit())
    refused = {status: count for status, count in statuses.items() if status in REFUSALS}
    errors = {status: count for status, count in statuses.items() if status not in {*REFUSALS, ANSWERED}}
    late = len(answered) - in_time + gave_up
    idle_sheds, runtime = found.get("idle_sheds"), found.get("runtime")
    return Result(
        workload=workload.name,
        policy=policy,
        seed=workload.seed,
        shape=shape(workload),
        library=code if policy.startswith("asyncmem") else "",
        requests=len(workload.requests),
        killed=watch.killed_at is not None,
        killed_at=watch.killed_at,
        in_time=in_time,
        late=late,
        refused=refused,
        errors=errors,
        lost=len(workload.requests) - in_time - late - sum(refused.values()) - sum(errors.values()),
        attempts=sum(outcome.attempts for outcome in outcomes),
        idle_sheds=idle_sheds if isinstance(idle_sheds, int) else None,
        peak_usage=watch.peak_usage,
        peak_working_set=watch.peak_working_set,
        latency=_latency(workload, answered),
        recovery=None if watch.killed_at is not None else _recovery(workload, outcomes),
        server_cpu=watch.server_cpu,
        wall=wall,
        notes=watch.notes,
        statistics=runtime if isinstance(runtime, dict) else {},
        curve=[round(watch.curve.get(at, 0.0)) for at in range(max(watch.curve, default=-1) + 1)],
    )


def shape(workload: Workload) -> str:
    """A short name of all that a workload is, so that results of another version of it are told apart."""
    return hashlib.sha256(msgspec.json.encode(workload)).hexdigest()[:12]


def library() -> str:
    """A short name of the code of asyncmem as it is at this moment."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "asyncmem").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _latency(workload: Workload, answered: Sequence[Outcome]) -> dict[str, Latency]:
    seconds: dict[str, list[float]] = defaultdict(list)
    for outcome in answered:
        seconds[workload.requests[outcome.index].route].append(outcome.seconds)
    return {
        route: Latency(count=len(found), p50=_quantile(found, 0.5), p99=_quantile(found, 0.99))
        for route, found in sorted(seconds.items())
    }


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _recovery(workload: Workload, outcomes: Sequence[Outcome]) -> float | None:
    """Seconds from the end of the overload until all that arrives within a second is served quickly; None: never."""
    if workload.calm is None:
        return None
    arrivals = sorted(
        (workload.requests[outcome.index].at, outcome.result == ANSWERED and outcome.seconds <= CALM_LATENCY)
        for outcome in outcomes
    )
    moment = workload.calm
    while moment + CALM_SECONDS <= workload.requests[-1].at:
        found = [served for at, served in arrivals if moment <= at < moment + CALM_SECONDS]
        if found and all(found):
            return round(moment - workload.calm, 1)
        moment += STEP
    return None
