"""Memory that is what you say it is."""

from __future__ import annotations

from asyncmem._protocols import ProcessMemory
from asyncmem.limits import Bound, BoundKind
from asyncmem.sampling import ProcessMeter
from asyncmem.units import parse_bytes

__all__ = ["SyntheticLimits", "SyntheticSampler"]


class SyntheticSampler:
    """A process whose working set is set by hand; stands where a `ProcessSampler` or a `MachineSampler` is asked for.

    Args:
        working_set: Bytes, or text such as ``"40MiB"``.
        machine: Bytes of the machine it runs on.
    """

    def __init__(self, working_set: int | str = 0, *, machine: int | str = "16GiB") -> None:
        self.used = parse_bytes(working_set)
        """Bytes of the working set; set it as you like."""
        self.error: Exception | None = None
        """Raised by every reading while it is set."""
        self._machine = parse_bytes(machine)

    def read(self) -> ProcessMemory:
        """The working set, which is all there is."""
        used = self.working_set()
        return ProcessMemory(rss=used, vms=used, working_set=used, data=used)

    def working_set(self) -> int:
        """Bytes, as set."""
        return self._checked(self.used)

    def threads(self) -> int:
        """One."""
        return self._checked(1)

    def open_files(self) -> int:
        """None."""
        return self._checked(0)

    def total(self) -> int:
        """Bytes of the machine."""
        return self._checked(self._machine)

    def available(self) -> int:
        """Bytes of the machine that this process does not use."""
        return self._checked(max(0, self._machine - self.used))

    def _checked(self, value: int) -> int:
        if self.error is not None:
            raise self.error
        return value


class SyntheticLimits:
    """One limit that is set by hand; stands where `Limits` are asked for.

    Args:
        sampler: Measures what is used of it.
        limit: Bytes, or text such as ``"256MiB"``.
        enforced: Whether it is one that the kernel kills at.
    """

    def __init__(self, sampler: SyntheticSampler, limit: int | str, *, enforced: bool = True) -> None:
        self._meter = ProcessMeter(sampler, "working_set")
        self._enforced = enforced
        self._next = self.bounds = self._made(limit)

    def resize(self, limit: int | str) -> None:
        """Change the limit; it is seen at the next `refresh`."""
        self._next = self._made(limit)

    def refresh(self) -> bool:
        """Take over what `resize` has set; returns whether that changed anything."""
        changed = self.has_changed()
        self.bounds = self._next
        return changed

    def has_changed(self) -> bool:
        """Whether `resize` has set something else since."""
        return self._next != self.bounds

    def binding(self) -> Bound:
        """The one bound there is."""
        return self.bounds[0]

    def _made(self, limit: int | str) -> tuple[Bound, ...]:
        kind = BoundKind.CGROUP if self._enforced else BoundKind.CONFIGURED
        return (Bound("synthetic", kind, parse_bytes(limit), "synthetic", self._meter),)
