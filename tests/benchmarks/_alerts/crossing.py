"""A process under a memory limit that crosses its line again and again, and says how soon its handlers heard of it.

The line is where the guard band begins: the kernel is told to speak there, the pressure level becomes critical there,
and a threshold on percent of the limit is set there. What is timed is the first critical alert, whichever of these
raises it. Run by `tests.benchmarks.alerts` inside a cgroup, with a `Case` as JSON, the cgroup's directory, and how
often; prints a list of `Crossing`. Log lines are written as always, to nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog

from asyncmem import AlertLevel, AlertState, MemoryAlert, MemoryConfig, MemoryRuntime
from asyncmem.pressure import PressureLevels
from tests.benchmarks._alerts.asking import ANSWER
from tests.benchmarks._alerts.group import python
from tests.benchmarks._alerts.growth import MIB, Growth

__all__ = ["Case", "Crossing"]

BELOW: Final = 18 * MIB
"""Usage between two crossings, below the line: an alert is over 5 % of the line below it."""
BEYOND: Final = 6 * MIB
"""How far the usage goes on. The kernel tells after 128 pages that a processor charges: so it does hear of the line."""
CALM: Final = 0.03
"""Seconds between two crossings, at least."""
WORK: Final = 0.001
"""Seconds that one piece of work of a busy service computes."""
LONGEST: Final = 25.0
"""Seconds after which no more crossings are begun."""
LATEST: Final = 2.0
"""Seconds beyond the interval after which an alert counts as missed."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A way to cross the line.

    Args:
        pushed: Whether kernel events are listened to.
        grows: Who grows: a ``neighbour`` in the cgroup, or the process ``itself``, on the event loop's thread.
        load: What the process does meanwhile. ``idle``: nothing. ``serving``: two connections over TCP without a pause,
            each request a millisecond of Python under a permit. ``computing``: a thread computes in pure Python, under
            a permit. ``spinning``: as serving, without connections: the loop always has something to do and never
            reads or writes, which is the worst for other threads.
        interval: The setting of `MemoryConfig`, in seconds.
    """

    pushed: bool
    grows: Literal["neighbour", "itself"]
    load: Literal["idle", "serving", "computing", "spinning"]
    interval: float = 1.0

    @property
    def name(self) -> str:
        """For a table."""
        return f"{'pushed' if self.pushed else 'polled'}, {self.load}, {self.grows} grows"


class Crossing(msgspec.Struct, kw_only=True):
    """One crossing: seconds from it to each station of the alert; None where it was not seen there."""

    kind: str | None = None
    """The type of the alert that came first."""
    grown: float | None = None
    """The process itself has stopped to grow: the loop's thread has kept the interpreter until then."""
    heard: float | None = None
    """The watcher's thread has taken in the kernel's word."""
    looked: float | None = None
    """The look that raised the alert has begun."""
    immediate: float | None = None
    """An immediate handler is called, on the watcher's thread."""
    awaited: float | None = None
    """An async handler is called, on the event loop."""


class _Stations:
    """Notes when the alert passes where. Stamps of before the alert are the last ones of each kind."""

    def __init__(self, runtime: MemoryRuntime) -> None:
        self.stamps: dict[str, float] = {}
        self.kind: str | None = None
        self.arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        handle, look = runtime._kernel_events.handle, runtime._look

        def heard(ready: Sequence[tuple[int, int]]) -> bool:
            news = handle(ready)
            if news:
                self._note("heard")
            return news

        def looked() -> float | None:
            self._note("looked")
            return look()

        runtime._kernel_events.handle = heard  # type: ignore[method-assign]
        runtime._look = looked  # type: ignore[method-assign]
        runtime.alerts.add_handler(self._immediate, immediate=True)
        runtime.alerts.add_handler(self._awaited)

    def clear(self) -> None:
        """Forget all; the next critical alert is the one."""
        self.stamps.clear()
        self.kind = None
        self.arrived.clear()

    def since(self, crossed: float) -> Crossing:
        """What was noted, in seconds after the crossing; what was before it had to do with something else."""
        after = {name: at - crossed for name, at in self.stamps.items() if at >= crossed}
        return Crossing(kind=self.kind, **after)

    def grown(self) -> None:
        """This process has stopped to grow, and lets others into the interpreter."""
        self.stamps["grown"] = time.perf_counter()

    def _note(self, name: str) -> None:
        if "immediate" not in self.stamps:
            self.stamps[name] = time.perf_counter()

    def _immediate(self, alert: MemoryAlert) -> None:
        if alert.level is AlertLevel.CRITICAL and alert.state is not AlertState.RESOLVED and self.kind is None:
            self.stamps["immediate"] = time.perf_counter()
            self.kind = alert.alert_type.value
            self._loop.call_soon_threadsafe(self._complete)

    async def _awaited(self, alert: MemoryAlert) -> None:
        if (
            alert.level is AlertLevel.CRITICAL
            and alert.state is not AlertState.RESOLVED
            and "awaited" not in self.stamps
        ):
            self.stamps["awaited"] = time.perf_counter()
            self._complete()

    def _complete(self) -> None:
        if {"immediate", "awaited"} <= self.stamps.keys():
            self.arrived.set()


class _Grower:
    """Takes memory beyond the line and gives it back, here or in a neighbour.

    Args:
        directory: The cgroup.
        line: Bytes of its usage.
        is_own: Whether this process grows.
    """

    def __init__(self, directory: str, line: int, *, is_own: bool) -> None:
        self._line = line
        self._is_own = is_own
        self._own = Growth(directory)
        command = python("growth", directory)
        self._neighbour = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def cross(self) -> float:
        """Grow, or have the neighbour begin to; returns when the line was crossed, 0 where only `crossed` knows."""
        if self._is_own:
            return self._own.grow(self._line, self._line + BEYOND)
        self._tell(f"{self._line} {self._line + BEYOND}")
        return 0.0

    async def crossed(self) -> float:
        """When the neighbour crossed the line; nobody waits for its answer before, so that the loop stays idle."""
        return await asyncio.to_thread(self._answer)

    async def shrink(self) -> None:
        """Give it back."""
        self._own.shrink()
        self._tell("shrink")
        await asyncio.to_thread(self._answer)

    def end(self) -> None:
        """End the neighbour."""
        with self._neighbour as process:
            process.kill()

    def _tell(self, line: str) -> None:
        assert self._neighbour.stdin is not None
        self._neighbour.stdin.write(f"{line}\n")
        self._neighbour.stdin.flush()

    def _answer(self) -> float:
        assert self._neighbour.stdout is not None
        return float(self._neighbour.stdout.readline())


async def measure(case: Case, directory: str, crossings: int) -> list[Crossing]:
    """Cross the line of a cgroup's directory so many times, or as often as there is time for."""
    async with MemoryRuntime(MemoryConfig(interval=case.interval, alert_preset="none", alert_cooldown=0)) as runtime:
        line = runtime.statistics().admission.capacity
        runtime.alerts.set_threshold(AlertLevel.CRITICAL, percent=100 * line / runtime.limits.binding().limit)
        runtime.check_now()
        if not case.pushed:
            nobody: dict[int, int] = {}
            runtime._kernel_events.descriptors = lambda: nobody  # type: ignore[method-assign]
        stations = _Stations(runtime)
        async with contextlib.AsyncExitStack() as stack:
            grower = _Grower(directory, line, is_own=case.grows == "itself")
            stack.callback(grower.end)
            ballast = Growth(directory)
            stack.callback(ballast.shrink)
            await _LOADS[case.load](runtime, stack)
            await grower.shrink()  # its answer says that it is there, with all that it takes itself
            ballast.grow(line, line - BELOW)
            found: list[Crossing] = []
            until = time.monotonic() + LONGEST
            while len(found) < crossings and time.monotonic() < until:
                found.append(await _one(runtime, case, stations, grower))
            return found


async def _one(runtime: MemoryRuntime, case: Case, stations: _Stations, grower: _Grower) -> Crossing:
    await grower.shrink()
    _keep_line(runtime)
    # Half a second would pass until the level falls by itself: that is how it is meant, and not what is measured.
    runtime._response.pressure = PressureLevels()
    runtime.check_now()
    before = runtime.statistics().watcher.ticks
    runtime._watcher.prompt()
    while runtime.statistics().watcher.ticks == before:  # noqa: ASYNC110 - of another thread
        await asyncio.sleep(CALM / 10)
    at_random = case.interval if case.load == "idle" and not case.pushed else CALM  # at any time between two looks
    await asyncio.sleep(CALM + random.uniform(0.0, at_random))  # noqa: S311
    is_critical = any(alert.level is AlertLevel.CRITICAL for alert in runtime.alerts.active)
    assert not is_critical, "something else takes memory: the last alert has not ended"
    stations.clear()
    crossed = grower.cross()
    stations.grown()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stations.arrived.wait(), case.interval + LATEST)
    return stations.since(crossed or await grower.crossed())


def _keep_line(runtime: MemoryRuntime) -> None:
    """Have the guard band as wide as it was: it widens with growth that no work explains, as all is here."""
    for gauge in runtime.admission._headroom.gauges:
        gauge._surprises.clear()
        gauge.guard = gauge._guard
        gauge.capacity = gauge.bound.limit - gauge.guard


async def _idle(runtime: MemoryRuntime, stack: contextlib.AsyncExitStack) -> None:
    """Nothing is in flight."""


async def _serving(runtime: MemoryRuntime, stack: contextlib.AsyncExitStack) -> None:
    begun = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                async with runtime.guard("request", cost="64KiB"):
                    _compute(WORK)
                writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stack.callback(server.close)
    client = await asyncio.create_subprocess_exec(*python("asking", str(server.sockets[0].getsockname()[1]), "2"))
    stack.push_async_callback(client.wait)
    stack.callback(client.kill)
    await begun.wait()


async def _spinning(runtime: MemoryRuntime, stack: contextlib.AsyncExitStack) -> None:
    async def spin() -> None:
        while True:
            async with runtime.guard("request", cost="64KiB"):
                _compute(WORK)
            await asyncio.sleep(0)

    for _ in range(2):
        stack.callback(asyncio.create_task(spin()).cancel)


async def _computing(runtime: MemoryRuntime, stack: contextlib.AsyncExitStack) -> None:
    ended = threading.Event()

    def compute() -> None:
        while not ended.is_set():
            _compute(WORK)

    await stack.enter_async_context(runtime.guard("job", cost="64KiB"))
    thread = threading.Thread(target=compute)
    thread.start()
    stack.callback(thread.join)
    stack.callback(ended.set)


_LOADS: Final = {"idle": _idle, "serving": _serving, "computing": _computing, "spinning": _spinning}


def _compute(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(Path(os.devnull).open("w")))  # noqa: SIM115
    found = asyncio.run(measure(msgspec.json.decode(sys.argv[1], type=Case), sys.argv[2], int(sys.argv[3])))
    print(msgspec.json.encode(found).decode())
