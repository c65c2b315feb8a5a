"""A graceful shutdown for a process whose memory stays critical: stop accepting, drain, and exit with a code.

It is for what admission cannot mend: a leak, a heap in fragments, a neighbour that takes ever more. A new process
begins small; so whoever supervises this one (Kubernetes, systemd) is to start it again, before the kernel kills it with
all that it is at.

In order: readiness fails, and new requests are refused with 503, ``Retry-After`` and ``Connection: close``, as are
those that wait; requests in flight, and the work that they ask for, go on until they have ended or the deadline passes;
then `SystemExit` is raised in the event loop, which has `web.run_app` (and asyncio's own `run`) close the sockets and
clean up; and if that takes too long, or the loop is stuck, the process ends at once. The code is the same either way,
and two lines in the log say why.

Does not cover when pressure is critical (`asyncmem.pressure`), nor for how long it has to be
(`asyncmem.reclaim.critical`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from asyncmem.errors import ConfigError
from asyncmem.events import PressureLevel
from asyncmem.middleware.aiohttp.attaching import RUNTIME
from asyncmem.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.runtime import MemoryRuntime

__all__ = ["EXIT_MEMORY", "shutdown_on_critical"]

EXIT_MEMORY: Final = 75
"""The exit code of a process that has shut itself down because memory stayed critical: ``EX_TEMPFAIL`` of sysexits.h.

A kernel's kill gives 137, an unhandled exception 1, and a shutdown by SIGTERM 0."""

_LOOK_SECONDS: Final = 0.05
_SPARE_SECONDS: Final = 60.0

_log = structlog.get_logger("asyncmem")


def shutdown_on_critical(
    app: web.Application,
    *,
    after: float = 5.0,
    drain: float = 10.0,
    closing: float = 10.0,
    leave: Callable[[int], object] | None = None,
) -> None:
    """Have a guarded application shut itself down when memory stays critical.

    ::

        setup(app)
        shutdown_on_critical(app, after=5.0, drain=20.0)
        web.run_app(app)                                     # exits with EXIT_MEMORY, 75

    Args:
        app: An application that `setup` guards; call this before it runs. Its monitoring must be on.
        after: Seconds that memory must be inside the guard band before that; seconds outside are counted off. Under
            load a moment is nothing out of the way.
        drain: Seconds that requests in flight are given to end.
        closing: Seconds after these for closing connections, clean-up and the interpreter's own end. What drain has
            left running is given `web.run_app`'s ``shutdown_timeout`` in there, and then cancelled.
        leave: Called in the event loop with the exit code instead of raising `SystemExit` there, for servers that want
            to be told otherwise; nothing then ends the process by force.

    Raises:
        ConfigError: The application is not guarded, has this already, or the seconds are none.
    """
    if RUNTIME not in app:
        raise ConfigError("shutdown_on_critical(app): this application is not guarded; call setup(app) first")
    if not app[RUNTIME].config.monitoring:
        raise ConfigError("shutdown_on_critical(app): monitoring is off, so nobody would notice; switch it on")
    if _SHUTDOWN in app:
        raise ConfigError("shutdown_on_critical(app): this application has that already; call it once")
    for name, seconds in (("drain", drain), ("closing", closing)):
        if type(seconds) not in {int, float} or not 0 <= seconds < math.inf:
            raise ConfigError(f"shutdown_on_critical: {name}={seconds!r}; expected seconds from 0")
    shutdown = _Shutdown(app[RUNTIME], after=after, drain=drain, closing=closing, leave=leave)
    app[RUNTIME].on_critical(shutdown.begin, after=after, timeout=drain + closing + _SPARE_SECONDS)
    app[_SHUTDOWN] = shutdown
    app.on_startup.append(shutdown.remember_loop)


class _Shutdown:
    """The shutdown of one application.

    Args:
        memory: Its runtime.
        after: As of `shutdown_on_critical`, for the log.
        drain: Likewise.
        closing: Likewise.
        leave: Likewise.
    """

    def __init__(
        self,
        memory: MemoryRuntime,
        *,
        after: float,
        drain: float,
        closing: float,
        leave: Callable[[int], object] | None,
    ) -> None:
        self._memory: Final = memory
        self._after: Final = after
        self._drain_seconds: Final = drain
        self._closing: Final = closing
        self._leave: Final = leave
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_due = False

    async def remember_loop(self, _app: web.Application) -> None:
        """Know where to drain, and begin where memory was critical all along and still is."""
        self._loop = asyncio.get_running_loop()
        if self._is_due and self._memory.pressure.level is PressureLevel.CRITICAL:
            threading.Thread(target=self.begin, name="asyncmem-on-critical", daemon=True).start()

    def begin(self) -> None:
        """Begin; called in a thread of its own, which sees to it that there is an end."""
        if self._loop is None:
            self._is_due = True  # not yet serving: it is looked at again when it does
            return
        if self._memory.admission.is_draining:  # shutting down already
            return
        used, limit, guard = self._memory.admission.tightest()
        _say(
            "memory_shutdown",
            reason=f"memory was inside the guard band for {self._after:g} s",
            working_set=format_bytes(used),
            limit=format_bytes(limit),
            guard_band=format_bytes(guard),
            in_flight=self._memory.statistics().admission.in_flight,
            drain=self._drain_seconds,
            exit_code=EXIT_MEMORY,
        )
        self._memory.admission.drain()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is about to end anyway
            self._loop.call_soon_threadsafe(self._start)
        if self._leave is None:
            time.sleep(self._drain_seconds + self._closing)
            _say("memory_shutdown_forced", reason="the process did not end by itself", exit_code=EXIT_MEMORY)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):  # closed, or a pipe that nobody reads
                    stream.flush()
            os._exit(EXIT_MEMORY)

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._drain(), name="asyncmem-drain")

    async def _drain(self) -> None:
        end = time.monotonic() + self._drain_seconds
        while (  # noqa: ASYNC110 - permits end in many places, and nobody has to know of this one
            in_flight := self._memory.statistics().admission.in_flight
        ) and time.monotonic() < end:
            await asyncio.sleep(_LOOK_SECONDS)
        _say("memory_shutdown_leaves", in_flight=in_flight, exit_code=EXIT_MEMORY)
        if self._leave is not None:
            self._leave(EXIT_MEMORY)
        else:
            # Out of a callback and not out of this task: a task keeps what it raises, and would raise it again.
            asyncio.get_running_loop().call_soon(_exit)


_SHUTDOWN: Final = web.AppKey("asyncmem_shutdown", _Shutdown)


def _say(event: str, **fields: object) -> None:
    """Log, where that can be done: a pipe that nobody reads must not keep the process from ending."""
    with contextlib.suppress(Exception):
        _log.error(event, **fields)


def _exit() -> None:
    raise SystemExit(EXIT_MEMORY)
