"""The values that the parts of the survival benchmark hand to each other; all of them travel as JSON.

A `Workload` says what is sent and what happens around it, `ServerSettings` what the server is told, `Outcomes` what the
clients saw, `Result` what became of one run. What they mean is done elsewhere: `workloads` makes them, `load` sends
them, `app` serves them, `runner` joins the three.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

MIB: Final = 1024 * 1024
ROOT: Final = Path(__file__).parents[3]
RESULTS: Final = ROOT / ".bench"
WORK_HEADER: Final = "X-Work"


class Work(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a handler is to do; it travels in a header that no policy but the clairvoyant reads.

    ``memory`` bytes are touched in ``steps`` equal parts over ``hold`` seconds, after ``pause`` seconds of waiting for
    a database; ``answer`` bytes are sent back. ``cost`` is the true peak, with the buffers of body and answer.
    ``stall`` is a time on the monotonic clock from when until when the dependency does not answer; ``inner`` is a
    call that the handler makes to its own service while it holds its memory.
    """

    memory: int
    hold: float
    pause: float
    cost: int
    steps: int = 1
    answer: int = 0
    stall: tuple[float, float] | None = None
    inner: Work | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request of a schedule: when it leaves (seconds after the begin), where to, and how the client behaves.

    ``trickle`` is the seconds over which the body of ``body`` bytes is sent, ``read_rate`` the bytes per second at
    which the answer is read (0: as fast as it comes).
    """

    at: float
    route: str
    work: Work
    body: int = 0
    trickle: float = 0.0
    read_rate: int = 0


class Environment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happens around the requests. Times are seconds after the begin, memory is bytes.

    ``lowered``: when, and to what, the limit is written down. ``neighbour``: from when until when a process in a
    sibling cgroup holds how much. ``page_cache``: a process beside the server reads large files. ``sawtooth``: a cache
    of the server grows to that and is dropped, again and again. ``stall``: when the dependency does not answer.
    ``set_aside``: what the clairvoyant leaves to all this.
    """

    lowered: tuple[float, int] | None = None
    neighbour: tuple[float, float, int] | None = None
    page_cache: bool = False
    sawtooth: int = 0
    stall: tuple[float, float] | None = None
    set_aside: int = 0


class Workload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule with its deadline (seconds after the scheduled time), the limit in bytes and the environment.

    ``calm`` is the time at which an overload ends, where there is one: recovery counts from there. Clients try
    ``attempts`` times; ``patience`` is the seconds after which they give one attempt up.
    """

    name: str
    seed: int
    requests: tuple[Request, ...]
    deadline: float
    limit: int = 700 * MIB
    environment: Environment = Environment()
    calm: float | None = None
    attempts: int = 1
    patience: float | None = None

    @property
    def mean_cost(self) -> int:
        """The mean of the true costs, in bytes."""
        return sum(request.work.cost for request in self.requests) // len(self.requests)


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the server is started with: its policy, and what only some policies make use of."""

    policy: str
    cgroup: str
    limit: int
    mean_cost: int
    set_aside: int
    sawtooth: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request: a status, ``gave up`` or ``lost``; seconds count from the scheduled time."""

    index: int
    result: str
    seconds: float
    attempts: int = 1


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the scheduled time to the last byte, of the requests of one route that were answered with 200."""

    count: int
    p50: float
    p99: float


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The figures of one run.

    ``shape`` tells one version of a workload from another, ``library`` one of asyncmem. ``refused`` counts 413, 429 and
    503, ``errors`` all other answers that are not 200: then the server is broken, whatever its policy. Memory is a
    share of the limit in force at that time; ``curve`` has the highest working set in MiB of each 50 ms.
    """

    workload: str
    policy: str
    seed: int
    shape: str
    library: str
    requests: int
    killed: bool
    killed_at: float | None
    in_time: int
    late: int
    refused: dict[str, int]
    errors: dict[str, int]
    lost: int
    attempts: int
    idle_sheds: int | None
    peak_usage: float
    peak_working_set: float
    latency: dict[str, Latency]
    recovery: float | None
    server_cpu: float
    wall: float
    notes: list[str]
    statistics: dict[str, object] = {}
    curve: list[int] = []
