"""Memory over time while a burst arrives, without and with the middleware, under a real cgroup of 256 MiB.

Sixty requests at once, each of which takes 20 MiB for 0.2 s some time after it was let in. Needs root and the memory
controller of cgroup version 1. Draws ``.bench/burst.svg``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp

APP = Path(__file__).parents[1] / "data" / "allocating_app.py"
PICTURE = Path(__file__).parents[2] / ".bench" / "burst.svg"
CGROUP = Path("/sys/fs/cgroup/memory/asyncmem-bench-burst")
LIMIT_MIB, REQUESTS, MIB, SECONDS = 256, 60, 20, 0.2
PERIOD = 0.005
PORT = 18_231


def measure(mode: str) -> tuple[list[tuple[float, float]], Counter[str]]:
    """Memory of the cgroup in MiB by time in seconds, and the outcomes of the requests."""
    CGROUP.mkdir()
    try:
        (CGROUP / "memory.limit_in_bytes").write_text(f"{LIMIT_MIB}M")
        inside = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(CGROUP), sys.executable, str(APP)]
        with subprocess.Popen([*inside, str(PORT), mode]) as process:
            try:
                return asyncio.run(_send())
            finally:
                process.kill()
    finally:
        for _ in range(100):
            with contextlib.suppress(OSError):
                CGROUP.rmdir()
                break
            time.sleep(0.05)


async def _send() -> tuple[list[tuple[float, float]], Counter[str]]:
    """Send all requests at once, and watch the cgroup from before the first to after the last."""
    samples: list[tuple[float, float]] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{PORT}", connector=connector) as session:
        await _until_alive(session)
        begin = time.perf_counter()

        async def watch() -> None:
            while True:
                samples.append((time.perf_counter() - begin, _usage_mib()))
                await asyncio.sleep(PERIOD)

        async def one() -> str:
            try:
                async with session.get("/allocate", params={"mib": MIB, "seconds": SECONDS}) as response:
                    return str(response.status)
            except aiohttp.ClientError:
                return "lost"

        watcher = asyncio.ensure_future(watch())
        await asyncio.sleep(0.3)
        outcomes = Counter(await asyncio.gather(*(one() for _ in range(REQUESTS))))
        await asyncio.sleep(0.3)
        watcher.cancel()
    return samples, outcomes


def _usage_mib() -> float:
    return int((CGROUP / "memory.usage_in_bytes").read_bytes()) / 2**20


async def _until_alive(session: aiohttp.ClientSession) -> None:
    for _ in range(400):
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with session.get("/livez"):
                return
        await asyncio.sleep(0.05)
    raise TimeoutError("the app did not start")


def draw(curves: dict[str, tuple[list[tuple[float, float]], str]]) -> str:
    """A picture of memory over time: curves by label, each with its colour, against the limit."""
    width, height, left, top = 720, 260, 56, 24
    last = max(t for points, _ in curves.values() for t, _ in points)
    highest = LIMIT_MIB * 1.15

    def at(seconds: float, mib: float) -> str:
        return f"{left + seconds / last * width:.1f},{top + height - mib / highest * height:.1f}"

    def level(mib: float) -> float:
        return top + height - mib / highest * height

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {top + height + 44}" '
            'font-family="sans-serif" font-size="13">'
        ),
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    parts += [
        f'<text x="{left - 8}" y="{level(mib) + 4:.1f}" text-anchor="end" fill="#555">{mib}</text>'
        f'<line x1="{left}" x2="{left + width}" y1="{level(mib):.1f}" y2="{level(mib):.1f}" stroke="#eee"/>'
        for mib in (0, 64, 128, 192, 256)
    ]
    for second in range(int(last) + 1):
        x = left + second / last * width
        parts.append(f'<text x="{x:.1f}" y="{top + height + 18}" text-anchor="middle" fill="#555">{second} s</text>')
    parts += [
        (
            f'<line x1="{left}" x2="{left + width}" y1="{level(LIMIT_MIB):.1f}" y2="{level(LIMIT_MIB):.1f}" '
            'stroke="#c62828" stroke-dasharray="6 4"/>'
        ),
        (
            f'<text x="{left + 6}" y="{level(LIMIT_MIB) - 6:.1f}" fill="#c62828">limit of the container: '
            f"{LIMIT_MIB} MiB</text>"
        ),
    ]
    for row, (label, (points, colour)) in enumerate(curves.items()):
        line = " ".join(at(t, mib) for t, mib in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(
            f'<text x="{left + width - 6}" y="{level(LIMIT_MIB) + 20 + 18 * row:.1f}" text-anchor="end" '
            f'fill="{colour}">{label}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> dict[str, object]:
    """Run both, print what became of the requests, draw the picture."""
    if os.geteuid() != 0 or not CGROUP.parent.is_dir():
        print("burst: needs root and the memory controller of cgroup version 1; not run")
        return {"run": False}
    bare, lost = measure("bare")
    guarded, served = measure("guarded")
    PICTURE.write_text(
        draw(
            {
                f"without asyncmem: killed, {lost['lost']} of {REQUESTS} requests lost": (bare, "#8d6e63"),
                f"with asyncmem: {served['200']} of {REQUESTS} requests served": (guarded, "#1565c0"),
            }
        )
    )
    figures: dict[str, object] = {
        "run": True,
        "without": dict(lost),
        "with": dict(served),
        "peak_mib_with": max(mib for _, mib in guarded),
        "seconds_with": guarded[-1][0] - 0.6,
    }
    for name, value in figures.items():
        print(f"{name:>16}  {value}")
    print(f"picture: {PICTURE}")
    return figures
