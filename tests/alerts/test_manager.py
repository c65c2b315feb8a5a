"""History, summary and statistics of the manager."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import msgspec
import pytest

from asyncmem.alerts import AlertManager
from asyncmem.errors import ConfigError
from asyncmem.events import AlertLevel, AlertType, MemoryAlert, MemorySnapshot

INFO, WARNING, CRITICAL = AlertLevel


def test_history_is_bounded(alert: Callable[..., MemoryAlert]) -> None:
    """The newest alerts are kept, in order; none where none are wanted."""
    manager, forgetful = AlertManager(history=2), AlertManager(history=0)
    for number in range(4):
        manager.emit(alert(str(number)))
        forgetful.emit(alert(str(number)))
    assert [each.message for each in manager.history] == ["2", "3"]
    assert forgetful.history == ()
    assert manager.statistics().emitted == forgetful.statistics().emitted == 4


@pytest.mark.parametrize("history", [-1, 1.5, True])
def test_what_is_no_length_is_refused(history: int) -> None:
    """The history's length is a whole number from 0."""
    with pytest.raises(ConfigError, match="expected a whole number from 0"):
        AlertManager(history=history)


def test_the_summary_counts_beyond_the_history(
    snapshot: Callable[..., MemorySnapshot], alert: Callable[..., MemoryAlert]
) -> None:
    """Beginnings are counted by level and type, ends apart; every level is named."""
    manager = AlertManager.with_defaults(history=1, cooldown=0)
    for percent in (85, 95, 20, 85):
        manager.check_thresholds(snapshot(percent=percent))
    manager.emit(alert(level=INFO))
    summary = manager.summary()
    assert (summary.firing, summary.resolved, summary.active) == (4, 1, 1)
    assert summary.by_level == {INFO: 1, WARNING: 2, CRITICAL: 1}
    assert summary.by_type[AlertType.HIGH_MEMORY] == 3
    assert summary.by_type[AlertType.LOW_SYSTEM_MEMORY] == 0
    assert msgspec.json.decode(msgspec.json.encode(summary))["by_level"]["critical"] == 1


def test_what_is_emitted_is_no_episode(manager: AlertManager, alert: Callable[..., MemoryAlert]) -> None:
    """An alert made elsewhere is in the history and not among the firing episodes."""
    made = alert()
    manager.emit(made)
    assert manager.history == (made,)
    assert manager.active == ()


def test_statistics_are_frozen(manager: AlertManager, alert: Callable[..., MemoryAlert]) -> None:
    """Statistics are a picture of their moment."""
    before = manager.statistics()
    manager.emit(alert())
    assert before.emitted == 0
    with pytest.raises(AttributeError):
        before.emitted = 1  # type: ignore[misc]


def test_nothing_happens_at_import() -> None:
    """Importing the package starts no thread and brings no event loop and no backend."""
    code = (
        "import asyncmem.alerts, sys, threading;"
        "assert threading.active_count() == 1;"
        "assert not {'trio', 'psutil', 'anyio._backends._asyncio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_child_is_not_held_up_by_what_a_thread_of_the_parent_was_at(snapshot: Callable[..., MemorySnapshot]) -> None:
    """A thread that held the lock at the fork does not exist in the child, and would never give it back."""
    manager = AlertManager.with_defaults()
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with manager._lock:
            held.set()
            assert go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    pid = os.fork()
    if pid == 0:
        told = manager.check_thresholds(snapshot(percent=95))
        os._exit(0 if told else 1)
    end = time.monotonic() + 30
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(ended[1]) == 0
