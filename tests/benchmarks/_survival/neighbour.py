"""A process beside the server, started by `runner` in a cgroup of its choice.

python -m tests.benchmarks._survival.neighbour hold BYTES SECONDS_FROM SECONDS_UNTIL
python -m tests.benchmarks._survival.neighbour read FILE

The first grows by degrees to so many bytes and gives them back; it reads the begin on the monotonic clock from
standard input. The second reads a file again and again, so that its pages fill the cache of the cgroup.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

STEPS: Final = 20
STEP_SECONDS: Final = 0.1
PIECE: Final = 4 * 1024 * 1024
READ_SECONDS: Final = 0.008
"""Pause after each piece: some 400 MiB/s are read."""


def hold(size: int, since: float, until: float) -> None:
    """Grow within two seconds, hold, and let go."""
    begin = float(sys.stdin.readline())
    _sleep_until(begin + since)
    blocks = []
    for _ in range(STEPS):
        blocks.append(bytearray(size // STEPS))
        time.sleep(STEP_SECONDS)
    _sleep_until(begin + until)
    blocks.clear()


def read(path: Path) -> None:
    """Read a file until killed."""
    buffer = bytearray(PIECE)
    with path.open("rb", buffering=0) as file:
        while True:
            if not file.readinto(buffer):
                file.seek(0)
            time.sleep(READ_SECONDS)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def main() -> None:
    """Do as told."""
    if sys.argv[1] == "hold":
        hold(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
    else:
        read(Path(sys.argv[2]))


if __name__ == "__main__":
    main()
