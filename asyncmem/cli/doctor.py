"""``asyncmem doctor``: which limit was found, where, and how much of it is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter
from rich.console import Console

from asyncmem.admission import guard_band
from asyncmem.config import MemoryConfig
from asyncmem.limits import BoundKind, FindingOutcome, LimitFinder
from asyncmem.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BoundReport", "FindingReport", "Report", "doctor", "examine", "text"]

_HEADING = "bold"
_BINDING = "green"


class BoundReport(msgspec.Struct, frozen=True, kw_only=True):
    """One limit that applies to the process; `used` and `limit` in bytes."""

    name: str
    kind: BoundKind
    limit: int
    used: int
    source: str
    enforced: bool


class FindingReport(msgspec.Struct, frozen=True, kw_only=True):
    """One place that was looked at; `value` in bytes."""

    source: str
    path: str
    outcome: FindingOutcome
    value: int | None
    detail: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``asyncmem doctor`` says; the figures, in bytes, are those of the bound that binds."""

    limit: int
    kind: BoundKind
    source: str
    enforced: bool
    guard_band: int
    capacity: int
    used: int
    free: int
    bounds: tuple[BoundReport, ...]
    findings: tuple[FindingReport, ...]


def doctor(*, json: Annotated[bool, Parameter(negative=(), show_default=False)] = False) -> int:
    """Say which memory limit binds this process, where it was found, and what else was looked at.

    Run it where the service runs, in the same container. With the service's environment it applies its settings.

    Args:
        json: Write JSON instead of text; figures are bytes.
    """
    config = MemoryConfig.load()
    report = examine(LimitFinder(configured=config.limit), config.guard_band)
    if json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())  # noqa: T201 - the command's result
        return 0
    console = Console(highlight=False)
    for line, style in text(report):
        # Lines are not wrapped, so that paths can be copied; not markup, as paths may hold brackets.
        console.print(line, style=style, markup=False, soft_wrap=True)
    return 0


def examine(finder: LimitFinder, configured_guard_band: int | str | None = None) -> Report:
    """Measure every bound now.

    Args:
        finder: Has looked for the limits.
        configured_guard_band: Bytes or a share; None for the default.
    """
    binding = finder.binding()
    guard = guard_band(binding.limit, configured_guard_band)
    used = binding.meter.used()
    capacity = binding.limit - guard
    return Report(
        limit=binding.limit,
        kind=binding.kind,
        source=binding.source,
        enforced=binding.enforced,
        guard_band=guard,
        capacity=capacity,
        used=used,
        free=max(0, capacity - used),
        bounds=tuple(
            BoundReport(
                name=bound.name,
                kind=bound.kind,
                limit=bound.limit,
                used=bound.meter.used(),
                source=bound.source,
                enforced=bound.enforced,
            )
            for bound in finder.bounds
        ),
        findings=tuple(
            FindingReport(source=f.source, path=f.path, outcome=f.outcome, value=f.value, detail=f.detail)
            for f in finder.findings
        ),
    )


def text(report: Report) -> Iterable[tuple[str, str | None]]:
    """The report as lines for people, each with its style; what may be long comes last in its line."""
    yield _figure("limit", report.limit, _where(report)), _HEADING
    yield _figure("guard band", report.guard_band, "kept free below the limit for what was not foreseen"), None
    yield _figure("in use", report.used, ""), None
    yield _figure("free", report.free, "for work"), None
    yield "", None
    yield "Looked at (* binds now):", _HEADING
    sources = max(len(finding.source) for finding in report.findings)
    for finding in report.findings:
        binds = finding.path == report.source
        line = f"{'*' if binds else ' '} {_outcome(finding):<10}  {finding.source:<{sources}}  {_place(finding)}"
        yield line, _BINDING if binds else None


def _figure(name: str, value: int, note: str) -> str:
    return f"{name:<10}  {format_bytes(value):>10}  {note}".rstrip()


def _where(report: Report) -> str:
    """Where the limit that binds comes from, and what it is worth."""
    match report.kind:
        case BoundKind.CONFIGURED:
            return "from the settings; the kernel does not enforce it"
        case BoundKind.MACHINE:
            return f"from {report.source}: nothing else limits this process"
        case BoundKind.RLIMIT:
            return f"from {report.source}: beyond it allocations fail"
        case BoundKind.CGROUP if not report.enforced:
            return f"from {report.source}: beyond it the kernel slows the process down"
        case BoundKind.CGROUP:
            return f"from {report.source}"


def _outcome(finding: FindingReport) -> str:
    match finding.outcome:
        case FindingOutcome.UNLIMITED:
            return "no limit"
        case FindingOutcome.LIMIT if finding.value is not None:
            return format_bytes(finding.value)
        case _:
            return finding.outcome.value


def _place(finding: FindingReport) -> str:
    """The place, and what is to be said of it beyond its outcome."""
    if finding.path == finding.source:
        return finding.detail
    return f"{finding.path}  ({finding.detail})" if finding.outcome is FindingOutcome.UNREADABLE else finding.path
