"""``python -m asyncmem_services.embedding``: the same as ``asyncmem serve``."""

from __future__ import annotations

import sys

import cyclopts

from asyncmem_services.embedding.command import EXIT_USAGE, serve

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    app = cyclopts.App(name="python -m asyncmem_services.embedding", result_action="return_value", version_flags=())
    app.default(serve)
    try:
        result = app(arguments, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        sys.stderr.write(f"asyncmem serve: {' '.join(str(error).split())} Try --help.\n")
        return EXIT_USAGE
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
