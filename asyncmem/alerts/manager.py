"""The alert manager: takes snapshots and events, gives alerts to handlers, streams and the history.

Whoever is told hears transitions only (something begins, changes its level, has ended), never the samples between
them; `asyncmem.alerts.episodes` decides which those are, by the thresholds of `asyncmem.alerts.rules`.

All state is behind one plain lock, so that the sampling thread and the loop may both call. An alert enters the history
and all buffers in one step under it, in one order for all; nothing of the user's runs under it. How alerts travel on is
in `asyncmem.alerts.handlers` and `asyncmem.alerts.streams`.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Self

import anyio
import anyio.abc

from asyncmem._clock import Clock, SystemClock
from asyncmem.alerts.delivery import AlertHandler, Handler
from asyncmem.alerts.episodes import Episodes, Moment, Report, Transition
from asyncmem.alerts.growth import Growth
from asyncmem.alerts.handlers import Handlers, Subscription
from asyncmem.alerts.presets import PRESETS
from asyncmem.alerts.rules import RULES, Reading, Threshold, level_of
from asyncmem.alerts.streams import AlertStream, Streams
from asyncmem.alerts.tally import AlertStatistics, AlertSummary, Tally
from asyncmem.errors import ConfigError
from asyncmem.events import AdmissionOutlook, AlertLevel, AlertType, MemoryAlert, MemorySnapshot
from asyncmem.sampling.forks import forget_after_fork

__all__ = ["AlertManager"]

_SYSTEM_CLOCK: Final = SystemClock()


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


class AlertManager:
    """Raises alerts at thresholds and delivers them. A new one has no thresholds; see `with_defaults`.

    Args:
        clock: Where time comes from.
        history: How many alerts `history` keeps.
        cooldown: Seconds for which a condition must have stayed better before its alert eases or is resolved: a value
            that flaps is one episode.

    Raises:
        ConfigError: The history is no whole number from 0, or the cooldown no number of seconds from 0.
    """

    def __init__(self, *, clock: Clock = _SYSTEM_CLOCK, history: int = 1000, cooldown: float = 30.0) -> None:
        if not _is_time(cooldown):
            raise ConfigError(f"cooldown={cooldown!r} is no time; expected seconds from 0")
        if type(history) is not int or history < 0:
            raise ConfigError(f"history={history!r} is no length; expected a whole number from 0")
        self._clock = clock
        self._lock = threading.Lock()
        self._tally = Tally()
        self._episodes = Episodes(cooldown=cooldown)
        self._growth = Growth()
        self.outlook: Callable[[], AdmissionOutlook] | None = None
        """Asked for what admission does, for each alert that is raised; None where there is no admission."""
        self._handlers = Handlers(self._lock)
        self._streams = Streams(self._lock, self._tally)
        self._history: deque[MemoryAlert] = deque(maxlen=history)
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Let go of the lock, which a thread of the parent may have held; all parts share it, so it stays the same."""
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001 - as the standard library's own do

    @classmethod
    def with_defaults(
        cls,
        preset: str | None = None,
        *,
        clock: Clock = _SYSTEM_CLOCK,
        history: int = 1000,
        cooldown: float = 30.0,
    ) -> Self:
        """Make a manager with thresholds that suit most services.

        Args:
            preset: ``"default"`` (also None): working set above 80 and 90 % of the limit (warning, critical), less than
                500 and 200 MiB available to the system, growth of 100 and 500 MiB since the baseline, and of 50 and 100
                MiB per hour. ``"conservative"``: working set above 50 and 75 %, resident memory above 1024, 2048, 3500
                MiB (from info on), the rest the same. ``"none"``: nothing.
            clock: As for the class.
            history: As for the class.
            cooldown: As for the class.

        Raises:
            ConfigError: There is no such preset.
        """
        name = "default" if preset is None else preset
        if name not in PRESETS:
            raise ConfigError(f"{preset!r} is no preset of thresholds; expected {', '.join(PRESETS)}")
        manager = cls(clock=clock, history=history, cooldown=cooldown)
        manager._episodes = Episodes(PRESETS[name], cooldown=cooldown)
        return manager

    def set_threshold(
        self,
        level: AlertLevel | str,
        *,
        percent: float | None = None,
        rss_mb: float | None = None,
        available_mb: float | None = None,
        headroom_mb: float | None = None,
        growth_mb: float | None = None,
        growth_mb_per_hour: float | None = None,
    ) -> None:
        """Set, or replace, the threshold of one level; exactly one of the keywords is given.

        A level is entered past its threshold and left when the value is back by 5 % of it (`rules.HYSTERESIS`).

        Args:
            level: The level, or its name.
            percent: Fires above so many percent of the limit in the working set.
            rss_mb: Fires above so many MiB of the process's resident memory.
            available_mb: Fires below so many MiB available to the whole system.
            headroom_mb: Fires while admission may promise less than so many MiB; never where there is no admission.
            growth_mb: Fires when resident memory is more than so many MiB above the baseline (`set_baseline`), less
                what work in flight is believed to hold.
            growth_mb_per_hour: Fires when it grows by more than so many MiB per hour, half an hour after the first
                snapshot at the earliest; see `asyncmem.alerts.growth`.

        Raises:
            ConfigError: An unknown level, none or several keywords, a number out of range, or levels that contradict.
        """
        values = {
            "percent": percent,
            "rss_mb": rss_mb,
            "available_mb": available_mb,
            "headroom_mb": headroom_mb,
            "growth_mb": growth_mb,
            "growth_mb_per_hour": growth_mb_per_hour,
        }
        with self._lock:
            self._episodes.set_threshold(level_of(level), values)

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """The thresholds that are set, by rule and level."""
        with self._lock:
            return self._episodes.thresholds

    def check_thresholds(self, snapshot: MemorySnapshot) -> list[MemoryAlert]:
        """Judge one snapshot, and tell handlers, streams and history what has changed. May be called from any thread.

        Returns the most serious alert of each rule that fires at this very snapshot, at each call anew. Hysteresis has
        no part in that: `active` says what is firing with it.
        """
        moment = self._moment()
        outlook = moment.outlook()
        with self._lock:
            self._growth.update(snapshot)
            reading = Reading(
                snapshot,
                None if outlook is None else outlook.headroom,
                self._growth.since_baseline(snapshot) - (0 if outlook is None else outlook.held),
                self._growth.per_hour,
            )
            judgement = self._episodes.judge(reading, moment)
            told = judgement.transitions + self._episodes.settle(moment)
            steps = [step for transition in told for step in self._put(transition)]
        for step in steps:
            step()
        return judgement.firing

    def would_raise(self, *, percent: float) -> bool:
        """Whether a snapshot with so many percent of the limit in the working set would give a new or graver alert.

        For looks between two snapshots: in some 2 µs it says whether it is worth taking one.
        """
        with self._lock:
            return self._episodes.would_raise("percent", percent)

    def set_baseline(self, snapshot: MemorySnapshot | None = None) -> None:
        """Count growth from a snapshot on, or from the next one that is checked; by default it is the first.

        A runtime has it follow until the first work is admitted, for five minutes at most: what a service takes while
        it starts is no growth.
        """
        with self._lock:
            self._growth.set_baseline(snapshot)

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Count no growth inside the block, where a model is loaded or a cache is filled; from then on it counts."""
        with self._lock:
            self._growth.starting += 1
            self._growth.set_baseline(None)
        try:
            yield
        finally:
            with self._lock:
                self._growth.starting -= 1
                self._growth.set_baseline(None)

    def follow_baseline(self, snapshot: MemorySnapshot) -> None:
        """Count growth from a snapshot on, unless `set_baseline` was called."""
        with self._lock:
            self._growth.follow_baseline(snapshot)

    def report(
        self,
        condition: str,
        level: AlertLevel | str | None,
        message: str,
        *,
        alert_type: AlertType = AlertType.HIGH_MEMORY,
        value: float | None = None,
        threshold: float | None = None,
        snapshot: MemorySnapshot | None = None,
    ) -> None:
        """Say where a condition is that this manager does not judge itself; may be called often, from any thread.

        It has an episode like those of thresholds: told when it begins, changes its level, and has ended. Where it is
        reported lower, and then no more, `check_thresholds` ends it when the cooldown is over.

        Args:
            condition: Its name, which becomes `MemoryAlert.rule`.
            level: The level that it is at; None for none.
            message: One sentence for people, with the numbers; used where there is something to tell.
            alert_type: What its alerts are about.
            value: What was measured.
            threshold: What it was measured against.
            snapshot: The reading that shows it.

        Raises:
            ConfigError: There is no such level, or a rule has that name.
        """
        if condition in RULES:
            raise ConfigError(f"{condition!r} is the name of a rule; expected another one, or use set_threshold")
        at = None if level is None else level_of(level)
        if at is None and not self._episodes.is_active(condition):
            return
        report = Report(condition, at, alert_type, message, value, threshold, snapshot)
        moment = self._moment()
        with self._lock:
            transition = self._episodes.report(report, moment)
            steps = [] if transition is None else self._put(transition)
        for step in steps:
            step()

    def is_firing(self, condition: str) -> bool:
        """Whether a rule or a condition that is reported has an episode that is firing; takes no lock."""
        return self._episodes.is_active(condition)

    def end(self, message: str) -> None:
        """Resolve all that is firing, because nobody looks any more; for shutdown, before `drain`."""
        moment = self._moment()
        with self._lock:
            steps = [step for transition in self._episodes.end(message, moment) for step in self._put(transition)]
        for step in steps:
            step()

    def emit(self, alert: MemoryAlert) -> None:
        """Deliver an alert that was made elsewhere; it is no episode of this manager. May be called from any thread."""
        with self._lock:
            steps = self._put(Transition(alert, frozenset({alert.level})))
        for step in steps:
            step()

    def add_handler(
        self,
        fn: AlertHandler,
        levels: Iterable[AlertLevel | str] | None = None,
        *,
        immediate: bool = False,
        timeout: float | None = None,
        max_queue: int = 256,
    ) -> Subscription:
        """Have a function called for each alert; an error in it is counted, and logged the first time, never raised.

        Async functions are awaited on the loop, others called in a worker thread, one alert at a time and in order,
        while `run` runs; until then alerts wait.

        Args:
            fn: Takes the alert. An async one must let itself be cancelled; a sync one that never returns keeps its
                thread, and on asyncio the interpreter from exiting.
            levels: The levels that are wanted; None for all. The end of an episode comes to everybody who wanted one
                of the levels that it was at.
            immediate: Call it where the alert is raised, in whatever thread, with or without a loop. For functions
                that are quick, thread-safe, never block and raise no alerts.
            timeout: Seconds that one call may take, then it counts as timed out. An async call is cancelled; a sync
                one cannot be, and keeps the handler busy. None for as long as the handler says it needs in an
                attribute ``handler_timeout``, as sinks that retry do, and for 5 where it has none.
            max_queue: Alerts that may wait for this handler; beyond it the oldest are dropped and counted.

        Returns:
            The registration, whose ``remove()`` ends it.

        Raises:
            ConfigError: An argument that cannot be, or an immediate coroutine function.
        """
        handler = Handler(
            fn,
            levels,
            immediate=immediate,
            timeout=timeout,
            max_queue=max_queue,
            lock=self._lock,
            tally=self._tally,
            told=self._handled,
        )
        return self._handlers.add(handler)

    def remove_handler(self, fn: AlertHandler) -> bool:
        """End all registrations of a function, also from within it; returns whether there was one."""
        return self._handlers.remove(fn)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve the handlers until cancelled, and calls under way with it; `RuntimeError` where it runs already."""
        await self._handlers.serve(task_status)

    async def drain(self, timeout: float = 1.0) -> bool:  # noqa: ASYNC109 - shutdown names its bound in one place
        """Wait until the handlers have dealt with all alerts; for shutdown, before `run` is cancelled.

        Gives up after `timeout` seconds, or at once where `run` does not run; returns whether nothing is left.
        """
        return await self._handlers.drain(timeout)

    def stream(self, max_buffer: int = 256) -> AlertStream:
        """Open a stream of all alerts from now on; beyond `max_buffer` (from 1) that wait, the oldest are dropped."""
        return self._streams.open(max_buffer)

    def close_streams(self) -> None:
        """End all streams; their consumers still get what is buffered. For shutdown."""
        self._streams.close()

    @property
    def history(self) -> tuple[MemoryAlert, ...]:
        """The last alerts that were sent out, oldest first."""
        with self._lock:
            return tuple(self._history)

    @property
    def active(self) -> tuple[MemoryAlert, ...]:
        """The latest alert of each episode that is firing now, of thresholds and of conditions that were reported."""
        with self._lock:
            return self._episodes.active

    def summary(self) -> AlertSummary:
        """What the alerts were about, counted."""
        with self._lock:
            return self._tally.summary(active=len(self._episodes.active))

    def statistics(self) -> AlertStatistics:
        """How the alerts travelled, counted."""
        with self._lock:
            return self._tally.statistics(
                streams=self._streams.count(), handlers=self._handlers.count(), queued=self._handlers.queued()
            )

    def _handled(self, condition: str, trouble: str | None) -> None:
        """A handler's call has ended; that it fails is an alert for the others, and its end another."""
        self.report(
            condition,
            None if trouble is None else AlertLevel.WARNING,
            f"the alert {condition} " + ("works again" if trouble is None else trouble),
            alert_type=AlertType.HANDLER_FAILED,
        )

    def _moment(self) -> Moment:
        return Moment(self._clock.now(), self._clock.monotonic(), functools.cache(self._ask))

    def _ask(self) -> AdmissionOutlook | None:
        if self.outlook is None:
            return None
        try:
            return self.outlook()
        except Exception:  # noqa: BLE001 - an alert without it is better than none
            return None

    def _put(self, transition: Transition) -> list[Callable[[], object]]:
        self._history.append(transition.alert)
        self._tally.add(transition.alert)
        # Waking before calling: an immediate handler that takes its time delays only its own thread.
        return self._streams.put(transition.alert) + self._handlers.put(transition.alert, transition.levels)
