"""Ten thousand clients at once on one app: everybody gets an answer, no permit is lost, memory is flat afterwards."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import not_here
from tests.survival.conftest import DATA

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

pytestmark = pytest.mark.asyncio

CLIENTS = 10_000
LIMIT_MIB = 768
MIB = 1024 * 1024


async def crowd(base: str, path: str) -> dict[str, int]:
    """Have a process of ten thousand clients ask; returns how often each answer came."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(DATA / "crowd.py"),
        base.rsplit(":", 1)[1],
        path,
        str(CLIENTS),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    answers: dict[str, int] = json.loads(output)
    return answers


@pytest.mark.timeout(600)
async def test_ten_thousand_clients_at_once(
    memory_cgroup: Any, serve: Callable[..., Any], session: aiohttp.ClientSession
) -> None:
    """All connect before any asks. Three rounds: what the first has grown is reused by those that follow.

    Flat is told by the blocks that Python has in use afterwards, to a tenth of one per client. Bytes vary with how many
    were inside at once, by what the allocator keeps of that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CLIENTS + 500:
        not_here(f"the limit of descriptors here is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * CLIENTS)), hard))
    try:
        app = serve("hungry_app.py", LIMIT_MIB)
        await app.until_alive(session)
        blocks, sizes, admitted = [], [], 0
        for _ in range(3):
            answers = await crowd(app.base, "/tiny")
            assert sum(answers.values()) == CLIENTS
            assert set(answers) <= {"200", "429", "503"}, answers
            assert answers["200"] > 0, answers
            while (statistics := await app.statistics(session))["in_flight"]:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
            assert (statistics["reserved"], statistics["queued"]) == (0, 0)
            assert statistics["rejected_idle"] == 0
            assert statistics["admitted"] - admitted == answers["200"], "who is let in is served, and nobody else"
            admitted = statistics["admitted"]
            blocks.append(statistics["blocks"])
            sizes.append(statistics["working_set"] / MIB)
        assert max(blocks[1:]) - blocks[0] < CLIENTS // 10, blocks
        assert max(sizes) < LIMIT_MIB // 2, sizes
        assert await app.end() == 0
        assert memory_cgroup.oom_kills == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
