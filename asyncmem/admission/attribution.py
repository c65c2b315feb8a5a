"""Whose memory is it: what each of the tasks in flight has used at its peak.

The process's growth is one number, and tasks overlap. Each sample of the growth is divided among those in flight in
proportion to what they had reserved: a task that ran alone gets all of it, and equal tasks get equal parts. Nobody is
credited with the whole growth of others. A sample is one division for all, and a task's peak one look-up when it ends.
"""

from __future__ import annotations

from asyncmem.stats import SuffixMaximum

__all__ = ["PeakAttribution"]


class PeakAttribution:
    """Divides the growth of the process among the tasks in flight. Called under the gate's lock."""

    __slots__ = ("_ratios",)

    def __init__(self) -> None:
        self._ratios = SuffixMaximum()

    def begin(self) -> int:
        """A task starts; hand what this returns to `peak`."""
        return self._ratios.position

    def sample(self, growth: float, reserved: int) -> None:
        """Take in a reading.

        Args:
            growth: Bytes that the process uses beyond what it uses idle.
            reserved: Bytes that the tasks in flight had reserved together.
        """
        if reserved > 0:
            self._ratios.add(growth / reserved)

    def peak(self, begun: int, reserved: int) -> float:
        """The part of a task that had reserved so many bytes, at its largest since it began."""
        return self._ratios.since(begun) * reserved

    def idle(self) -> None:
        """Nothing is in flight: nobody will ask about what was."""
        self._ratios.forget()
