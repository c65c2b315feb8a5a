"""Ten thousand clients at once: connects all, then has all of them ask, and counts the answers; writes them as JSON.

python crowd.py PORT PATH CLIENTS
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter


async def main(port: int, path: str, clients: int) -> None:
    """Connect, ask, count."""
    connecting = asyncio.Semaphore(500)

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with connecting:
            return await asyncio.open_connection("127.0.0.1", port, limit=4096)

    connections = await asyncio.gather(*(connect() for _ in range(clients)))
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        try:
            writer.write(head)
            status = (await reader.readline()).decode().split()
            while await reader.read(4096):
                pass
            return status[1] if len(status) > 1 else "nothing"
        except OSError as error:
            return type(error).__name__
        finally:
            writer.close()

    answers = Counter(await asyncio.gather(*(ask(*connection) for connection in connections)))
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
