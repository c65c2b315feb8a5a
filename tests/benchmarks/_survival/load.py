"""The clients: an open-loop generator in a process of its own, started by `runner`.

python -m tests.benchmarks._survival.load WORKLOAD_FILE PORT OUTCOMES_FILE

It says ``ready``, reads the begin on the monotonic clock from standard input, and sends each request at its time,
whatever became of those before. Seconds count from the scheduled time. A request is given up one second after its
deadline. On SIGTERM what is not answered yet is left out of the outcomes: the runner counts it as lost.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from aiohappyeyeballs import AddrInfoType

from tests.benchmarks._survival.values import WORK_HEADER, Outcome, Request, Workload

GRACE: Final = 1.0
"""Seconds after the deadline in which a late answer is still awaited."""
PIECES: Final = 24
"""Pieces of a body that trickles."""
RETRIED: Final = frozenset({"503", "429", "gave up", "lost"})
BACKOFF: Final = 0.02
"""Seconds between two attempts of a client that heeds no Retry-After."""
SLOW_BUFFER: Final = 64 * 1024
"""Receive buffer in bytes of clients that read slowly: else the kernel reads for them."""
_LATE: Final = 0.002


class Client:
    """Sends the requests of a workload."""

    def __init__(self, workload: Workload, port: int, begin: float) -> None:
        self._workload = workload
        self._base = f"http://127.0.0.1:{port}"
        self._begin = begin
        self.outcomes: list[Outcome] = []

    async def run(self) -> None:
        """Send all, each at its time, and wait for the last."""
        # One connection per request, so that no answer depends on what became of another request.
        fast = aiohttp.TCPConnector(limit=0, force_close=True)
        slow = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_small_socket)
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(self._base, connector=fast, timeout=timeout) as usual,
            aiohttp.ClientSession(self._base, connector=slow, timeout=timeout, read_bufsize=SLOW_BUFFER) as reader,
            asyncio.TaskGroup() as group,
        ):
            for index, request in enumerate(self._workload.requests):
                wait = self._begin + request.at - time.monotonic()
                if wait > _LATE:
                    await asyncio.sleep(wait)
                group.create_task(self._one(reader if request.read_rate else usual, index, request))

    async def _one(self, session: aiohttp.ClientSession, index: int, request: Request) -> None:
        scheduled = self._begin + request.at
        end = scheduled + self._workload.deadline + GRACE
        result, attempt = "gave up", 0
        while attempt < self._workload.attempts and time.monotonic() < end:
            attempt += 1
            if attempt > 1:
                await asyncio.sleep(BACKOFF)
            left = end - time.monotonic()
            patience = left if self._workload.patience is None else min(left, self._workload.patience)
            result = await self._attempt(session, request, patience)
            if result not in RETRIED:
                break
        self.outcomes.append(
            Outcome(index=index, result=result, seconds=time.monotonic() - scheduled, attempts=attempt)
        )

    async def _attempt(self, session: aiohttp.ClientSession, request: Request, patience: float) -> str:
        try:
            async with asyncio.timeout(patience), self._send(session, request) as response:
                if request.read_rate:
                    await _read_slowly(response, request.read_rate)
                else:
                    await response.read()
                return str(response.status)
        except TimeoutError:
            return "gave up"
        except (aiohttp.ClientError, OSError):
            return "lost"

    def _send(self, session: aiohttp.ClientSession, request: Request) -> aiohttp.client._RequestContextManager:
        work = request.work
        stall = self._workload.environment.stall
        if stall is not None:
            work = msgspec.structs.replace(work, stall=(self._begin + stall[0], self._begin + stall[1]))
        headers = {WORK_HEADER: msgspec.json.encode(work).decode()}
        if not request.body:
            return session.get(request.route, headers=headers)
        if not request.trickle:
            return session.post(request.route, headers=headers, data=bytes(request.body))
        headers["Content-Length"] = str(request.body)
        return session.post(request.route, headers=headers, data=_trickle(request.body, request.trickle))


async def _trickle(size: int, seconds: float) -> AsyncIterator[bytes]:
    """A body that comes piece by piece."""
    for piece in range(PIECES):
        yield bytes(size * (piece + 1) // PIECES - size * piece // PIECES)
        await asyncio.sleep(seconds / PIECES)


async def _read_slowly(response: aiohttp.ClientResponse, rate: int) -> None:
    """Read an answer at so many bytes per second."""
    async for piece in response.content.iter_chunked(SLOW_BUFFER):
        await asyncio.sleep(len(piece) / rate)


def _small_socket(address: AddrInfoType) -> socket.socket:
    """A socket whose kernel buffer stays small."""
    made = socket.socket(address[0], address[1], address[2])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
    return made


async def _run(client: Client) -> None:
    task = asyncio.ensure_future(client.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def main() -> None:
    """Send the workload, write the outcomes."""
    workload = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Workload)
    print("ready", flush=True)
    client = Client(workload, int(sys.argv[2]), float(sys.stdin.readline()))
    asyncio.run(_run(client))
    Path(sys.argv[3]).write_bytes(msgspec.json.encode(client.outcomes))


if __name__ == "__main__":
    main()
