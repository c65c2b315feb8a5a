"""Run all benchmarks, or those that are named: ``python -m tests.benchmarks [NAME …]``, or ``make bench ONLY=NAME``.

Each is a module of this folder with a function ``main() -> dict`` that prints its table and returns its figures, which
are written to ``.bench/NAME.json``. A benchmark is no test: it does not fail on a slow machine.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / ".bench"


def run(names: list[str]) -> int:
    """Run the named benchmarks; returns the exit code."""
    known = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    RESULTS.mkdir(exist_ok=True)
    for name in names or known:
        print(f"== {name}", flush=True)
        figures = importlib.import_module(f"tests.benchmarks.{name}").main()
        (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
