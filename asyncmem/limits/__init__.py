"""The limits that apply to this process, each with its own meter; the tightest binds.

What is covered: memory cgroups of version 1, version 2 and both side by side, with all ancestors that can be seen;
resource limits; the configured limit; the machine. Each place that was looked at becomes a `Finding`, and "no limit" is
a different one from "could not read".

What is not: how much must stay free below a limit and who may use the rest (`asyncmem.admission`), and what is read to
meter a bound (`asyncmem.sampling`).

::

    finder = discover_limits()
    bound = finder.binding()
    print(bound.name, bound.limit - bound.meter.used(), "bytes left")
"""

from __future__ import annotations

from asyncmem.limits.bounds import Bound, BoundKind, Finding, FindingOutcome, Limits, Place
from asyncmem.limits.finder import LimitFinder
from asyncmem.limits.sources import CgroupSource, ConfiguredSource, GetRlimit, MachineSource, RlimitSource

__all__ = [
    "Bound",
    "BoundKind",
    "CgroupSource",
    "ConfiguredSource",
    "Finding",
    "FindingOutcome",
    "GetRlimit",
    "LimitFinder",
    "Limits",
    "MachineSource",
    "Place",
    "RlimitSource",
    "discover_limits",
]


def discover_limits(configured: int | str | None = None) -> LimitFinder:
    """Find the limits of this process on this system.

    Args:
        configured: The most that this process may use: bytes, text with a unit, or a share such as ``"80%"`` of the
            tightest limit found.

    Raises:
        LimitDiscoveryError: Nothing bounds this process, as far as could be read.
        ConfigError: `configured` is no quantity, or nothing.
    """
    return LimitFinder(configured=configured)
