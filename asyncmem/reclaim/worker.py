"""The thread that runs a level's actions.

The watcher's thread sees the level, but runs nobody's code: a finaliser or a cache's lock could keep it from seeing
what comes next. The event loop must not wait for a cache to shrink either, and there may be none. So there is a thread
of its own, started when pressure begins, and ended when it is over or the runtime stops; a calm process has none.

It runs the actions of the newest level, again each second while that lasts, as far as `Reclaim` lets it: a level that
has changed meanwhile ends the run after the reclaimer that is at it. Each second it also has memory looked at, for an
idle process is looked at seldom, and is not to stay at a level that is over. Nothing waits for it but `stop`, and that
not for long: what still runs then is left behind in a daemon thread.

Does not cover what the actions are (`actions`) nor how much time they may take (`coordinator`).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from asyncmem.events import PressureLevel
from asyncmem.reclaim.actions import PressureAction
from asyncmem.reclaim.turns import ActionTurn
from asyncmem.sampling.forks import forget_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.reclaim.actions import PressureActions
    from asyncmem.reclaim.coordinator import Reclaim

__all__ = ["ActionStatistics", "ActionWorker"]

_AGAIN_SECONDS: Final = 1.0
"""While a level lasts, what is due is run as often as this; a thread that could not be started is tried again."""
_STATES: Final = frozenset({PressureAction.SHED_LOW})
"""Actions that are nothing to run: others look whether they hold."""


class ActionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What an `ActionWorker` has done. What came of it says `ReclaimStatistics`."""

    level: PressureLevel
    """The level that it was told last."""
    rounds: int
    """How often it has looked for something to do."""
    errors: int
    """How often a round failed, or its thread could not be started. Errors of actions count in `ReclaimStatistics`."""
    last_error: str | None
    """Type and message of the last of these."""
    running: bool
    """Whether its thread runs."""


class ActionWorker:
    """Runs the actions of the pressure level, in a daemon thread.

    In a forked child the thread does not exist; it starts anew when the level calls for it there.

    Args:
        reclaim: Runs them, and caps their time.
        actions: What there is to do.
        prompt: Called after each round: memory is to be looked at, so that a level that is over is found out.
    """

    def __init__(self, reclaim: Reclaim, actions: PressureActions, *, prompt: Callable[[], object]) -> None:
        self._reclaim: Final = reclaim
        self._prompt: Final = prompt
        self._kinds: Final = {level: actions.named(level) - _STATES for level in PressureLevel}
        self._functions: Final = {level: tuple(map(ActionTurn, actions.functions(level))) for level in PressureLevel}
        self._level = PressureLevel.LOW
        self._excess = 0
        self._retry_at = float("-inf")
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # a finaliser may stop the runtime, in the midst of starting a thread
        self._news = threading.Event()
        self._rounds = self._errors = 0
        self._last_error: str | None = None
        forget_after_fork(self)

    def update(self, level: PressureLevel, excess: int) -> None:
        """Take in the level; called by one thread, with each sample. It costs well below a microsecond, mostly.

        Args:
            level: The pressure level.
            excess: Bytes that must come back before it is left.
        """
        self._excess = excess
        if level is self._level:
            if level is PressureLevel.LOW or self._thread is not None:
                return
        else:
            self._level = level
            self._news.set()
        if self._thread is None and (level is not PressureLevel.LOW or self._functions[level]):
            self._start()

    def stop(self, timeout: float = 1.0) -> None:
        """End the thread, and wait for it so many seconds at most; an action that takes longer is left behind."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        self._news.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def statistics(self) -> ActionStatistics:
        """What has been done until now."""
        thread = self._thread
        return ActionStatistics(
            level=self._level,
            rounds=self._rounds,
            errors=self._errors,
            last_error=self._last_error,
            running=thread is not None and thread.is_alive(),
        )

    def after_fork(self) -> None:
        """Forget the thread, which is in the parent, and the locks, which another thread may have held."""
        self._thread = None
        self._lock = threading.RLock()
        self._news = threading.Event()

    def _start(self) -> None:
        now = time.monotonic()
        if now < self._retry_at:
            return
        with self._lock:
            if self._stopped or self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="asyncmem-reclaim", daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError) as error:
                # Where memory is that short, admission has to do without.
                self._retry_at = now + _AGAIN_SECONDS
                self._failed(error)
            else:
                self._thread = thread

    def _run(self) -> None:
        try:
            while not self._has_ended():
                self._news.wait(_AGAIN_SECONDS)
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _has_ended(self) -> bool:
        """One round; returns whether it was the last."""
        self._news.clear()  # before the level is read: one that comes from here on rings again
        level = self._level
        is_done = False
        self._rounds += 1
        try:
            is_done = self._act(level)
        except BaseException as error:  # noqa: BLE001 - whatever user's code does, there is another round
            self._failed(error)
        if self._stopped:
            if PressureAction.RELAX in self._kinds[PressureLevel.LOW]:
                self._reclaim.relax()  # nobody else will ever tell them
            return True
        with self._lock:
            if is_done and self._level is PressureLevel.LOW:
                self._thread = None  # under the lock: who sees another level from here on starts a new one
                return True
        return False

    def _act(self, level: PressureLevel) -> bool:
        """Do what a level calls for; returns whether there is nothing left to do at it."""
        kinds, functions = self._kinds[level], self._functions[level]
        if level is PressureLevel.LOW:
            if PressureAction.RELAX in kinds and not self._reclaim.relax():
                return False
            if functions:
                self._reclaim.act(level, (), functions, force=True)
            return True
        if self._excess > 0:  # else it is about to be left
            self._reclaim.act(
                level,
                kinds,
                functions,
                wanted=self._excess,
                is_over=lambda: self._stopped or self._level is not level,
            )
        self._prompt()
        return False

    def _failed(self, error: BaseException) -> None:
        self._errors += 1
        self._last_error = f"{type(error).__name__}: {error}"
        if self._errors == 1:
            structlog.get_logger("asyncmem").warning("memory_actions_failed", error=self._last_error)
