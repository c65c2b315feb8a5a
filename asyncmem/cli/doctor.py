"""``asyncmem doctor``: which limit was found, where, and how much of it is free."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from asyncmem.admission import guard_band
from asyncmem.config import MemoryConfig
from asyncmem.limits import LimitFinder
from asyncmem.units import format_bytes

__all__ = ["doctor"]


def doctor(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Say which memory limit binds this process, where it was found, and what else was looked at.

    Run it where the service runs, in the same container. With the service's environment it applies its settings.

    Args:
        json: Write JSON instead of tables.
    """
    config = MemoryConfig.load()
    finder = LimitFinder(configured=config.limit)
    binding = finder.binding()
    guard = guard_band(binding.limit, config.guard_band)
    used = binding.meter.used()
    report: dict[str, Any] = {
        "limit": binding.limit,
        "kind": binding.kind.value,
        "source": binding.source,
        "enforced": binding.enforced,
        "guard_band": guard,
        "capacity": binding.limit - guard,
        "used": used,
        "bounds": [
            {"name": b.name, "kind": b.kind.value, "limit": b.limit, "used": b.meter.used(), "source": b.source}
            for b in finder.bounds
        ],
        "findings": [
            {
                "source": f.source,
                "path": f.path,
                "outcome": f.outcome.value,
                "value": f.value,
                "detail": f.detail,
            }
            for f in finder.findings
        ],
    }
    if json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())  # noqa: T201 - the command's result
        return 0
    console = Console(soft_wrap=True)
    console.print(
        f"[bold]limit[/bold] {format_bytes(binding.limit)}, found in {binding.source}"
        + ("" if binding.enforced else " (not enforced by the kernel)")
    )
    console.print(
        f"      {format_bytes(guard)} of it are the guard band, {format_bytes(used)} are in use, "
        f"{format_bytes(max(0, binding.limit - guard - used))} are free for work"
    )
    table = Table("looked at", "where", "outcome", "value", "note", title="what was looked at", title_justify="left")
    for finding in finder.findings:
        table.add_row(
            finding.source,
            finding.path,
            finding.outcome.value,
            "" if finding.value is None else format_bytes(finding.value),
            finding.detail or "",
        )
    console.print(table)
    return 0
