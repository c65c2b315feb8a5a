"""The traffic shapes of the survival benchmark: each a function of a seed's random numbers.

The number of requests of a shape is fixed; the seed places them. Costs are such that one who knows them completes
nearly all of them in time. Shapes in which something happens around the traffic are in `hostile`.
"""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING, Final

from tests.benchmarks._survival.hostile import HOSTILE
from tests.benchmarks._survival.shaping import block, mixed, spread
from tests.benchmarks._survival.values import MIB, Request, Work, Workload

if TYPE_CHECKING:
    from tests.benchmarks._survival.shaping import Shape

LIGHT: Final = ("/light", 4 * MIB, 0.1)
MEDIUM: Final = ("/medium", 40 * MIB, 0.2)
HEAVY: Final = ("/heavy", 150 * MIB, 0.3)


def steady(random: Random) -> Workload:
    """A mix of 4, 40 and 150 MiB, a little more than half of what fits."""
    kinds = ((LIGHT, 0.7), (MEDIUM, 0.2), (HEAVY, 0.1))
    return Workload(name="", seed=0, deadline=5.0, requests=mixed(random, 24, (0, 12), kinds))


def burst(random: Random) -> Workload:
    """20 a second of 4, 40 and 150 MiB; for two seconds 120 a second."""
    kinds = ((LIGHT, 0.8), (MEDIUM, 0.15), (HEAVY, 0.05))
    requests = (
        *mixed(random, 20, (0, 3), kinds),
        *mixed(random, 120, (3, 5), kinds),
        *mixed(random, 20, (5, 10), kinds),
    )
    return Workload(name="", seed=0, deadline=5.0, requests=requests, calm=5.0)


def bimodal40(random: Random) -> Workload:
    """60 a second of 4 MiB and 8 a second of 150 MiB: a semaphore's slot is worth either."""
    requests = (*mixed(random, 60, (0, 10), ((LIGHT, 1.0),)), *mixed(random, 8, (0, 10), ((HEAVY, 1.0),)))
    return Workload(name="", seed=0, deadline=5.0, requests=requests)


def bimodal200(random: Random) -> Workload:
    """80 a second of 1 MiB and 4 a second of 200 MiB."""
    requests = (
        *mixed(random, 80, (0, 10), ((("/light", MIB, 0.1), 1.0),)),
        *mixed(random, 4, (0, 10), ((("/heavy", 200 * MIB, 0.4), 1.0),)),
    )
    return Workload(name="", seed=0, deadline=5.0, requests=requests)


def light_to_heavy(random: Random) -> Workload:
    """5 s of a light route, then one that costs 40 times as much joins it."""
    requests = (
        *mixed(random, 40, (0, 11), ((LIGHT, 1.0),)),
        *mixed(random, 5, (5, 11), ((("/heavy", 160 * MIB, 0.35), 1.0),)),
    )
    return Workload(name="", seed=0, deadline=5.0, requests=requests)


def drift(random: Random) -> Workload:
    """A route whose cost rises from 10 to 40 MiB within one second, halfway."""

    def cost(at: float) -> int:
        return int((10 + 30 * min(1.0, max(0.0, at - 5.0))) * MIB)

    requests = tuple(block(random, at, "/work", cost(at), 0.55) for at in spread(random, 24, (0, 11)))
    return Workload(name="", seed=0, deadline=5.0, requests=requests)


def sized(random: Random) -> Workload:
    """Bodies of 10 KiB to 4 MiB, of which each byte costs 30 bytes, and 2 MiB more."""

    def request(at: float) -> Request:
        body = int(math.exp(random.uniform(math.log(10 * 1024), math.log(4 * MIB))))
        memory = 30 * body + 2 * MIB
        work = Work(memory=memory, hold=0.6, pause=random.uniform(0.005, 0.02), cost=memory + 2 * body, steps=2)
        return Request(at=at, route="/work", work=work, body=body)

    requests = tuple(request(at) for at in spread(random, 31, (0, 10)))
    return Workload(name="", seed=0, deadline=5.0, requests=requests)


SHAPES: Final[dict[str, Shape]] = {
    "steady": steady,
    "burst": burst,
    "bimodal40": bimodal40,
    "bimodal200": bimodal200,
    "light-to-heavy": light_to_heavy,
    "drift": drift,
    "sized": sized,
} | HOSTILE


def make(name: str, seed: int) -> Workload:
    """The workload of that name with the arrivals of a seed, in order of time."""
    workload = SHAPES[name](Random(f"{name}/{seed}"))  # noqa: S311 - a schedule that can be repeated
    return Workload(
        name=name,
        seed=seed,
        requests=tuple(sorted(workload.requests, key=lambda request: request.at)),
        deadline=workload.deadline,
        limit=workload.limit,
        environment=workload.environment,
        calm=workload.calm,
        attempts=workload.attempts,
        patience=workload.patience,
    )
