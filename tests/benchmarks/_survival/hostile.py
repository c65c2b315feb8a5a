"""Traffic shapes in which clients, a dependency, the allocator or a neighbour behave badly.

The clairvoyant knows what each request will use, and how much the environment will take at most (``set_aside``).
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from tests.benchmarks._survival.shaping import block, mixed, spread
from tests.benchmarks._survival.values import MIB, Environment, Request, Work, Workload

if TYPE_CHECKING:
    from tests.benchmarks._survival.shaping import Kind, Shape

LIGHT: Final = ("/light", 4 * MIB, 0.1)
MEDIUM: Final = ("/medium", 40 * MIB, 0.2)
HEAVY: Final = ("/heavy", 150 * MIB, 0.3)
MIX: Final[tuple[tuple[Kind, float], ...]] = ((LIGHT, 0.7), (MEDIUM, 0.2), (HEAVY, 0.1))
ANSWER_FACTOR: Final = 2
"""An answer lies in memory twice while it leaves: as it was made, and in the buffer of its transport."""


def adversarial_sizes(random: Random) -> Workload:
    """Small bodies on one route, of which one in ten expands to 120 MiB."""

    def request(at: float, *, bomb: bool) -> Request:
        memory = 120 * MIB if bomb else random.randint(1, 4) * MIB
        work = Work(memory=memory, hold=0.7 if bomb else 0.1, pause=random.uniform(0.005, 0.02), cost=memory, steps=3)
        return Request(at=at, route="/work", work=work, body=random.randint(1, 10) * 1024)

    bombs = tuple(request(at, bomb=True) for at in spread(random, 5, (0, 11)))
    others = tuple(request(at, bomb=False) for at in spread(random, 44, (0, 11)))
    return Workload(name="", seed=0, deadline=5.0, requests=bombs + others)


def slow_uploads(random: Random) -> Workload:
    """Two waves of 36 clients, who take three seconds to send 256 KiB each, and finish almost together."""

    def upload(at: float) -> Request:
        memory, body = 20 * MIB, 256 * 1024
        work = Work(memory=memory, hold=0.4, pause=random.uniform(0.005, 0.02), cost=memory + 2 * body)
        return Request(at=at, route="/upload", work=work, body=body, trickle=3.0)

    uploads = tuple(upload(start + random.uniform(0, 0.2)) for start in (1.0, 5.5) for _ in range(36))
    usual = mixed(random, 20, (0, 11), ((LIGHT, 0.8), (MEDIUM, 0.2)))
    return Workload(name="", seed=0, deadline=8.0, requests=uploads + usual)


def slow_readers(random: Random) -> Workload:
    """Two waves of 36 clients who read their 8 to 16 MiB at 8 MiB a second, along with others who read fast."""

    def download(at: float, rate: int) -> Request:
        answer = random.randint(8, 16) * MIB
        memory = 1 * MIB
        cost = ANSWER_FACTOR * answer
        work = Work(memory=memory, hold=0.02, pause=random.uniform(0.005, 0.02), cost=cost, answer=answer)
        return Request(at=at, route="/download", work=work, read_rate=rate)

    slow = tuple(download(start + random.uniform(0, 0.5), 8 * MIB) for start in (1.0, 6.0) for _ in range(36))
    fast = tuple(download(at, 0) for at in spread(random, 4, (0, 10)))
    usual = mixed(random, 15, (0, 10), ((LIGHT, 1.0),))
    return Workload(name="", seed=0, deadline=8.0, requests=slow + fast + usual)


def stalled_dependency(random: Random) -> Workload:
    """A dependency does not answer for three seconds; all that wait for it hold their memory meanwhile."""
    requests = tuple(block(random, at, "/work", 8 * MIB, 0.1) for at in spread(random, 50, (0, 10)))
    return Workload(
        name="", seed=0, deadline=6.0, requests=requests, calm=6.0, environment=Environment(stall=(3.0, 6.0))
    )


def retry_storm(random: Random) -> Workload:
    """A burst; clients wait two seconds, try four times and heed nothing that they are told."""
    requests = (
        *mixed(random, 20, (0, 3), MIX),
        *mixed(random, 60, (3, 5), MIX),
        *mixed(random, 20, (5, 10), MIX),
    )
    return Workload(name="", seed=0, deadline=8.0, requests=requests, calm=5.0, attempts=4, patience=2.0)


def sawtooth(random: Random) -> Workload:
    """A cache of the server grows to 200 MiB in three seconds and is dropped, again and again."""
    requests = mixed(random, 32, (0, 11), MIX)
    environment = Environment(sawtooth=200 * MIB, set_aside=200 * MIB)
    return Workload(name="", seed=0, deadline=5.0, requests=requests, environment=environment)


def retention(random: Random) -> Workload:
    """Small objects for five seconds, of which few are kept: the heap keeps its size. Then large blocks need room."""

    def small(at: float) -> Request:
        memory = 30 * MIB
        work = Work(memory=memory, hold=0.5, pause=random.uniform(0.005, 0.02), cost=int(memory * 1.1))
        return Request(at=at, route="/objects", work=work)

    objects = tuple(small(at) for at in spread(random, 14, (0, 5)))
    few = tuple(small(at) for at in spread(random, 2, (5, 11)))
    large = mixed(random, 6, (5, 11), ((("/heavy", 110 * MIB, 0.3), 1.0),))
    return Workload(name="", seed=0, deadline=5.0, requests=objects + few + large)


def page_cache(random: Random) -> Workload:
    """A process beside the server reads large files: the cache fills the limit, and nothing is lost by it."""
    requests = (
        *mixed(random, 22, (0, 4), MIX),
        *mixed(random, 70, (4, 6), MIX),
        *mixed(random, 22, (6, 11), MIX),
    )
    environment = Environment(page_cache=True)
    return Workload(name="", seed=0, deadline=5.0, requests=requests, environment=environment, calm=6.0)


def neighbour(random: Random) -> Workload:
    """A process in a sibling cgroup takes a quarter of what both share, for five seconds."""
    requests = mixed(random, 30, (0, 11), MIX)
    environment = Environment(neighbour=(2.0, 9.0, 175 * MIB), set_aside=185 * MIB)
    return Workload(name="", seed=0, deadline=5.0, requests=requests, environment=environment)


def limit_lowered(random: Random) -> Workload:
    """The limit of 900 MiB is written down to 600 while the server works."""
    requests = mixed(random, 30, (0, 12), MIX)
    environment = Environment(lowered=(4.0, 600 * MIB), set_aside=300 * MIB)
    return Workload(name="", seed=0, deadline=5.0, limit=900 * MIB, requests=requests, environment=environment)


def nested(random: Random) -> Workload:
    """Handlers that hold 20 MiB and call another route of their own service, which takes 30."""

    def request(at: float) -> Request:
        inner = Work(memory=30 * MIB, hold=0.2, pause=random.uniform(0.005, 0.02), cost=0)
        outer = Work(memory=20 * MIB, hold=0.2, pause=random.uniform(0.005, 0.02), cost=50 * MIB, inner=inner)
        return Request(at=at, route="/outer", work=outer)

    calm = tuple(request(at) for at in spread(random, 10, (0, 10)))
    rush = tuple(request(at) for at in spread(random, 30, (4, 6)))
    usual = mixed(random, 20, (0, 10), ((LIGHT, 1.0),))
    return Workload(name="", seed=0, deadline=5.0, requests=calm + rush + usual, calm=6.0)


HOSTILE: Final[dict[str, Shape]] = {
    "adversarial-sizes": adversarial_sizes,
    "slow-uploads": slow_uploads,
    "slow-readers": slow_readers,
    "stalled-dependency": stalled_dependency,
    "retry-storm": retry_storm,
    "sawtooth": sawtooth,
    "retention": retention,
    "page-cache": page_cache,
    "neighbour": neighbour,
    "limit-lowered": limit_lowered,
    "nested": nested,
}
