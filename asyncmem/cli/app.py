"""Joins the commands into one application, and turns errors into one line and an exit code."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points, version

import cyclopts

from asyncmem.cli.doctor import doctor
from asyncmem.cli.health import healthcheck
from asyncmem.cli.settings import settings
from asyncmem.errors import AsyncmemError, ConfigError

__all__ = ["COMMANDS_GROUP", "build_app", "run"]

COMMANDS_GROUP = "asyncmem.commands"
"""Entry points of this group are commands: the name is the command's, the object a function for cyclopts."""


def build_app() -> cyclopts.App:
    """The application with all commands that are installed; none of another distribution replaces one that is there."""
    app = cyclopts.App(
        name="asyncmem",
        help="Memory as a scheduled resource for async Python.",
        version=lambda: version("asyncmem"),
        result_action="return_value",
    )
    app.command(doctor)
    app.command(healthcheck)
    app.command(settings)
    taken = {*app}
    for entry in entry_points(group=COMMANDS_GROUP):
        if entry.name in taken:
            continue
        taken.add(entry.name)
        # Looked up by name and loaded only when it is called: a service may import gigabytes. So the list of commands
        # cannot say what it does, but whose it is.
        group = "Commands" if entry.dist is None else f"Commands of {entry.dist.name}"
        app.command(f"{entry.module}:{entry.attr}", name=entry.name, group=group)
    return app


def run(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        result = build_app()(arguments, exit_on_error=False, print_error=False)
    except (cyclopts.CycloptsError, AsyncmemError) as error:
        print(f"asyncmem: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201 - this is the command line
        return 2 if isinstance(error, cyclopts.CycloptsError | ConfigError) else 1
    return result if isinstance(result, int) else 0
