"""What importing asyncmem costs beyond its dependencies, and what an idle runtime costs.

Each import runs in a fresh interpreter: one imports the dependencies alone (anyio, structlog, psutil, msgspec), the
other these and then asyncmem. Rounds alternate; the median of the differences counts. To reach: at most 60 ms and
8 MiB, an idle runtime below 1 % of a processor.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

ROUNDS = 21
IDLE_SECONDS = 10

IMPORT = """
import json, sys, time
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
import anyio, structlog, psutil, msgspec
memory, begin = rss(), time.perf_counter()
import asyncmem
print(json.dumps({"ms": (time.perf_counter() - begin) * 1000, "mib": (rss() - memory) / 2**20,
                  "heavy": [m for m in ("torch", "pandas", "pyarrow", "scipy", "aiohttp", "pydantic", "numpy")
                            if m in sys.modules]}))
"""

IDLE = f"""
import anyio, json, time
from asyncmem import MemoryRuntime
async def main():
    async with MemoryRuntime():
        await anyio.sleep(1)
        begin, wall = time.process_time(), time.perf_counter()
        await anyio.sleep({IDLE_SECONDS})
        print(json.dumps(100 * (time.process_time() - begin) / (time.perf_counter() - wall)))
anyio.run(main)
"""


def _fresh(program: str) -> object:
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> dict[str, object]:
    """Measure, print a table, return the figures."""
    rounds = [_fresh(IMPORT) for _ in range(ROUNDS)]
    milliseconds = [entry["ms"] for entry in rounds]  # type: ignore[index]
    mebibytes = [entry["mib"] for entry in rounds]  # type: ignore[index]
    figures: dict[str, object] = {
        "import_ms": statistics.median(milliseconds),
        "import_ms_spread": [min(milliseconds), max(milliseconds)],
        "import_mib": statistics.median(mebibytes),
        "import_mib_spread": [min(mebibytes), max(mebibytes)],
        "heavy_modules": rounds[0]["heavy"],  # type: ignore[index]
        "idle_cpu_percent": _fresh(IDLE),
    }
    for name, value in figures.items():
        print(f"{name:>20}  {value}")
    return figures
