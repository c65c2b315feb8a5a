"""Pieces that traffic shapes are made of: times of arrival, and requests of a route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from tests.benchmarks._survival.values import Request, Work, Workload

Shape = Callable[[Random], Workload]
"""A workload from random numbers."""
Kind = tuple[str, int, float]
"""A route, the bytes that it takes, the seconds that it holds them."""
Span = tuple[float, float]
"""From when until when, in seconds after the begin."""


def spread(random: Random, rate: float, span: Span) -> list[float]:
    """Arrivals in a span at a rate per second: as many as that gives, each at any time (a Poisson process)."""
    return sorted(random.uniform(*span) for _ in range(round(rate * (span[1] - span[0]))))


def block(random: Random, at: float, route: str, memory: int, hold: float, *, steps: int = 1) -> Request:
    """A request that takes some memory for some seconds (of which a fifth more or less), after 5 to 20 ms."""
    work = Work(
        memory=memory,
        hold=hold * random.uniform(0.8, 1.2),
        pause=random.uniform(0.005, 0.02),
        cost=memory,
        steps=steps,
    )
    return Request(at=at, route=route, work=work)


def mixed(random: Random, rate: float, span: Span, kinds: Sequence[tuple[Kind, float]]) -> tuple[Request, ...]:
    """Requests of several kinds with their shares; the shares are kept as exactly as whole numbers allow."""
    times = spread(random, rate, span)
    chosen: list[Kind] = []
    for kind, share in kinds:
        chosen += [kind] * round(share * len(times))
    chosen = (chosen + [kinds[0][0]] * len(times))[: len(times)]
    random.shuffle(chosen)
    return tuple(block(random, at, *kind) for at, kind in zip(times, chosen, strict=True))
