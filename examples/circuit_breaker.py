"""A circuit breaker alone: work is refused while memory is short, tried when it may be enough, and then goes on.

    python examples/circuit_breaker.py

A cache grows by 32 MiB with each job, until less than 40 MiB are left below a limit that is set 128 MiB above what the
process uses at the start. Then the breaker opens. The cache is cleared, one job goes through to try, and it closes.
"""

from __future__ import annotations

import asyncio

from asyncmem import BreakerState, CircuitBreaker, CircuitOpenError, parse_bytes
from asyncmem.sampling import default_sampler

working_set = default_sampler().working_set
LIMIT = working_set() + parse_bytes("128MiB")
JOB = parse_bytes("32MiB")


def show(before: BreakerState, after: BreakerState) -> None:
    """Tell of a change; a service would raise an alert."""
    print(f"  breaker: {before} -> {after}")


# Without `measure` it is the limit that binds this process: its cgroup's, for example.
breaker = CircuitBreaker(
    headroom="40MiB", measure=lambda: (working_set(), LIMIT), backoff=0.1, reuse=0.0, on_change=show
)


@breaker
async def job(cache: list[bytes]) -> None:
    """Leave 32 MiB in the cache."""
    cache.append(b"x" * JOB)
    await asyncio.sleep(0)


async def main() -> None:
    """Work until the breaker opens, and again when it lets something through."""
    cache: list[bytes] = []
    for number in range(1, 8):
        try:
            await job(cache)
            print(f"job {number} done")
        except CircuitOpenError as refusal:
            print(f"job {number} refused: {refusal}")
            cache.clear()
            await asyncio.sleep(refusal.retry_after)
    statistics = breaker.statistics()
    print(f"opened: {statistics.opened}, jobs refused: {statistics.rejected}, let through to try: {statistics.probes}")


if __name__ == "__main__":
    asyncio.run(main())
