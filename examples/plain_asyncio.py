"""Admission without any framework: twenty jobs of 40 MiB under a limit that lets only some of them run at a time.

    python examples/plain_asyncio.py

The limit is set 256 MiB above what the process uses already, so the example behaves the same on every machine.
"""

from __future__ import annotations

import asyncio

from asyncmem import MemoryConfig, MemoryRuntime, format_bytes, parse_bytes
from asyncmem.sampling import default_sampler

JOB = parse_bytes("40MiB")


async def job(memory: MemoryRuntime, running: set[int], number: int) -> int:
    """Hold 40 MiB for a moment; returns how many jobs ran side by side."""
    async with memory.guard("job", cost=JOB) as permit:
        running.add(number)
        side_by_side = len(running)
        block = bytearray(permit.reserved)
        await asyncio.sleep(0.05)
        del block
        running.remove(number)
        return side_by_side


async def main() -> None:
    """Run twenty jobs at once and let admission sort them out."""
    limit = default_sampler().working_set() + parse_bytes("256MiB")
    async with MemoryRuntime(MemoryConfig(limit=limit)) as memory:
        running: set[int] = set()
        counts = await asyncio.gather(*(job(memory, running, number) for number in range(20)))
        statistics = memory.statistics().admission
    print(f"limit {format_bytes(limit)}, each job {format_bytes(JOB)}")
    print(f"{statistics.admitted} jobs done, at most {max(counts)} side by side")
    print(f"{statistics.reserved} bytes reserved now")


if __name__ == "__main__":
    asyncio.run(main())
