"""Runs the reclaimers in order of cost, measures what each gains, and caps the time that all take.

Reclaim that gains nothing and is tried again at once is how a process near its limit spends its last minutes collecting
garbage (OpenTelemetry Collector #4981). Two rules prevent that:

- After a run that took t seconds there is none for 20 t: never more than a twentieth of the time is spent in it. When
  pressure has risen since, one run is let through all the same, and its 20 t are added to what was left: so at most
  three runs, one for each level, come before their time.
- One whose run gained nothing rests, twice as long each time, a second first and five minutes at most (`turns`).

What one frees inside the heap shows only when the heap is trimmed later in the same run, so each is credited with what
was gained from its own begin to the end of the run.

There are two lanes, each with a twentieth of the time: one for what runs nobody's code, and one for all. The watcher's
thread defends the limit through the first, and a user's cache that takes seconds to shrink must not keep it waiting.

Does not cover when memory is short; whoever knows calls `Reclaim.run`, or a person does.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import threading
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from asyncmem._clock import SystemClock
from asyncmem.errors import ConfigError
from asyncmem.events import PressureLevel
from asyncmem.reclaim.protocols import Reclaimer, ReclaimReport, ReclaimResult
from asyncmem.reclaim.shrinkable import Shrinkable
from asyncmem.reclaim.turns import ReclaimerTurn, ShrinkableTurn
from asyncmem.sampling.forks import forget_after_fork
from asyncmem.units import MIB

if TYPE_CHECKING:
    from asyncmem._clock import Clock
    from asyncmem.reclaim.actions import PressureAction
    from asyncmem.reclaim.turns import Turn

__all__ = ["Reclaim", "ReclaimStatistics"]

_TIME_SHARE: Final = 20
_WORTH: Final = MIB
"""Bytes below which a run has gained nothing: the meter moves by as much of its own accord."""
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
    shrinkables: int
    """What there is to shrink; one that nobody holds any more has left by itself."""
    last: ReclaimReport | None
    """The latest run."""


class _Lane:
    """One run at a time, and how much time runs may take. Only who runs in it counts."""

    __slots__ = ("bytes", "due", "errors", "fruitless", "objects", "rank", "running", "runs", "seconds")

    def __init__(self) -> None:
        self.running = threading.Lock()
        self.due = float("-inf")
        self.rank = 0
        """Of the highest level that had a run since the lane was last due."""
        self.runs = self.fruitless = self.bytes = self.objects = self.errors = 0
        self.seconds = 0.0

    def is_open(self, now: float, level: PressureLevel) -> bool:
        return now >= self.due or level.rank > self.rank

    def ran(self, begin: float, now: float, level: PressureLevel, *, force: bool = False) -> None:
        was_due = begin >= self.due
        # What was forced must not put off for ever what is due.
        self.due = max(self.due, (now if force else max(self.due, now)) + _TIME_SHARE * (now - begin))
        self.rank = level.rank if was_due else max(self.rank, level.rank)

    def count(self, report: ReclaimReport) -> None:
        self.runs += 1
        self.fruitless += report.bytes_freed < _WORTH
        self.bytes += report.bytes_freed
        self.objects += report.objects_collected
        self.seconds += report.seconds


class Reclaim:
    """Runs reclaimers. Any thread may ask; one run happens at a time, and who comes second gets an empty report.

    Quiet runs are apart from the others: one of each kind may happen at a time.

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
        self._turns: tuple[Turn, ...] = tuple(sorted(map(ReclaimerTurn, reclaimers), key=_cost))
        self._changing = threading.RLock()  # a finaliser of a cache may want to take it out, in the midst of this
        self._quiet: Final = _Lane()
        self._loud: Final = _Lane()
        self._declined = 0
        self._last: ReclaimReport | None = None
        forget_after_fork(self)

    @property
    def reclaimers(self) -> tuple[Reclaimer | Shrinkable, ...]:
        """What there is to run, in order."""
        found = ((turn, turn.origin) for turn in self._turns)
        return tuple(origin for _, origin in found if isinstance(origin, Reclaimer | Shrinkable))

    def add(self, reclaimer: Reclaimer | Shrinkable, *, keep: bool | None = None) -> None:
        """Take one in, at the place of its cost; among equals, behind those that are there. Twice is once.

        Args:
            reclaimer: A reclaimer, or something shrinkable: that comes at 30 in the order, and at 80 what is essential.
            keep: Whether to keep it alive. None for yes with a reclaimer, and for no with something shrinkable: that
                lives somewhere else, and leaves by itself when nobody holds it any more. Say True for one that is made
                only to be added.

        Raises:
            ConfigError: It is neither, or cannot be held without being kept alive.
        """
        turn = _turn_of(reclaimer, keep=keep)
        with self._changing:
            if all(other.origin is not reclaimer for other in self._turns):
                self._turns = tuple(sorted((*self._living(), turn), key=_cost))

    def remove(self, reclaimer: Reclaimer | Shrinkable) -> None:
        """Take one out.

        Raises:
            ValueError: It is not there.
        """
        with self._changing:
            turns = self._living()
            remaining = tuple(turn for turn in turns if turn.origin is not reclaimer)
            self._turns = remaining
        if len(remaining) == len(turns):
            raise ValueError(f"remove: {reclaimer.name!r} is none of the reclaimers; there are: {self._names()}")

    def run(
        self,
        *,
        wanted: int | None = None,
        quiet: bool = False,
        force: bool = False,
        level: PressureLevel = PressureLevel.LOW,
    ) -> ReclaimReport:
        """Run what is due, until enough is gained.

        Args:
            wanted: Bytes after which it stops; None to run all. Those of one cost all run, or none.
            quiet: Run only what runs nobody's code: the one way that the watcher's thread may use.
            force: Run all, due or not: for people who ask by hand.
            level: What is shrinkable is told this level; nothing is shrunk at `LOW`.

        Returns:
            What came of it; empty where nothing was due or worth trying, or where another run is at it.

        Raises:
            OSError: What is in use cannot be read.
        """
        turns = [
            turn
            for turn in self._turns
            if (turn.quiet or not quiet) and (level > PressureLevel.LOW or not isinstance(turn, ShrinkableTurn))
        ]
        return self._try(self._quiet if quiet else self._loud, turns, level, wanted=wanted, force=force)

    def act(
        self,
        level: PressureLevel,
        kinds: Collection[PressureAction],
        functions: Iterable[Turn] = (),
        *,
        wanted: int | None = None,
        force: bool = False,
        is_over: Callable[[], bool] | None = None,
    ) -> ReclaimReport:
        """Run what the actions of a level call for, as far as it is due; as `run`.

        Args:
            level: The level.
            kinds: Those actions that are built in.
            functions: Those that are functions.
            wanted: Bytes after which it stops.
            force: Whether or not it is due.
            is_over: Asked before each whether to stop.
        """
        turns = sorted((*(turn for turn in self._turns if turn.kind in kinds), *functions), key=_cost)
        return self._try(self._loud, turns, level, wanted=wanted, force=force, is_over=is_over)

    def relax(self) -> bool:
        """Tell what was shrunk that pressure is over.

        Returns:
            False where a run is at it, so that it is to be done again.
        """
        lane = self._loud
        if not lane.running.acquire(blocking=False):
            return False
        try:
            begin = self._clock.monotonic()
            for turn in self._turns:
                if isinstance(turn, ShrinkableTurn) and turn.told > PressureLevel.LOW:
                    _call(turn, PressureLevel.LOW, lane)
            lane.ran(begin, self._clock.monotonic(), PressureLevel.LOW)
        finally:
            lane.running.release()
        return True

    def statistics(self) -> ReclaimStatistics:
        """What has been done until now."""
        quiet, loud = self._quiet, self._loud
        return ReclaimStatistics(
            runs=quiet.runs + loud.runs,
            declined=self._declined,
            fruitless=quiet.fruitless + loud.fruitless,
            bytes_freed=quiet.bytes + loud.bytes,
            objects_collected=quiet.objects + loud.objects,
            seconds=quiet.seconds + loud.seconds,
            errors=quiet.errors + loud.errors,
            shrinkables=sum(isinstance(turn, ShrinkableTurn) and turn.origin is not None for turn in self._turns),
            last=self._last,
        )

    def after_fork(self) -> None:
        """Forget runs that other threads were at."""
        self._changing = threading.RLock()
        self._quiet.running = threading.Lock()
        self._loud.running = threading.Lock()

    def _living(self) -> tuple[Turn, ...]:
        return tuple(turn for turn in self._turns if turn.origin is not None)

    def _try(
        self,
        lane: _Lane,
        turns: Iterable[Turn],
        level: PressureLevel,
        *,
        wanted: int | None,
        force: bool,
        is_over: Callable[[], bool] | None = None,
    ) -> ReclaimReport:
        running = lane.running  # a fork inside of the run puts another one there
        if not running.acquire(blocking=False):
            self._declined += 1
            return _NOTHING
        try:
            begin = self._clock.monotonic()
            due = [turn for turn in turns if force or (lane.is_open(begin, level) and turn.is_due(begin, level))]
            if not due:
                self._declined += 1
                return _NOTHING
            return self._run(lane, due, level, begin, wanted, is_over, force=force)
        finally:
            running.release()

    def _run(  # noqa: PLR0917 - what `_try` has found out
        self,
        lane: _Lane,
        turns: list[Turn],
        level: PressureLevel,
        begin: float,
        wanted: int | None,
        is_over: Callable[[], bool] | None,
        *,
        force: bool,
    ) -> ReclaimReport:
        objects = _collected()
        first = used = self._meter()
        now = begin
        results: list[ReclaimResult] = []
        tried: list[tuple[Turn, int, int]] = []
        cost = turns[0].cost
        try:
            for turn in turns:
                is_enough = wanted is not None and first - used >= wanted and turn.cost > cost and bool(results)
                if is_enough or (is_over is not None and is_over()):
                    break
                cost, before, started = turn.cost, used, now
                said, error = _call(turn, level, lane)
                now, used = self._clock.monotonic(), self._meter()
                if said == 0:  # it was not worth trying, so that it has not failed
                    continue
                tried.append((turn, before, said or 0))
                results.append(
                    ReclaimResult(
                        name=turn.name,
                        bytes_freed=max(0, before - used, said or 0),
                        seconds=now - started,
                        error=error,
                    )
                )
        finally:
            now = self._clock.monotonic()
            lane.ran(begin, now, level, force=force)
            for turn, before, said in tried:
                turn.ran(begin, now, level, gained=max(before - used, said) >= _WORTH)
        if not results:
            return _NOTHING
        report = ReclaimReport(
            objects_collected=max(0, _collected() - objects),
            bytes_freed=max(0, first - used),
            seconds=now - begin,
            actions=tuple(results),
        )
        lane.count(report)
        self._last = report
        return report

    def _names(self) -> str:
        return ", ".join(turn.name for turn in self._turns) or "none"


def _call(turn: Turn, level: PressureLevel, lane: _Lane) -> tuple[int | None, str | None]:
    try:
        said = turn.run(level)
    except Exception as error:  # noqa: BLE001 - one that fails must not keep the others from running
        lane.errors += 1
        what = f"{type(error).__name__}: {error}"
        if not turn.has_failed:
            turn.has_failed = True
            with contextlib.suppress(Exception):
                structlog.get_logger("asyncmem").warning("reclaimer_failed", reclaimer=turn.name, error=what)
        return None, what
    return (max(0, said) if isinstance(said, int) and not isinstance(said, bool) else None), None


def _turn_of(reclaimer: object, *, keep: bool | None) -> Turn:
    if not isinstance(reclaimer, type):
        if isinstance(reclaimer, Reclaimer):
            return ReclaimerTurn(reclaimer)
        if isinstance(reclaimer, Shrinkable):
            if inspect.iscoroutinefunction(reclaimer.shrink):
                raise ConfigError(
                    f"add: {reclaimer.name!r} has a coroutine function as shrink; it is called in a thread, so make "
                    "it a plain one"
                )
            try:
                return ShrinkableTurn(reclaimer, keep=bool(keep))
            except TypeError as error:
                raise ConfigError(
                    f"add: {reclaimer.name!r} cannot be held without being kept alive ({error}); pass keep=True, or "
                    "give its class a __weakref__ slot"
                ) from None
    raise ConfigError(
        f"add: got {reclaimer!r}; expected a Shrinkable (name, essential, shrink) or a Reclaimer (name, cost, quiet, "
        "rest, reclaim)"
    )


def _cost(turn: Turn) -> int:
    return turn.cost


def _collected() -> int:
    return sum(generation["collected"] for generation in gc.get_stats())
