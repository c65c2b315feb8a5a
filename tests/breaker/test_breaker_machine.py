"""Whatever is read, whoever comes and goes and however: the breaker keeps its promises."""

from __future__ import annotations

import contextvars
from types import TracebackType
from typing import Protocol

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asyncmem.errors import CircuitOpenError
from asyncmem.events import BreakerState
from tests.breaker.conftest import World
from tests.breaker.test_circuit import LEGAL

CLOSED, WARNING, OPEN, HALF_OPEN = BreakerState
TASKS = 4
BACKOFF, MAX_BACKOFF = 1.0, 12.0
RESET, OPENS = 6875, 7500


class Manager(Protocol):
    """A block, of whichever kind."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...


class Entry:
    """A block that a task is in."""

    def __init__(self, manager: Manager, probe: Probe | None) -> None:
        self.manager = manager
        self.probe = probe
        """What this block has the place of; None for all others."""


class Probe:
    """A place that is taken."""

    def __init__(self, begun: float, epoch: int) -> None:
        self.begun = begun
        self.epoch = epoch


class Task:
    """Something with a context of its own, and the blocks that it is in."""

    def __init__(self) -> None:
        self.context = contextvars.Context()
        self.entries: list[Entry] = []


class BreakerMachine(RuleBasedStateMachine):
    """A breaker, tasks that pass it, and a model of who holds a place."""

    @initialize(probes=st.integers(1, 3), reuse=st.sampled_from([0.0, 0.01]))
    def begin(self, probes: int, reuse: float) -> None:
        """Make a world."""
        self.world = World(probes=probes, reuse=reuse, backoff=BACKOFF, max_backoff=MAX_BACKOFF, on_change=self.note)
        self.breaker = self.world.breaker
        self.probes = probes
        self.tasks = [Task() for _ in range(TASKS)]
        self.state = CLOSED
        self.epoch = 0
        self.wait = BACKOFF
        self.opened_at = 0.0

    def note(self, before: BreakerState, after: BreakerState) -> None:
        """Follow the changes, each of which must be one that there is, at a time when it may be."""
        assert before is self.state
        assert (before, after) in LEGAL
        used, now = self.breaker.statistics().used, self.world.clock.monotonic()
        self.state = after
        if after is OPEN:
            self.opened_at = now
            self.wait = BACKOFF if before.is_closed else min(2 * self.wait, MAX_BACKOFF)
        elif after is HALF_OPEN:
            self.epoch += 1
            assert now - self.opened_at >= self.wait
            assert used is None or used < OPENS
        elif before is HALF_OPEN:
            self.wait = BACKOFF
            assert used is None or used < RESET

    # -- memory and time ----------------------------------------------------------------------------------------------

    @rule(used=st.sampled_from([0, 4374, 4375, 5000, 6874, 6875, 7499, 7500, 9999]) | st.integers(0, 12_000))
    def use(self, used: int) -> None:
        """So much is in use from now on."""
        self.world.used = used

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.5, 1.0, 2.0, 4.0]))
    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.world.clock.advance(seconds)

    @rule(readable=st.booleans())
    def lose_sight(self, readable: bool) -> None:
        """Memory can be read, or it cannot."""
        self.world.error = None if readable else OSError("no /proc")

    @rule()
    def look(self) -> None:
        """Somebody looks, without any work."""
        assert self.breaker.look() is self.state

    @rule(used=st.integers(0, 12_000))
    def tell(self, used: int) -> None:
        """Somebody else has read."""
        self.breaker.update(used, 10_000)
        assert used < OPENS or not self.breaker.state.is_closed

    # -- work ---------------------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, TASKS - 1), by_guard=st.booleans())
    def enter(self, number: int, by_guard: bool) -> None:
        """A task begins a block, alone or inside of one that it is in."""
        task = self.tasks[number]
        own = [entry.probe for entry in task.entries if entry.probe is not None and entry.probe.epoch == self.epoch]
        if any(self.is_overdue(probe) for probe in own):
            return  # its place may have been given away, or may not
        manager: Manager = self.breaker.guard() if by_guard else self.breaker
        try:
            task.context.run(manager.__enter__)
        except CircuitOpenError as error:
            self.check_refusal(error)
            return
        assert self.state is not OPEN
        is_part = any(probe.epoch == self.epoch for probe in own)
        probe = Probe(self.now, self.epoch) if self.state is HALF_OPEN and not is_part else None
        task.entries.append(Entry(manager, probe))

    @rule(number=st.integers(0, TASKS - 1))
    def check(self, number: int) -> None:
        """A task asks."""
        try:
            self.tasks[number].context.run(self.breaker.check)
        except CircuitOpenError as error:
            self.check_refusal(error)
        else:
            assert self.state is not OPEN

    def check_refusal(self, error: CircuitOpenError) -> None:
        """It is one that there was a reason for."""
        assert 0 <= error.retry_after <= MAX_BACKOFF
        if self.state is HALF_OPEN:
            assert len(self.held()) >= self.probes
        else:
            assert self.state is OPEN

    @precondition(lambda self: any(task.entries for task in self.tasks))
    @rule(data=st.data(), how=st.sampled_from([None, None, MemoryError, ValueError, GeneratorExit]))
    def leave(self, data: st.DataObject, how: type[BaseException] | None) -> None:
        """A task ends its innermost block: well, out of memory, by another error, or because it is cancelled."""
        # By number: hypothesis keeps what it draws, and a task that is gone must be gone.
        task = self.tasks[data.draw(st.sampled_from([n for n, task in enumerate(self.tasks) if task.entries]))]
        entry = task.entries.pop()
        error = None if how is None else how()
        task.context.run(entry.manager.__exit__, how, error, None)
        if how is MemoryError:
            assert self.breaker.state is OPEN

    @rule(number=st.integers(0, TASKS - 1))
    def die(self, number: int) -> None:
        """A task is gone, without having left its blocks."""
        self.tasks[number] = Task()

    # -- what holds ---------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self.world.clock.monotonic()

    def held(self) -> list[Probe]:
        """Places that are taken, those included that may have been given away."""
        if self.state is not HALF_OPEN:
            return []
        probes = [entry.probe for task in self.tasks for entry in task.entries]
        return [probe for probe in probes if probe is not None and probe.epoch == self.epoch]

    def is_overdue(self, probe: Probe) -> bool:
        """Whether its place may have been given away."""
        return self.now - probe.begun >= MAX_BACKOFF

    @invariant()
    def no_more_probes_than_may(self) -> None:
        """And each that began holds its place until it ends, unless it is overdue."""
        if not hasattr(self, "world"):
            return
        held = self.held()
        kept = [probe for probe in held if not self.is_overdue(probe)]
        statistics = self.breaker.statistics()
        assert len(kept) <= statistics.probes_running <= min(len(held), self.probes)

    @invariant()
    def the_breaker_is_what_it_says(self) -> None:
        """State and backoff are those of the model."""
        if not hasattr(self, "world"):
            return
        statistics = self.breaker.statistics()
        assert statistics.state is self.breaker.state is self.state
        assert statistics.backoff == self.wait
        assert statistics.hook_errors == 0

    def teardown(self) -> None:
        """When all have left no place is taken, and memory that stays low closes it."""
        if not hasattr(self, "world"):
            return
        for task in self.tasks:
            while task.entries:
                entry = task.entries.pop()
                task.context.run(entry.manager.__exit__, None, None, None)
        assert self.breaker.statistics().probes_running == 0
        self.world.error = None
        self.world.used = 0
        for _ in range(int(2 * MAX_BACKOFF) + 2):
            self.world.clock.advance(1.0)
            self.breaker.look()
        assert self.breaker.state is CLOSED
        self.breaker.check()


BreakerMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase
