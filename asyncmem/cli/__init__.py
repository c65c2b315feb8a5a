"""The command line ``asyncmem``, also as ``python -m asyncmem.cli``.

========== ==========================================================
module     command
========== ==========================================================
app        joins the commands, those of other distributions included
doctor     ``asyncmem doctor``: which limit was found, and where
health     ``asyncmem healthcheck``: exit code for a container's probe
settings   ``asyncmem settings``: what is set, and what can be
========== ==========================================================

A distribution adds commands through the entry-point group ``asyncmem.commands``. Results go to stdout, all else to
stderr, in one line. Exit codes: 0 done, 1 the answer is no (not healthy, no limit found), 2 wrong usage or setting.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; what the package needs for it is an extra, so say so where it is missing."""
    try:
        from asyncmem.cli.app import run  # noqa: PLC0415 - so that a missing extra is told and not a traceback
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {"cyclopts", "rich"}:
            raise
        hint = f"asyncmem: the command line needs {package}; install it with: pip install 'asyncmem[cli]'"
        print(hint, file=sys.stderr)  # noqa: T201 - this is the command line
        sys.exit(2)
    sys.exit(run())
