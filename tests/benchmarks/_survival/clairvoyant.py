"""The policy that knows every true cost: what the learned one is measured against.

A byte semaphore in order of arrival. Smaller requests may pass a large one that waits, for a second at most. Its
capacity is the limit without what the idle process uses, 5 % for safety, and what the environment will take. What the
process keeps beyond that (an allocator's holes, a cache) is measured and taken off as well.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from aiohttp import web

from tests.benchmarks._survival.values import WORK_HEADER, ServerSettings, Work

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from tests.benchmarks._survival.memory import CgroupMemory, Live

MARGIN: Final = 0.05
"""Share of the limit that is kept free."""
PASSING_SECONDS: Final = 1.0
"""How long a request that waits at the head may be passed by smaller ones."""
BODY_FACTOR: Final = 2
"""A body lies in memory twice for a moment: as it came, and as it is handed over."""


def usable(settings: ServerSettings, memory: CgroupMemory) -> int:
    """Bytes that requests may use together, in a process that has just started."""
    return int(settings.limit * (1 - MARGIN)) - memory.working_set - settings.set_aside


class Waiter(NamedTuple):
    """A request that waits."""

    cost: int
    since: float
    granted: asyncio.Future[None]
    request: web.Request


class Clairvoyant:
    """Admits by true cost."""

    def __init__(self, settings: ServerSettings, memory: CgroupMemory, live: Live) -> None:
        self._memory = memory
        self._live = live
        self._idle = memory.working_set
        self._set_aside = settings.set_aside
        self._capacity = usable(settings, memory)
        self._used = 0
        self._queue: deque[Waiter] = deque()

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Wait until it fits; it is charged until its answer was sent."""
        work = msgspec.json.decode(request.headers[WORK_HEADER], type=Work)
        if work.cost == 0:  # a call of the service to itself, which its caller was charged for
            return await handler(request)
        task = asyncio.current_task()
        assert task is not None
        body = BODY_FACTOR * (request.content_length or 0) if request.can_read_body else 0
        if body:
            # What comes in is in memory whether we like it or not. Clients may take seconds over it.
            self._charge(task, body)
            await request.read()
        rest = max(0, min(work.cost, self._capacity) - body)
        if self._queue or not self._fits(rest):
            waiter = Waiter(rest, asyncio.get_running_loop().time(), asyncio.Future(), request)
            self._queue.append(waiter)
            self._serve()
            await waiter.granted
            if request.transport is None:  # nobody waits for it any more
                self._release(rest)
                return web.Response(status=499)
            task.add_done_callback(lambda _: self._release(rest))
        else:
            self._charge(task, rest)
        return await handler(request)

    def _charge(self, task: asyncio.Task[object], cost: int) -> None:
        self._used += cost
        task.add_done_callback(lambda _: self._release(cost))

    def _release(self, cost: int) -> None:
        self._used -= cost
        self._serve()

    def _fits(self, cost: int) -> bool:
        if self._used == 0:
            return True
        kept = self._memory.working_set - self._idle - self._live.held - self._set_aside
        return self._used + cost <= self._capacity - max(0, kept)

    def _serve(self) -> None:
        """Grant what fits, in order; nobody passes a head that has been passed long enough."""
        now = asyncio.get_running_loop().time()
        left: list[Waiter] = []
        while self._queue:
            waiter = self._queue.popleft()
            if waiter.request.transport is None or self._fits(waiter.cost):  # who has gone is let go
                self._used += waiter.cost
                waiter.granted.set_result(None)
            else:
                left.append(waiter)
                if now - waiter.since > PASSING_SECONDS:
                    break
        self._queue.extendleft(reversed(left))
