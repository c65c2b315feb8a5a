"""The composition root: one `MemoryRuntime` joins limits, admission, monitor and alerts for a process.

It owns the background threads (the watcher, and under pressure one for its actions) and, inside an event loop, the
tasks that deliver alerts. Frameworks attach to it through `middleware`; module-level conveniences find it through
`_current`.
"""

from __future__ import annotations

import contextlib
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Self

import anyio
import msgspec
import structlog

from asyncmem._clock import SystemClock
from asyncmem.admission import AdmissionController, AdmissionStatistics, CostsFile, Priority
from asyncmem.alerts import AlertManager, AlertStatistics
from asyncmem.alerts.conditions import Conditions
from asyncmem.alerts.sight import Sight
from asyncmem.alerts.sinks import structlog_sink
from asyncmem.breaker import BreakerStatistics, Circuit
from asyncmem.config import MemoryConfig
from asyncmem.events import MemoryAlert, PressureLevel
from asyncmem.following import LimitFollower
from asyncmem.guards import Guard
from asyncmem.limits import LimitFinder
from asyncmem.monitor import MemoryMonitor, MonitorStatistics
from asyncmem.pressure import PressureLevels, PressureStatistics
from asyncmem.reclaim import PressureActions, Reclaim, ReclaimReport, ReclaimStatistics, default_reclaimers
from asyncmem.reclaim.actions import checked_actions
from asyncmem.reclaim.critical import CriticalStatistics
from asyncmem.reclaim.worker import ActionStatistics
from asyncmem.response import Response
from asyncmem.sampling import (
    KernelEvents,
    KernelEventStatistics,
    LiveMeter,
    Watcher,
    WatcherStatistics,
    default_sampler,
)
from asyncmem.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from anyio.abc import TaskGroup

    from asyncmem._clock import Clock
    from asyncmem.admission import CostModel, WaitQueue
    from asyncmem.limits import Limits
    from asyncmem.sampling import MachineSampler, ProcessSampler

__all__ = ["MemoryRuntime", "RuntimeStatistics", "current_runtime", "running_runtimes"]

_BUSY_SECONDS: Final = 0.010
"""Period of the watcher while work is in flight, where memory is neither short nor growing fast."""
_WARM_UP_SECONDS: Final = 300.0
"""What is taken before any work has come is no growth, for so long."""
_SAVE_SECONDS: Final = 60.0
"""Learned costs are saved as often as this."""
_DRAIN_SECONDS: Final = 1.0
"""How long shutting down waits for handlers to take the last alerts."""

current_runtime: Final[ContextVar[MemoryRuntime | None]] = ContextVar("asyncmem_runtime", default=None)
"""The runtime whose ``async with`` block the running task is in."""
running_runtimes: Final[list[MemoryRuntime]] = []
"""The runtimes of this process that are started, oldest first."""


class RuntimeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What all parts of a `MemoryRuntime` hold and have done."""

    admission: AdmissionStatistics
    alerts: AlertStatistics
    monitor: MonitorStatistics
    watcher: WatcherStatistics
    pressure: PressureStatistics
    breaker: BreakerStatistics
    reclaim: ReclaimStatistics
    actions: ActionStatistics
    critical: CriticalStatistics
    kernel_events: KernelEventStatistics


class MemoryRuntime:
    """Guards the memory of this process.

    Enter it with ``async with`` inside an event loop (asyncio or trio), or with ``with`` in plain code; alerts then
    reach immediate handlers and logs, and the others once a loop runs it.

    Args:
        config: Settings; None to read environment and file (`MemoryConfig.load`).
        sampler: Reads this process; None for the one that fits the machine.
        machine: Reads the machine; None for the one that fits.
        limits: Knows the bounds; None to find them.
        clock: Where time comes from.
        cost_model: How costs are learned.
        queue: The order of those that wait.
        actions: What is done at each pressure level; None for the defaults of `PressureActions`.
        on_critical: Called when pressure becomes critical, for example to page somebody; see the method `on_critical`,
            which can also ask that it lasts.

    Raises:
        ConfigError: A setting is wrong.
        LimitDiscoveryError: No limit could be read.
    """

    def __init__(
        self,
        config: MemoryConfig | None = None,
        *,
        sampler: ProcessSampler | None = None,
        machine: MachineSampler | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
        cost_model: CostModel | None = None,
        queue: WaitQueue | None = None,
        actions: PressureActions | None = None,
        on_critical: Callable[[], object] | None = None,
    ) -> None:
        self.config = MemoryConfig.load() if config is None else config
        self._clock = SystemClock() if clock is None else clock
        self._sampler = default_sampler() if sampler is None else sampler
        self.limits: Limits = (
            LimitFinder(sampler=self._sampler, configured=self.config.limit) if limits is None else limits
        )
        self.alerts = AlertManager.with_defaults(
            self.config.alert_preset, clock=self._clock, cooldown=self.config.alert_cooldown
        )
        if self.config.log_alerts:
            self.alerts.add_handler(structlog_sink(), immediate=True)
        self.monitor = MemoryMonitor(
            history=self.config.history, sampler=self._sampler, machine=machine, limits=self.limits, clock=self._clock
        )
        self._conditions = Conditions(self.alerts, self.monitor.capture_snapshot, self._clock)
        heap = LiveMeter(self._sampler)
        self.reclaimers = Reclaim(
            self._sampler.working_set,
            default_reclaimers(heap, limit=lambda: self.limits.binding().limit),
            clock=self._clock,
        )
        self.admission = AdmissionController(
            lambda: self.limits.bounds,
            own=heap,
            clock=self._clock,
            guard=self.config.guard_band,
            operation_limit=_absolute(self.config.operation_limit),
            max_queue=self.config.max_queue,
            queue_timeout=self.config.queue_timeout,
            cost_model=cost_model,
            queue=queue,
            reclaim=self.reclaimers.run,
        )
        self.admission.read_now = heap.now
        self.alerts.outlook = self.admission.outlook
        self._costs_file = None if self.config.costs_path is None else CostsFile(self.config.costs_path, self.admission)
        self._next_save = self._clock.monotonic() + _SAVE_SECONDS
        self._kernel_events = KernelEvents()
        self._watcher = Watcher(
            self._tick,
            idle_interval=self.config.interval,
            busy_interval=_BUSY_SECONDS,
            events=self._kernel_events,
        )
        self._following = LimitFollower(
            self.limits,
            self.admission,
            self.alerts,
            kernel_events=self._kernel_events,
            prompt=self._watcher.prompt,
            clock=self._clock,
        )
        self._response = Response(
            self.admission,
            self._conditions,
            checked_actions(actions),
            reclaimers=self.reclaimers,
            prompt=self._watcher.prompt,
        )
        if on_critical is not None:
            self.on_critical(on_critical)
        self._sight = Sight(self._clock, self.config.interval)
        self._next_check = 0.0
        self._started_at = self._clock.monotonic()
        self._started = False
        self._stopped = False
        self._tasks: TaskGroup | None = None
        self._outer: MemoryRuntime | None = None

    @property
    def pressure(self) -> PressureLevels:
        """How short memory is."""
        return self._response.pressure

    @property
    def breaker(self) -> Circuit:
        """Says what admission does: it opens at capacity, and is half-open with nothing in flight."""
        return self._response.breaker

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether it has been started and admits work: neither stopped nor about to be."""
        return self._started and not self._stopped and not self.admission.is_draining

    def start(self) -> None:
        """Begin to watch.

        The first snapshot is taken and checked here, so that a process that starts beyond its limit says so at once.

        Raises:
            RuntimeError: It was started before; make a new one.
            OSError: The process or the machine cannot be read; it then counts as stopped.
        """
        if self._started or self._stopped:
            raise RuntimeError("this MemoryRuntime was started or stopped before; make a new one for each run")
        self._started = True
        running_runtimes.append(self)
        try:
            if self._costs_file is not None:
                self._costs_file.load()
            self.check_now()
            self._warn_if_too_small()
            if self.config.monitoring:
                self.admission.on_first = self._watcher.wake
                self.admission.on_begun = self._watcher.prompt
                self._watcher.start()
            else:
                self.admission.go_unwatched()
            if not self.is_running:  # stopped while this thread was starting it
                self.stop()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the background threads and refuse all further work; may be called again.

        Blocks for milliseconds, and for a second at most where an action of the user's takes its time.
        """
        self._retire()
        self._end_watching()

    def _end_watching(self) -> None:
        self._watcher.stop()
        self.alerts.end("memory is no longer watched: the runtime has stopped")
        self._response.worker.stop()
        if self._costs_file is not None and self._started:
            self._costs_file.save()

    def _retire(self) -> None:
        """Be found no more, and admit nothing; without a wait."""
        self._stopped = True
        with contextlib.suppress(ValueError):  # it was never started, or has been stopped
            running_runtimes.remove(self)
        self.admission.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        failure: Exception | None = None
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())
            try:
                await tasks.start(self.alerts.run)
                await tasks.start(self._response.critical.serve)
                await anyio.to_thread.run_sync(self.start)
            except Exception as error:  # noqa: BLE001 - raised below, outside of the group, which would wrap it
                failure = error
                tasks.cancel_scope.cancel()
            except BaseException:  # cancelled, maybe while the thread is starting it
                self.stop()
                raise
            else:
                stack.pop_all()  # `__aexit__` leaves the task group
        if failure is not None:
            raise failure
        self._tasks = tasks
        self._outer = current_runtime.get()
        current_runtime.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        current_runtime.set(self._outer)
        self._retire()  # first, and without a wait: what follows can be cancelled from outside
        try:
            with anyio.CancelScope(shield=True):
                # A limiter of its own: work may hold all of the loop's threads.
                await anyio.to_thread.run_sync(self._end_watching, limiter=anyio.CapacityLimiter(1))
                await self.alerts.drain(_DRAIN_SECONDS)
        finally:
            self.alerts.close_streams()
            self._tasks.cancel_scope.cancel()
            # The block's own error is not the tasks' business: handed to them it would come back inside a group.
            await self._tasks.__aexit__(None, None, None)

    # -- use ----------------------------------------------------------------------------------------------------------

    def guard(
        self,
        name: str,
        *,
        cost: int | str | None = None,
        priority: Priority = Priority.NORMAL,
        deadline: float | None = None,
        size: float = 0.0,
        cancellable: bool = False,
    ) -> Guard:
        """Run work under a permit: ``async with memory.guard("resize", cost="80MiB") as permit:``, or as a decorator.

        Args:
            name: The task class under which costs are learned.
            cost: Bytes needed at the peak, or text; None to use what was learned.
            priority: The higher is served first.
            deadline: Seconds within which the work must start.
            size: Size of the input, in bytes or items, where it is known: costs are learned per size.
            cancellable: The work is safe to repeat and may be cancelled when memory runs short.

        Raises:
            ConfigError: A value that cannot be.
        """
        return Guard(
            self._admission, name, cost=cost, priority=priority, deadline=deadline, size=size, cancellable=cancellable
        )

    def reclaim(self, level: PressureLevel | None = None) -> ReclaimReport:
        """Give back at once what can be spared: garbage, what the allocator keeps, and what is shrinkable.

        Runs all of `reclaimers`, due or not. Call it where their code and that of garbage's finalisers may run; it
        takes as long as a full collection and all caches together.

        Args:
            level: The level that what is shrinkable is told; None for the present one, and `MEDIUM` at least. Where
                there is no pressure it is told afterwards that it may grow again. `LOW` shrinks nothing.

        Returns:
            What came of it; empty where another run is at it.
        """
        present = self.pressure.level
        if level is None:
            level = max(PressureLevel.MEDIUM, present)
        report = self.reclaimers.run(force=True, level=level)
        if present is PressureLevel.LOW:
            self.reclaimers.relax()
        return report

    def on_critical(
        self,
        function: Callable[[], object],
        *,
        after: float = 0.0,
        timeout: float = 30.0,
    ) -> None:
        """Have a function called when pressure becomes critical, once per episode.

        Args:
            function: Called without arguments: an async one in the event loop that runs this runtime, another in a
                thread of its own. What it raises is counted and logged.
            after: Seconds that memory must be inside the guard band before that; seconds outside are counted off. Under
                load a moment is nothing out of the way.
            timeout: Seconds that a call may take. An async one is cancelled then; a sync one cannot be.

        Raises:
            ConfigError: It is no function, or the seconds are none.
        """
        self._response.critical.add(function, after=after, timeout=timeout)

    def check_now(self) -> None:
        """Read the limits again, take a snapshot and raise the alerts that it gives rise to."""
        self._following.follow()
        snapshot = self.monitor.capture_snapshot()
        if not self.admission.has_admitted and self._clock.monotonic() - self._started_at < _WARM_UP_SECONDS:
            self.alerts.follow_baseline(snapshot)
        self._announce_limit()
        self._conditions.shedding(*self.admission.shed, snapshot)
        self._conditions.reclaimed(self.reclaimers.statistics().bytes_freed, snapshot)
        self.alerts.check_thresholds(snapshot)

    def statistics(self) -> RuntimeStatistics:
        """What all parts hold and have done."""
        return RuntimeStatistics(
            admission=self.admission.statistics(),
            alerts=self.alerts.statistics(),
            monitor=self.monitor.statistics(),
            watcher=self._watcher.statistics(),
            pressure=self.pressure.statistics(),
            breaker=self.breaker.statistics(self._clock.monotonic()),
            reclaim=self.reclaimers.statistics(),
            actions=self._response.worker.statistics(),
            critical=self._response.critical.statistics(),
            kernel_events=self._kernel_events.statistics(),
        )

    # -- inside -------------------------------------------------------------------------------------------------------

    def _admission(self) -> AdmissionController:
        return self.admission

    def _tick(self) -> float | None:
        """One look of the watcher; returns when to look again. That it fails, or comes late, is told."""
        self._tell(self._sight.came())
        try:
            return self._look()
        except Exception as error:
            self._tell(self._sight.failed(error))
            raise

    def _look(self) -> float | None:
        """The cheap sample, and once per interval the snapshot."""
        try:
            if self._following.look():
                self._announce_limit()
        except Exception as error:  # noqa: BLE001 - below the old limits, then
            self._watcher.count(error)
        period = self.admission.sample()
        try:
            self._look_around(self._clock.monotonic())
        except Exception as error:  # noqa: BLE001 - admission goes on, so there is another look to come
            self._watcher.count(error)
            self._tell(self._sight.failed(error))
        return period

    def _look_around(self, now: float) -> None:
        self._response.look(now)
        if now >= self._next_check:
            self._next_check = now + self.config.interval
            self.check_now()
            self._tell(self._sight.succeeded())
        elif self._passes_threshold():
            # Without the limits: to find them lets the interpreter's lock go, and this is urgent.
            self.alerts.check_thresholds(self.monitor.capture_snapshot())
        if self._costs_file is not None and now >= self._next_save:
            self._next_save = now + _SAVE_SECONDS
            self._costs_file.save()

    def _passes_threshold(self) -> bool:
        """Whether there is a new alert to raise about the share of the limit that is in use."""
        used, limit, _ = self.admission.tightest()
        if limit <= 0 or not self.alerts.would_raise(percent=100.0 * used / limit):
            return False
        # As a snapshot would have it: its bound need not be the one that admission finds tightest.
        binding = self.limits.binding()
        return self.alerts.would_raise(percent=100.0 * binding.meter.used() / max(1, binding.limit))

    def _announce_limit(self) -> None:
        binding = self.limits.binding()
        self._conditions.limit(binding.limit, binding.source)

    def _tell(self, alert: MemoryAlert | None) -> None:
        if alert is not None:
            self.alerts.emit(alert)

    def _warn_if_too_small(self) -> None:
        """Say clearly that the process does not fit below its limit: it then serves one task at a time."""
        snapshot = self.monitor.get_current_snapshot()
        statistics = self.admission.statistics()
        if statistics.headroom > 0:
            return
        structlog.get_logger("asyncmem").warning(
            "memory_limit_too_small",
            limit=format_bytes(snapshot.limit),
            source=self.limits.binding().source,
            working_set=format_bytes(snapshot.working_set),
            capacity=format_bytes(statistics.capacity),
            hint="the process already uses all that the limit leaves after the guard band, so tasks run one at a time; "
            "raise the limit (ASYNCMEM_LIMIT or the container's)",
        )


def _absolute(value: int | str | None) -> int | None:
    assert not isinstance(value, str), "MemoryConfig reads text as bytes"
    return value
