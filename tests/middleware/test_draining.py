"""A process whose memory stays critical shuts itself down: in order, within a deadline, with a code that says why.

A real server in a process of its own. Nothing here depends on how long anything takes, up to generous limits.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from asyncmem import ConfigError, MemoryConfig, MemoryRuntime
from asyncmem.middleware.aiohttp import EXIT_MEMORY, RUNTIME, setup, shutdown_on_critical
from asyncmem.testing import ManualClock, SyntheticLimits, SyntheticSampler
from asyncmem.units import MIB

APP = Path(__file__).parents[1] / "data" / "critical_app.py"
LONG = 60.0
"""Seconds that nothing should take."""


class Served:
    """An app in a process of its own."""

    def __init__(self, port: int, drain: float, closing: float) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, str(APP), str(port), str(drain), str(closing)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    async def ended(self) -> tuple[int, str]:
        """Its exit code and what it has said."""
        said, _ = await asyncio.to_thread(self.process.communicate, timeout=LONG)
        return self.process.returncode, said

    async def until(self, session: aiohttp.ClientSession, **wanted: object) -> None:
        """Wait until its figures are these."""
        end = time.monotonic() + LONG
        while True:
            try:
                async with session.get(f"{self.base}/statistics") as response:
                    found = await response.json()
            except aiohttp.ClientConnectionError:
                found = {}
                assert self.process.poll() is None, "it ended before its time"
            if wanted.items() <= found.items():
                return
            assert time.monotonic() < end, f"it has {found}, and not {wanted}"
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LONG)) as session:
        yield session


@pytest_asyncio.fixture
async def serve(free_tcp_port: int) -> AsyncIterator[Callable[..., Served]]:
    """Starts the app."""
    started: list[Served] = []

    def start(drain: float = LONG, closing: float = LONG) -> Served:
        started.append(Served(free_tcp_port, drain, closing))
        return started[-1]

    yield start
    for served in started:
        with served.process as process:
            process.kill()


async def answer(session: aiohttp.ClientSession, url: str) -> tuple[int, str] | str:
    """Status and text, or the error's name."""
    try:
        async with session.get(url) as response:
            return response.status, await response.text()
    except aiohttp.ClientError as error:
        return type(error).__name__


@pytest.mark.asyncio
async def test_it_drains_and_exits_with_its_code(serve: Callable[..., Served], session: aiohttp.ClientSession) -> None:
    """What is in flight ends well, what comes is refused and sent away, probes fail; then all is cleaned up."""
    served = serve()
    await served.until(session, in_flight=0, closed=False)
    slow = asyncio.create_task(answer(session, f"{served.base}/slow"))
    await served.until(session, in_flight=1)
    async with session.post(f"{served.base}/fill") as response:
        assert response.status == 200
    await served.until(session, closed=True)
    async with session.get(f"{served.base}/slow") as response:
        assert response.status == 503
        assert response.headers["Connection"] == "close"
        assert int(response.headers["Retry-After"]) >= 1
        assert (await response.json())["reason"] == "closed"
    async with session.get(f"{served.base}/readyz") as response:
        assert response.status == 503
    assert not slow.done()
    async with session.post(f"{served.base}/go"):
        pass
    assert await slow == (200, "done")
    code, said = await served.ended()
    assert code == EXIT_MEMORY == 75
    assert "cleaned up" in said
    assert "memory_shutdown " in said
    assert "inside the guard band for 0.5 s" in said
    assert "memory_shutdown_leaves" in said
    assert "forced" not in said


@pytest.mark.asyncio
async def test_the_deadline_holds(serve: Callable[..., Served], session: aiohttp.ClientSession) -> None:
    """A request that never ends keeps neither the drain nor the closing from their ends, and the code is the same."""
    served = serve(drain=0.1, closing=0.3)
    await served.until(session, in_flight=0, closed=False)
    slow = asyncio.create_task(answer(session, f"{served.base}/slow"))
    await served.until(session, in_flight=1)
    async with session.post(f"{served.base}/fill") as response:
        assert response.status == 200
    code, said = await served.ended()
    assert code == EXIT_MEMORY
    assert "memory_shutdown_forced" in said
    assert isinstance(await slow, str), "it was answered"


@pytest.mark.asyncio
async def test_memory_that_was_critical_before_it_serves_counts() -> None:
    """A model that is loaded while the app starts, and leaves too little: it begins as soon as there is a loop."""
    memory = SyntheticSampler("100MiB")
    clock = ManualClock()
    runtime = MemoryRuntime(
        MemoryConfig(guard_band="100MiB", log_alerts=False),
        sampler=memory,
        machine=memory,
        limits=SyntheticLimits(memory, "1000MiB"),
        clock=clock,
    )
    app = web.Application()
    setup(app, runtime=runtime)
    left: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    shutdown_on_critical(app, after=0.0, leave=left.set_result)

    async def load(_app: web.Application) -> AsyncIterator[None]:
        memory.used = 950 * MIB
        runtime._look()
        async with asyncio.timeout(LONG):
            while runtime._response.critical.statistics().calls == 0:  # noqa: ASYNC110 - of another thread
                await asyncio.sleep(0.01)
        yield

    app.cleanup_ctx.append(load)
    async with runtime:
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            async with asyncio.timeout(LONG):
                assert await left == EXIT_MEMORY
        finally:
            await runner.cleanup()


@pytest.mark.asyncio
async def test_another_way_to_leave() -> None:
    """Called in the loop with the code, once nothing is in flight; nobody ends the process then."""
    app = web.Application()
    setup(app, MemoryConfig(limit="64GiB", log_alerts=False))
    left: asyncio.Future[tuple[int, asyncio.AbstractEventLoop]] = asyncio.get_running_loop().create_future()
    shutdown_on_critical(app, leave=lambda code: left.set_result((code, asyncio.get_running_loop())))
    (hook,) = app[RUNTIME]._response.critical._hooks
    await asyncio.to_thread(hook.function)  # before the app runs: nothing
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        memory = app[RUNTIME]
        permit = memory.admission.acquire_nowait("work")
        await asyncio.to_thread(hook.function)
        assert memory.admission.is_draining
        await asyncio.sleep(0.1)
        assert not left.done()
        permit.record()
        async with asyncio.timeout(LONG):
            assert await left == (EXIT_MEMORY, asyncio.get_running_loop())
        await asyncio.to_thread(hook.function)  # it has begun: nothing
    finally:
        await runner.cleanup()


def app(*, guarded: bool = True, **settings: Any) -> web.Application:
    """An application."""
    made = web.Application()
    if guarded:
        setup(made, MemoryConfig(limit="64GiB", **settings))
    return made


def test_what_cannot_be_is_refused() -> None:
    """With what to do."""
    with pytest.raises(ConfigError, match=r"not guarded; call setup\(app\) first"):
        shutdown_on_critical(app(guarded=False))
    with pytest.raises(ConfigError, match="monitoring is off"):
        shutdown_on_critical(app(monitoring=False))
    for name, value in (("drain", -1.0), ("drain", "5"), ("closing", float("inf")), ("after", float("nan"))):
        with pytest.raises(ConfigError, match=f"{name}="):
            shutdown_on_critical(app(), **{name: value})  # type: ignore[arg-type]
    twice = app()
    shutdown_on_critical(twice)
    with pytest.raises(ConfigError, match="call it once"):
        shutdown_on_critical(twice)
