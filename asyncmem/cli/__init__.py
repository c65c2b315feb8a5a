"""The command line ``asyncmem``.

========== ==========================================================
module     command
========== ==========================================================
app        joins the commands, those of other distributions included
doctor     ``asyncmem doctor``: which limit was found, and where
health     ``asyncmem healthcheck``: exit code for a container's probe
settings   ``asyncmem settings``: what is set, and what can be
========== ==========================================================

A distribution adds commands through the entry-point group ``asyncmem.commands``. Exit codes: 0 done, 1 the answer is
no (not healthy), 2 wrong usage or setting.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; what the package needs for it is an extra, so say so where it is missing."""
    try:
        from asyncmem.cli.app import run  # noqa: PLC0415 - so that a missing extra is told and not a traceback
    except ModuleNotFoundError as error:
        if error.name not in {"cyclopts", "rich"}:
            raise
        sys.exit(f"asyncmem: the command line needs {error.name}; install it with: pip install 'asyncmem[cli]'")
    sys.exit(run())
