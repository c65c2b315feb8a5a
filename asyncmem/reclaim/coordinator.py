"""Runs the reclaimers in order of cost, measures what each gains, and caps the time that all take.

Reclaim that gains nothing and is tried again at once is how a process near its limit spends its last minutes collecting
garbage (OpenTelemetry Collector #4981). Two rules prevent that:

- After a run that took t seconds there is none for 20 t: never more than a twentieth of the time is spent in it.
- A reclaimer whose run gained nothing rests, twice as long each time, a second first and five minutes at most.

What one frees inside the heap shows only when the heap is trimmed later in the same run, so each is credited with what
was gained from its own begin to the end of the run.

Does not cover when memory is short; whoever knows calls `Reclaim.run`, or a person does.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from asyncmem._clock import SystemClock
from asyncmem.reclaim.protocols import ReclaimReport, ReclaimResult
from asyncmem.sampling.forks import forget_after_fork
from asyncmem.units import MIB

if TYPE_CHECKING:
    from asyncmem._clock import Clock
    from asyncmem.reclaim.protocols import Reclaimer

__all__ = ["Reclaim", "ReclaimStatistics"]

_TIME_SHARE: Final = 20
_WORTH: Final = MIB
"""Bytes below which a run has gained nothing: the meter moves by as much of its own accord."""
_FIRST_REST: Final = 1.0
_LONGEST_REST: Final = 300.0
_NOTHING: Final = ReclaimReport()


class ReclaimStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a `Reclaim` has done."""

    runs: int
    """Runs in which a reclaimer was run."""
    declined: int
    """Runs that were asked for too early, or while another one was at it, and so did nothing."""
    fruitless: int
    """Runs that gained less than 1 MiB."""
    bytes_freed: int
    """Bytes gained by all runs."""
    objects_collected: int
    """Objects freed by the garbage collector during all runs."""
    seconds: float
    """Time spent in all runs."""
    errors: int
    """What reclaimers have raised."""
    last: ReclaimReport | None
    """The latest run."""


class _Turn:
    """One reclaimer and when it may run next."""

    __slots__ = ("due", "fruitless", "reclaimer")

    def __init__(self, reclaimer: Reclaimer) -> None:
        self.reclaimer: Final = reclaimer
        self.due = float("-inf")
        self.fruitless = 0

    def rest(self, now: float, *, gained: bool) -> None:
        self.fruitless = 0 if gained else self.fruitless + 1
        back_off = 0.0 if gained else min(_FIRST_REST * 2.0 ** (self.fruitless - 1), _LONGEST_REST)
        self.due = now + max(self.reclaimer.rest, back_off)


class Reclaim:
    """Runs reclaimers. Any thread may ask; one run happens at a time, and who comes second gets an empty report.

    Args:
        meter: Bytes in use, for measuring gains.
        reclaimers: What there is to run; see `add`.
        clock: Where time comes from.
    """

    def __init__(
        self, meter: Callable[[], int], reclaimers: Iterable[Reclaimer] = (), *, clock: Clock | None = None
    ) -> None:
        self._meter: Final = meter
        self._clock: Final = SystemClock() if clock is None else clock
        self._turns = tuple(sorted(map(_Turn, reclaimers), key=_cost))
        self._due = float("-inf")
        self._running = threading.Lock()
        self._runs = self._declined = self._fruitless = self._bytes = self._objects = self._errors = 0
        self._seconds = 0.0
        self._last: ReclaimReport | None = None
        forget_after_fork(self)

    @property
    def reclaimers(self) -> tuple[Reclaimer, ...]:
        """What there is to run, in order."""
        return tuple(turn.reclaimer for turn in self._turns)

    def add(self, reclaimer: Reclaimer) -> None:
        """Take one in, at the place of its cost; among equals, behind those that are there."""
        self._turns = tuple(sorted((*self._turns, _Turn(reclaimer)), key=_cost))

    def remove(self, reclaimer: Reclaimer) -> None:
        """Take one out.

        Raises:
            ValueError: It is not there.
        """
        remaining = tuple(turn for turn in self._turns if turn.reclaimer is not reclaimer)
        if len(remaining) == len(self._turns):
            raise ValueError(f"remove: {reclaimer.name!r} is none of the reclaimers; there are: {self._names()}")
        self._turns = remaining

    def run(self, *, wanted: int | None = None, quiet: bool = False, force: bool = False) -> ReclaimReport:
        """Run what is due, until enough is gained.

        Args:
            wanted: Bytes after which it stops; None to run all.
            quiet: Run only what runs nobody's code: the one way that the watcher's thread may use.
            force: Run all, due or not: for people who ask by hand.

        Returns:
            What came of it; empty where nothing was due or worth trying, or where another run is at it.

        Raises:
            OSError: What is in use cannot be read.
        """
        if not self._running.acquire(blocking=False):
            self._declined += 1
            return _NOTHING
        try:
            begin = self._clock.monotonic()
            turns = [
                turn
                for turn in self._turns
                if (turn.reclaimer.quiet or not quiet) and (force or (begin >= self._due and begin >= turn.due))
            ]
            if not turns:
                self._declined += 1
                return _NOTHING
            return self._run(turns, begin, wanted)
        finally:
            self._running.release()

    def statistics(self) -> ReclaimStatistics:
        """What has been done until now."""
        return ReclaimStatistics(
            runs=self._runs,
            declined=self._declined,
            fruitless=self._fruitless,
            bytes_freed=self._bytes,
            objects_collected=self._objects,
            seconds=self._seconds,
            errors=self._errors,
            last=self._last,
        )

    def after_fork(self) -> None:
        """Forget a run that another thread was at."""
        self._running = threading.Lock()

    def _run(self, turns: list[_Turn], begin: float, wanted: int | None) -> ReclaimReport:
        objects = _collected()
        first = used = self._meter()
        now = begin
        results: list[ReclaimResult] = []
        tried: list[tuple[_Turn, int, int]] = []
        try:
            for turn in turns:
                before, started = used, now
                said, error = self._reclaim(turn.reclaimer)
                now, used = self._clock.monotonic(), self._meter()
                if said == 0:  # it was not worth trying, so that it has not failed
                    continue
                tried.append((turn, before, said or 0))
                results.append(
                    ReclaimResult(
                        name=turn.reclaimer.name,
                        bytes_freed=max(0, before - used, said or 0),
                        seconds=now - started,
                        error=error,
                    )
                )
                if wanted is not None and first - used >= wanted:
                    break
        finally:
            now = self._clock.monotonic()
            self._due = now + _TIME_SHARE * (now - begin)
            for turn, before, said in tried:
                turn.rest(now, gained=max(before - used, said) >= _WORTH)
        if not results:
            return _NOTHING
        report = ReclaimReport(
            objects_collected=max(0, _collected() - objects),
            bytes_freed=max(0, first - used),
            seconds=now - begin,
            actions=tuple(results),
        )
        self._count(report)
        return report

    def _reclaim(self, reclaimer: Reclaimer) -> tuple[int | None, str | None]:
        try:
            return reclaimer.reclaim(), None
        except Exception as error:  # noqa: BLE001 - a hook that fails must not keep the others from running
            self._errors += 1
            return None, f"{type(error).__name__}: {error}"

    def _count(self, report: ReclaimReport) -> None:
        self._runs += 1
        self._fruitless += report.bytes_freed < _WORTH
        self._bytes += report.bytes_freed
        self._objects += report.objects_collected
        self._seconds += report.seconds
        self._last = report

    def _names(self) -> str:
        return ", ".join(turn.reclaimer.name for turn in self._turns) or "none"


def _cost(turn: _Turn) -> int:
    return turn.reclaimer.cost


def _collected() -> int:
    return sum(generation["collected"] for generation in gc.get_stats())
