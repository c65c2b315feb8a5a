"""Listens to the kernel in every place there is, and says where it cannot.

Covers finding the places, keeping them open, and telling news from noise. Does not cover waiting: the watcher's thread
does that, with `KernelEvents` as its listener, and goes through `drain` in its tick. What a place is: `sources`.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from asyncmem.sampling._files import read_once
from asyncmem.sampling.forks import forget_after_fork
from asyncmem.sampling.hierarchy import Hierarchy, find_hierarchies
from asyncmem.sampling.kernel.sources import (
    EventCounters,
    KernelEvent,
    KernelFinding,
    KernelSignal,
    PressureNotice,
    Source,
    StallTrigger,
    UsageThreshold,
)

__all__ = ["KernelEventStatistics", "KernelEvents"]

_KEPT: Final = 64
"""Events kept for `KernelEvents.drain`; the oldest go first."""
_IDLE_TALK: Final = 64
"""A place that is ready so often in a row without news is closed: it would keep the thread from waiting."""


@dataclass(frozen=True, slots=True)
class KernelEventStatistics:
    """What a `KernelEvents` has heard."""

    listening: int
    """Places that are listened to in this process now."""
    received: Mapping[KernelSignal, int]
    """News by kind."""
    last: KernelEvent | None
    """The latest."""


class _Masks(dict[int, int]):
    """What to wait for at each descriptor, and the sources, which stay open for as long as this is referred to."""

    def __init__(self, sources: Sequence[Source]) -> None:
        super().__init__({source.descriptor: source.mask for source in sources})
        self.sources: Final = {source.descriptor: source for source in sources}


class KernelEvents:
    """Listens for the kernel's events about the memory of this process's own cgroups; a `Watcher` takes it as `events`.

    Nothing is opened before it is listened to or asked for its findings, and what is not to be had is no error. In a
    forked child everything is opened anew.

    Args:
        hierarchies: The memory hierarchies; None to find them when listening begins.
        proc_root: Where procfs is mounted.
        fs_root: Where the paths of its ``mountinfo`` begin.
    """

    def __init__(
        self,
        hierarchies: Sequence[Hierarchy] | None = None,
        *,
        proc_root: str | os.PathLike[str] = "/proc",
        fs_root: str | os.PathLike[str] = "/",
    ) -> None:
        self._hierarchies: Final = hierarchies
        self._proc_root: Final = os.fspath(proc_root)
        self._fs_root: Final = os.fspath(fs_root)
        self._wanted: dict[str, tuple[int, ...]] = {}
        self._masks: _Masks | None = None
        self._findings: list[KernelFinding] = []
        self._heard: deque[KernelEvent] = deque(maxlen=_KEPT)
        self._received: Counter[KernelSignal] = Counter()
        self._last: KernelEvent | None = None
        self._idle_talk: Counter[int] = Counter()
        self._lock = threading.Lock()
        forget_after_fork(self)

    def arm(self, thresholds: Mapping[str, Sequence[int]]) -> bool:
        """Say at which usages to be told; call again when a limit changes. Takes effect when the watcher waits next.

        Only version 1 offers it, for any directory of its memory hierarchy; other directories are passed over. The
        usage counts page cache, so where there is much of that the crossing says little: it is one more reason to look.

        Args:
            thresholds: Bytes of the usage by directory, for example at capacity and at the limit less half of the
                guard band. They replace the earlier ones.

        Returns:
            Whether they differ from the earlier ones.
        """
        wanted = {directory: tuple(sorted({*values})) for directory, values in thresholds.items()}
        with self._lock:
            if wanted == self._wanted:
                return False
            self._wanted = wanted
            self._masks = None
        return True

    def descriptors(self) -> Mapping[int, int]:
        """The poll mask of each descriptor; opens what is not open yet. The same object while nothing changes."""
        masks = self._masks
        if masks is None:
            with self._lock:
                if self._masks is None:
                    self._masks = self._opened()
                masks = self._masks
        return masks

    def handle(self, ready: Sequence[tuple[int, int]]) -> bool:
        """Take in what is ready; returns whether there is news in it."""
        masks = self._masks
        news = False
        for descriptor, flags in ready:
            source = None if masks is None else masks.sources.get(descriptor)
            if source is None:  # armed anew since the wait began
                continue
            try:
                detail = source.take(flags)
            except BlockingIOError:
                detail = None
            except OSError as error:
                self._drop(source, f"no longer listened to: {error}")
                continue
            if detail is not None:
                self._idle_talk.pop(descriptor, None)
                self._hear(KernelEvent(source.signal, source.path, detail))
                news = True
                continue
            self._idle_talk[descriptor] += 1
            if self._idle_talk[descriptor] >= _IDLE_TALK:
                self._drop(source, "no longer listened to: it was ready again and again and said nothing new")
        return news

    def drain(self) -> tuple[KernelEvent, ...]:
        """What was heard since the last call, oldest first; at most the last 64."""
        events = []
        with suppress(IndexError):
            while True:
                events.append(self._heard.popleft())
        return tuple(events)

    def findings(self) -> tuple[KernelFinding, ...]:
        """Every place that was looked at, and whether it is listened to; begins to listen where nobody does yet."""
        self.descriptors()
        return tuple(self._findings)

    def statistics(self) -> KernelEventStatistics:
        """What has been heard until now."""
        masks = self._masks
        return KernelEventStatistics(
            listening=0 if masks is None else len(masks), received=dict(self._received), last=self._last
        )

    def close(self) -> None:
        """Let the descriptors go as soon as nobody waits at them; listening again opens them again."""
        with self._lock:
            self._masks = None

    def after_fork(self) -> None:
        """Close what the child inherited: the kernel rings the parent's descriptors, and both would use it up."""
        self._lock = threading.Lock()
        masks, self._masks = self._masks, None
        if masks is not None:
            for source in masks.sources.values():
                source.close()

    def _hear(self, event: KernelEvent) -> None:
        self._received[event.signal] += 1
        self._last = event
        self._heard.append(event)

    def _drop(self, source: Source, why: str) -> None:
        with self._lock:
            if self._masks is not None and source.descriptor in self._masks:
                self._masks = _Masks([one for one in self._masks.sources.values() if one is not source])
            self._idle_talk.pop(source.descriptor, None)
            self._findings = [one for one in self._findings if one.path != source.path or source.detail != one.detail]
            self._findings.append(KernelFinding(source.signal, source.path, listening=False, detail=why))

    def _opened(self) -> _Masks:
        self._findings, self._idle_talk = [], Counter()
        sources = []
        for signal, path, open_it in self._places():
            try:
                source = open_it()
            except OSError as error:
                self._findings.append(KernelFinding(signal, path, listening=False, detail=_reason(error)))
            else:
                self._findings.append(KernelFinding(signal, path, listening=True, detail=source.detail))
                sources.append(source)
        return _Masks(sources)

    def _places(self) -> Iterator[tuple[KernelSignal, str, Callable[[], Source]]]:
        for hierarchy in self._found():
            own = next((path for path in hierarchy.directories if os.path.isdir(path)), None)  # noqa: PTH112
            if own is None or _is_root(own):
                continue  # what the root says is about the machine
            if hierarchy.version == 1:
                path = f"{own}/memory.pressure_level"
                yield KernelSignal.PRESSURE, path, partial(PressureNotice, own, "medium")
                yield KernelSignal.PRESSURE, path, partial(PressureNotice, own, "critical")
            else:
                # The limits of this very group where they are told apart (Linux 5.2), else those below it too.
                counters = f"{own}/memory.events.local"
                if not os.path.exists(counters):  # noqa: PTH110
                    counters = f"{own}/memory.events"
                yield KernelSignal.COUNTER, counters, partial(EventCounters, counters)
                stalls = f"{own}/memory.pressure"
                yield KernelSignal.STALL, stalls, partial(StallTrigger, stalls)
        for directory, values in self._wanted.items():
            path = f"{directory}/memory.usage_in_bytes"
            if os.path.exists(path):  # noqa: PTH110 - version 2 has no such file
                for value in values:
                    yield KernelSignal.USAGE, path, partial(UsageThreshold, directory, value)

    def _found(self) -> Sequence[Hierarchy]:
        if self._hierarchies is not None:
            return self._hierarchies
        try:
            cgroup, mountinfo = (
                os.fsdecode(read_once(f"{self._proc_root}/self/{name}")) for name in ("cgroup", "mountinfo")
            )
        except OSError:
            return ()
        return find_hierarchies(cgroup, mountinfo, fs_root=self._fs_root)


def _is_root(directory: str) -> bool:
    """Whether it is the root of its hierarchy itself, and no container's view of a group below it."""
    version_1 = os.path.exists(f"{directory}/cgroup.sane_behavior")  # noqa: PTH110 - only the root has it
    version_2 = os.path.exists(f"{directory}/cgroup.controllers") and not os.path.exists(f"{directory}/cgroup.events")  # noqa: PTH110
    return version_1 or version_2


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "not offered here"
    return f"refused: {error.strerror or error}"
