"""A client in a process of its own: asks one port over keep-alive connections, one request after the other.

``python -m tests.benchmarks._alerts.asking PORT CONNECTIONS``; asks until it is killed. `ask` is for others who have
a loop.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from typing import Final

__all__ = ["ANSWER", "ask"]

ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, until: float) -> int:
    """Ask until it is `until` by `time.perf_counter`; returns how often it was answered."""
    answered = 0
    while time.perf_counter() < until:
        writer.write(_REQUEST)
        await reader.readuntil(b"hi")
        answered += 1
    return answered


async def _main(port: int, connections: int) -> None:
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
    await asyncio.gather(*(ask(*each, math.inf) for each in streams))


if __name__ == "__main__":
    asyncio.run(_main(*map(int, sys.argv[1:])))
