"""What admission costs: alone in a loop, and a request of aiohttp that does nothing.

Alone: acquire and record, against `asyncio.Semaphore` and two readings of memory; and the same while others wait, from
one to ten thousand. A request: aiohttp plain, with a middleware that does nothing, guarded.

The three are served by one process, and each round asks them one after the other, so that a machine that changes its
speed within tenths of a second does so for all of them. Counted is processor time of server, client and all threads
together, per request, over keep-alive connections. To reach: guarded at least 92 % as good as the middleware that does
nothing.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from asyncmem import MemoryConfig, MemoryRuntime, Priority
from asyncmem._wakeup import ThreadWakeup
from asyncmem.admission import AdmissionController
from asyncmem.sampling import LinuxSampler, LiveMeter
from asyncmem.testing import ManualClock, SyntheticLimits, SyntheticSampler

if TYPE_CHECKING:
    from collections.abc import Callable

MODES = ("plain", "no-op", "guarded")
PROCESSES = 4
ROUNDS = 40
REQUESTS = 1000
"""Of one mode in one round; a tenth of them warms it up."""
CONNECTIONS = 10

PROGRAM = f"""
import asyncio, gc, json, time
from aiohttp import web
from asyncmem.middleware.aiohttp import setup

async def hello(request):
    return web.Response(text="hi")

@web.middleware
async def nothing(request, handler):
    return await handler(request)

async def serve(mode):
    app = web.Application()
    app.router.add_get("/", hello)
    if mode == "no-op":
        app.middlewares.append(nothing)
    if mode == "guarded":
        setup(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, [await asyncio.open_connection(*runner.addresses[0]) for _ in range({CONNECTIONS})]

async def ask(reader, writer, count):
    for _ in range(count):
        writer.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        await reader.readuntil(b"hi")

async def measure(connections, count):
    begin = time.process_time()
    await asyncio.gather(*(ask(*streams, count // {CONNECTIONS}) for streams in connections))
    return (time.process_time() - begin) / count * 1e6

async def main():
    served = {{mode: await serve(mode) for mode in {MODES}}}
    for _, connections in served.values():
        await measure(connections, 5 * {REQUESTS})
    rounds = []
    for _ in range({ROUNDS}):
        found = {{}}
        for mode, (_, connections) in served.items():
            gc.collect()
            await measure(connections, {REQUESTS} // 10)
            found[mode] = await measure(connections, {REQUESTS})
        rounds.append(found)
    print(json.dumps(rounds))
    for runner, connections in served.values():
        for _, writer in connections:
            writer.close()
        await runner.cleanup()

asyncio.run(main())
"""


def _rounds() -> list[dict[str, float]]:
    """Microseconds of processor time per request by mode, of each round."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    rounds: list[dict[str, float]] = json.loads(done.stdout)
    return rounds


def _alone() -> dict[str, object]:
    """Microseconds of acquire and record, uncontended and with others waiting."""
    figures: dict[str, object] = {}
    with MemoryRuntime(MemoryConfig()) as runtime:
        admission = runtime.admission
        for _ in range(3):  # until the class is known
            _timed(lambda: admission.acquire_nowait("job").record(), 2000)
            time.sleep(0.1)
        ours = [_timed(lambda: admission.acquire_nowait("job").record()) for _ in range(9)]
        figures["acquire_and_record_us"] = statistics.median(ours)
        figures["semaphore_and_two_readings_us"] = statistics.median(_semaphore() for _ in range(9))
    for waiting in (1, 100, 10_000):
        figures[f"with_{waiting}_waiting_us"] = _with_others(waiting)
    return figures


def _timed(call: Callable[[], object], count: int = 20_000) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begin) / count * 1e6


def _semaphore() -> float:
    async def run() -> float:
        semaphore, sampler = asyncio.Semaphore(100), LinuxSampler()
        begin = time.perf_counter()
        for _ in range(20_000):
            await semaphore.acquire()
            sampler.working_set()
            sampler.working_set()
            semaphore.release()
        return (time.perf_counter() - begin) / 20_000 * 1e6

    return asyncio.run(run())


def _with_others(waiting: int) -> float:
    """A small one comes and goes while so many wait for what is not there."""
    memory = SyntheticSampler("100MiB")
    limits = SyntheticLimits(memory, "1000MiB")
    controller = AdmissionController(
        lambda: limits.bounds, own=LiveMeter(memory, free=lambda: 0), clock=ManualClock(), max_queue=20_000
    )
    controller.acquire_nowait("held", cost="700MiB")
    for _ in range(waiting):
        controller._waiting.join("large", "600MiB", Priority.NORMAL, None, 0.0, ThreadWakeup)

    def come_and_go() -> None:
        waiter, _, _ = controller._waiting.join("small", "1MiB", Priority.HIGH, None, 0.0, ThreadWakeup)
        assert waiter.permit is not None
        controller._gate.take(waiter)
        waiter.permit.record()

    return statistics.median(_timed(come_and_go, 500) for _ in range(5))


def main() -> dict[str, object]:
    """Measure, print a table, return the figures."""
    alone = _alone()
    rounds = [entry for _ in range(PROCESSES) for entry in _rounds()]
    ratios = [entry["no-op"] / entry["guarded"] for entry in rounds]
    figures = alone | {f"{mode}_us_per_request": statistics.median(entry[mode] for entry in rounds) for mode in MODES}
    figures["guarded_as_good_as_no_op"] = statistics.median(ratios)
    figures["quartiles"] = statistics.quantiles(ratios, n=4)[::2]
    for name, value in figures.items():
        print(f"{name:>28}  {value}")
    return figures
