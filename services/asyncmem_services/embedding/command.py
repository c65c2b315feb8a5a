"""``asyncmem serve``, and ``python -m asyncmem_services.embedding``: the service as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import sys
from typing import Final, Literal

import structlog
from aiohttp import web

from asyncmem import AsyncmemError, ConfigError, MemoryConfig, format_bytes
from asyncmem.middleware.aiohttp import RUNTIME
from asyncmem_services.embedding.app import SERVICE, WARM_UP, create_app
from asyncmem_services.embedding.logs import configure_logging, quieten_libraries
from asyncmem_services.embedding.models import DEFAULT_MODEL, resolve
from asyncmem_services.embedding.service import EmbeddingService

__all__ = ["EXIT_MODEL", "EXIT_PORT", "EXIT_USAGE", "serve"]

EXIT_USAGE: Final = 2
"""An argument or a setting is wrong."""
EXIT_MODEL: Final = 3
"""The model is none."""
EXIT_PORT: Final = 4
"""The address cannot be listened on."""
_EXIT_INTERRUPTED: Final = 130
"""Interrupted a second time, as shells say it."""

_GRACE_SECONDS: Final = 25.0
"""Longest wait for requests in flight: below the 30 s after which Kubernetes kills."""
_BACKLOG: Final = 1024
_LARGEST_PORT: Final = 65535

_log = structlog.get_logger(__name__)


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    model: str = DEFAULT_MODEL,
    limit: str | None = None,
    batch_size: int = 32,
    log_format: Literal["console", "json"] = "console",
) -> int:
    """Serve text embeddings over HTTP, in OpenAI's format, guarded against running out of memory.

    What to try is printed to stdout once the model is ready; the log goes to stderr. Ctrl-C or SIGTERM let requests
    in flight finish.

    Exit codes: 0 stopped by a signal, 2 wrong usage or setting, 3 not a model, 4 the port is taken or the address
    cannot be listened on.

    Args:
        host: The address to listen on; 0.0.0.0 for all.
        port: The port; 0 for any that is free.
        model: A name, or a folder with a sentence-transformers or transformers model.
        limit: The most memory that the process may use, such as 2GiB or 80%. Without it, what the kernel enforces.
        batch_size: Most texts that go through the model together.
        log_format: console for people, json for machines.
    """
    quieten_libraries()
    configure_logging(log_format)
    try:
        if not 0 <= port <= _LARGEST_PORT:
            raise ConfigError(f"port: got {port}; expected 0 to {_LARGEST_PORT}")
        config = MemoryConfig.load(limit=limit)
        service = EmbeddingService(model, batch_size=batch_size)
        app = create_app(service, config)
    except AsyncmemError as error:
        return _refuse(EXIT_USAGE, str(error))
    try:
        resolve(model)
    except ConfigError as error:
        return _refuse(EXIT_MODEL, str(error))
    try:
        listener = _listen(host, port)
    except OSError as error:
        # The text repeats the address; only for a name that is not known, whose number is negative, it is all there is.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        return _refuse(EXIT_PORT, f"cannot listen on {host} port {port}: {reason.lower()}; see --host and --port")
    try:
        asyncio.run(_run(app, listener, host))
    except AsyncmemError as error:
        return _refuse(EXIT_USAGE, str(error))
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    return 0


def _refuse(code: int, message: str) -> int:
    sys.stderr.write(f"asyncmem serve: {message}\n")
    return code


def _listen(host: str, port: int) -> socket.socket:
    """Open the socket before anything is loaded, so that a taken port is told at once."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family, backlog=_BACKLOG)


async def _run(app: web.Application, listener: socket.socket, host: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE_SECONDS)
    async with app[SERVICE]:
        try:
            await runner.setup()
            await web.SockSite(runner, listener).start()
            announcing = asyncio.create_task(_announce(app, _url(host, listener.getsockname()[1])))
            await stop.wait()
            announcing.cancel()
            _log.info("embedding.stopping", grace_seconds=_GRACE_SECONDS)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)  # the next one ends the process at once
        finally:
            await runner.cleanup()
    _log.info("embedding.stopped", texts=app[SERVICE].statistics().texts)


async def _announce(app: web.Application, url: str) -> None:
    """Say where the service is once it is ready."""
    service, bound = app[SERVICE], app[RUNTIME].limits.binding()
    _log.info("embedding.listening", url=url)
    await app[WARM_UP].wait()
    if app[WARM_UP].has_failed:  # the reason is in the log already
        return
    example = json.dumps({"model": service.model_name, "input": "hello"}, separators=(",", ":"))
    sys.stdout.write(
        f"ready: {url} serves {service.model_name} ({service.dimension} dimensions)\n"
        f"memory limit: {format_bytes(bound.limit)}, from {bound.source}\n"
        "try:\n"
        f"  curl -s {url}/v1/embeddings -H 'content-type: application/json' -d {shlex.quote(example)}\n"
    )
    sys.stdout.flush()


def _url(host: str, port: int) -> str:
    """An address that works where the service runs: one that means all addresses is shown as this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
