"""A hello-world app of aiohttp under the guard, with a flood of alerts beside it when told so.

As a program it serves: prints its port, then takes the name of a `FLOODS` on each line of its standard input and
answers with its processor time until then and the alerts it has emitted. `measure` asks it, from another process.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import web

from asyncmem import AlertManager, MemoryConfig
from asyncmem.middleware.aiohttp import setup
from tests.benchmarks._alerts.asking import ask
from tests.benchmarks._alerts.flood import make, slow
from tests.benchmarks._alerts.group import ROOT, python

__all__ = ["FLOODS", "Share", "measure"]

FLOODS: Final = {
    "none": 0.0,
    "100/s": 100.0,
    "1000/s": 1000.0,
    "full speed": math.inf,
    "no alerts, full speed": math.nan,
}
"""Alerts per second by name. The last one is a thread that makes alerts and tells nobody, as fast as it can: what is
lost to it is the price of another thread in the interpreter and not of alerts."""
CONNECTIONS: Final = 10
PERIOD: Final = 0.010
"""Seconds between two bursts of the flood: the watcher looks as often while work is in flight."""
BURST: Final = 20
WARM_UP: Final = 0.05


class _Flood(threading.Thread):
    """Raises alerts from a thread of its own, as the watcher does."""

    def __init__(self, alerts: AlertManager) -> None:
        super().__init__(daemon=True)
        self._alerts = alerts
        self.rate = 0.0
        self.emitted = 0

    def run(self) -> None:
        """Go on until the process ends."""
        owed, last = 0.0, time.perf_counter()
        while True:
            now, rate = time.perf_counter(), self.rate
            if math.isfinite(rate):
                owed += (now - last) * rate
                self._emit(int(owed))
                owed -= int(owed)
                time.sleep(PERIOD)  # without a flood too, so that the thread itself is there in all rounds
            elif math.isnan(rate):
                for number in range(BURST):
                    make(number)
            else:
                self._emit(BURST)
            last = now

    def _emit(self, count: int) -> None:
        for _ in range(count):
            self._alerts.emit(make(self.emitted))
            self.emitted += 1


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One flood beside the app, in one round, against the rounds without any just before and after.

    Args:
        throughput: Requests per second, as a share of those without.
        cpu: Processor time of the whole server per request, likewise; what alerts take themselves is in it.
        emitted: Alerts per second.
    """

    throughput: float
    cpu: float
    emitted: float


class _Server:
    """The app in a process of its own, and connections to it."""

    def __init__(
        self, process: subprocess.Popen[str], streams: Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    ) -> None:
        self._process = process
        self._streams = streams

    async def ask(self, flood: str, seconds: float) -> tuple[float, float, float]:
        """Requests per second, processor seconds per request, and alerts per second beside such a flood."""
        self._tell(flood)
        await self._ask(WARM_UP)
        (cpu, emitted), begin = self._tell(flood), time.perf_counter()
        answered = await self._ask(seconds)
        took, (cpu_after, emitted_after) = time.perf_counter() - begin, self._tell("none")
        return answered / took, (cpu_after - cpu) / answered, (emitted_after - emitted) / took

    async def _ask(self, seconds: float) -> int:
        until = time.perf_counter() + seconds
        return sum(await asyncio.gather(*(ask(*each, until) for each in self._streams)))

    def _tell(self, flood: str) -> tuple[float, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{flood}\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=tuple[float, int])


def measure(rounds: int, seconds: float) -> tuple[float, dict[str, list[Share]]]:
    """Requests per second without a flood, and what each flood leaves of them in each round.

    Args:
        rounds: How often each flood is measured.
        seconds: How long each time.
    """
    command = python("hello")
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            return asyncio.run(_measure(process, rounds, seconds))
        finally:
            process.kill()


async def _measure(process: subprocess.Popen[str], rounds: int, seconds: float) -> tuple[float, dict[str, list[Share]]]:
    assert process.stdout is not None
    port = int(process.stdout.readline())
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    server = _Server(process, streams)
    await server.ask("none", 4 * seconds)  # until costs are learned
    floods = [name for name in FLOODS if name != "none"]
    shares: dict[str, list[Share]] = {name: [] for name in floods}
    bases = [await server.ask("none", seconds)]
    for _ in range(rounds):
        random.shuffle(floods)
        for flood in floods:
            rate, cpu, emitted = await server.ask(flood, seconds)
            bases.append(await server.ask("none", seconds))
            (rate_before, cpu_before, _), (rate_after, cpu_after, _) = bases[-2:]
            throughput, processor = 2 * rate / (rate_before + rate_after), 2 * cpu / (cpu_before + cpu_after)
            shares[flood].append(Share(throughput=throughput, cpu=processor, emitted=emitted))
    for _, writer in streams:
        writer.close()
        await writer.wait_closed()
    return statistics.median(rate for rate, _, _ in bases), shares


async def _hello(request: web.Request) -> web.Response:
    return web.Response(text="hi")


async def _serve() -> None:
    app = web.Application()
    app.router.add_get("/", _hello)
    runtime = setup(app, MemoryConfig(log_alerts=False, alert_preset="none"))
    slow(runtime.alerts)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    flood = _Flood(runtime.alerts)
    flood.start()
    print(runner.addresses[0][1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        flood.rate = FLOODS[line.rstrip()]
        print(msgspec.json.encode((time.process_time(), flood.emitted)).decode(), flush=True)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve())
