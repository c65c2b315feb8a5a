"""The invariants of admission: what holds whatever happens.

1 and 3 by a state machine over the controller, on memory and time that are set by hand; 2, 5 (as far as it is built), 6
and 7 by threads, tasks and a handler that blocks. 4, the order of those that wait, is `queue/test_queue_machine.py`'s;
here only that nobody waits for ever. 8 is about what this package does not keep yet, and about the file of learned
costs, which is here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from asyncmem import MemoryConfig, MemoryRuntime
from asyncmem._wakeup import ThreadWakeup
from asyncmem.admission import Permit, Priority
from asyncmem.errors import AdmissionRejected, RejectionReason
from asyncmem.health import readiness
from asyncmem.testing import SyntheticLimits, SyntheticSampler
from asyncmem.units import MIB
from tests.admission.conftest import World

CLASSES = ("a", "b", "c")
mib = st.integers(1, 400)


class Waiting:
    """One that waits in no thread: what `acquire_sync` does before and after it blocks, step by step."""

    def __init__(self, waiter: Any, until: float, cost: int | None) -> None:
        self.waiter = waiter
        self.until = until
        self.cost = cost
        self.gone = False


class Admission(RuleBasedStateMachine):
    """A controller, a process whose tasks take what they like, and a model of what was promised."""

    running = Bundle("running")
    waiting = Bundle("waiting")

    @initialize(enforced=st.booleans(), guard=st.sampled_from([0, 50]), limit=st.sampled_from([600, 1000]))
    def begin(self, *, enforced: bool, guard: int, limit: int) -> None:
        """Make a world."""
        self.world = World(f"{limit}MiB", enforced=enforced, guard=guard * MIB, max_queue=6, queue_timeout=20.0)
        self.controller = self.world.controller
        self.told: set[Permit] = set()
        self.held: dict[Permit, int] = {}
        """MiB that each permit's work holds."""
        self.waiters: list[Waiting] = []
        self.granted: list[Waiting] = []
        """Let in, and not yet awake."""

    def cancel(self, permit: Permit) -> None:
        """Take note of who is told to end."""
        self.told.add(permit)

    # -- arriving -----------------------------------------------------------------------------------------------------

    @rule(
        target=running,
        task_class=st.sampled_from(CLASSES),
        cost=st.none() | mib,
        priority=st.sampled_from(Priority),
        size=st.sampled_from([0.0, 0.0, 3e6, 4e7]),
    )
    def arrive(self, task_class: str, cost: int | None, priority: Priority, size: float) -> Any:
        """One that does not wait."""
        state = self._before()
        try:
            permit = self.controller.try_acquire(
                task_class, cost=None if cost is None else cost * MIB, priority=priority, size=size
            )
        except AdmissionRejected as error:
            return self._refused(error, state)
        if permit is None:
            assert state.in_flight or state.queued or not self._fits(cost), "nothing in flight, and it was not let in"
            return multiple()
        self._check_decision(state, [permit])
        self.held[permit] = 0
        permit.canceller = self
        return permit

    @rule(
        target=waiting,
        task_class=st.sampled_from(CLASSES),
        cost=st.none() | mib,
        priority=st.sampled_from(Priority),
        deadline=st.none() | st.sampled_from([0.05, 3.0]),
        held_bytes=st.sampled_from([0, 0, 16 * 1024, 2 * MIB]),
    )
    def queue_up(
        self, task_class: str, cost: int | None, priority: Priority, deadline: float | None, held_bytes: int
    ) -> Any:
        """One that waits where it must."""
        state = self._before()
        one = Waiting(None, 0.0, cost)
        try:
            permit = self.controller.try_acquire(
                task_class, cost=None if cost is None else cost * MIB, priority=priority
            )
            if permit is not None:
                self._check_decision(state, [permit])
                permit.drop()
                return multiple()
            waiter, timeout, _reason = self.controller._waiting.join(
                task_class,
                None if cost is None else cost * MIB,
                priority,
                deadline,
                0.0,
                ThreadWakeup,
                held_bytes=held_bytes,
                abandoned=lambda: one.gone,
            )
        except AdmissionRejected as error:
            return self._refused(error, state)
        one.waiter, one.until = waiter, self.world.clock.monotonic() + timeout
        self.waiters.append(one)
        self._take_up(state)
        return one

    @rule(one=waiting)
    def give_up(self, one: Waiting) -> None:
        """Cancelled, whether it waits or has just been let in."""
        if one not in self.waiters and one not in self.granted:
            return
        if one in self.granted:
            self.granted.remove(one)
            self.world.memory.used -= self.held.pop(one.waiter.permit) * MIB
        else:
            self.waiters.remove(one)
        state = self._before()
        self.controller._gate._withdraw(one.waiter)
        self._take_up(state)

    @rule(target=running, one=waiting)
    def wake(self, one: Waiting) -> Any:
        """One that was let in finds out."""
        if one not in self.granted:
            return multiple()
        self.granted.remove(one)
        return one.waiter.permit

    @rule(one=waiting)
    def go_away(self, one: Waiting) -> None:
        """Its client closes the connection; the next sample may see it."""
        one.gone = True

    # -- running ------------------------------------------------------------------------------------------------------

    @rule(permit=running, grown=st.integers(-200, 300))
    def take(self, permit: Permit, grown: int) -> None:
        """Its work allocates and frees; more than it reserved, if it likes."""
        if permit in self.held:
            grown = max(grown, -self.held[permit])
            self.held[permit] += grown
            self.world.memory.used += grown * MIB

    @rule(permit=running, learn=st.booleans())
    def end(self, permit: Permit, *, learn: bool) -> None:
        """It gives all back; twice, for good measure."""
        if permit not in self.held:
            return
        self.world.memory.used -= self.held.pop(permit) * MIB
        state = self._before()
        for _ in range(2):
            (permit.record if learn else permit.drop)()
        self._take_up(state)

    @rule()
    def end_the_evicted(self) -> None:
        """Those that were told to end do."""
        for permit in self.told & set(self.held):
            self.end(permit, learn=False)

    # -- around -------------------------------------------------------------------------------------------------------

    @rule(grown=st.integers(-300, 300))
    def leak(self, grown: int) -> None:
        """Memory that no permit answers for comes and goes."""
        least = 50 + sum(self.held.values())
        self.world.memory.used = max(least * MIB, self.world.memory.used + grown * MIB)

    @rule(limit=st.sampled_from([300, 600, 1000, 2000]))
    def resize(self, limit: int) -> None:
        """The limit is changed in place."""
        state = self._before()
        self.world.limits.resize(f"{limit}MiB")
        self.world.limits.refresh()
        self.controller.adopt_bounds()
        self._take_up(state, resized=True)

    @rule(seconds=st.sampled_from([0.005, 0.05, 0.5, 3.0]), samples=st.integers(0, 3))
    def pass_time(self, seconds: float, samples: int) -> None:
        """And the watcher looks now and then."""
        for _ in range(max(1, samples)):
            self.world.clock.advance(seconds)
            state = self._before()
            if samples:
                period = self.controller.sample()
                after = self._before()
                assert period is None or 0 < period <= 0.05
                assert period is not None or not (after.in_flight or after.queued), "work, and nobody looks"
            self._take_up(state)
            if samples:
                self._check_that_nobody_waits_in_vain()
        while late := [one for one in self.waiters if self.world.clock.monotonic() > one.until]:
            self._give_out(late[0])

    # -- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def promises_are_what_is_out(self) -> None:
        """Not a byte more or less."""
        if not hasattr(self, "world"):
            return
        state = self.controller.statistics()
        assert state.in_flight == len(self.held)
        assert state.reserved == sum(permit.reserved for permit in self.held) + state.queued_bytes
        assert state.queued == sum(one.waiter.queued for one in self.waiters)
        assert state.learning_errors == 0

    @invariant()
    def nothing_sheds_with_nothing_in_flight(self) -> None:
        """What could never fit is not counted."""
        if hasattr(self, "world"):
            assert self.controller.statistics().rejected_idle == 0

    def teardown(self) -> None:
        """All ends: those that wait are served one after the other, and every byte is back."""
        if not hasattr(self, "world"):
            return
        for _ in range(100):
            for permit in list(self.held):
                self.end(permit, learn=True)
            self.world.memory.used = 100 * MIB
            self.world.limits.resize("1000MiB")
            self.world.limits.refresh()
            self.controller.adopt_bounds()
            self.world.clock.advance(0.01)
            self.controller.sample()
            self._take_up(None)
            if not self.held and not any(one.waiter.queued for one in self.waiters):
                break
        assert not any(one.waiter.queued for one in self.waiters), "somebody waits for ever"
        state = self.controller.statistics()
        assert (state.reserved, state.in_flight, state.queued, state.queued_bytes) == (0, 0, 0, 0)
        assert state.rejected_idle == 0

    # -- inside -------------------------------------------------------------------------------------------------------

    def _before(self) -> Any:
        return self.controller.statistics()

    def _fits(self, cost: int | None) -> bool:
        """Whether work could run alone."""
        bound = self.world.limits.bounds[0]
        return cost is None or not bound.enforced or self.world.memory.used + cost * MIB <= bound.limit

    def _check_that_nobody_waits_in_vain(self) -> None:
        """With nothing in flight one goes through, whatever the figures say; not what was declared and is killed."""
        if not self.controller.statistics().in_flight:
            waiting = [one for one in self.waiters if one.waiter.queued]
            assert not any(self._fits(one.cost) for one in waiting), "it waits for nothing"

    def _refused(self, error: AdmissionRejected, state: Any) -> Any:
        if not state.in_flight and not state.queued:
            note(f"refused with nothing in flight: {error}")
            assert error.reason in {RejectionReason.TOO_LARGE, RejectionReason.MEMORY}
        assert self.controller.statistics().reserved <= state.reserved
        return multiple()

    def _take_up(self, state: Any, *, resized: bool = False) -> None:
        """Look who of those that waited was let in meanwhile, and whether that was right."""
        admitted = [one for one in self.waiters if one.waiter.admitted]
        for one in admitted:
            self.waiters.remove(one)
            self.granted.append(one)
            self.held[one.waiter.permit] = 0
        self.waiters = [one for one in self.waiters if one.waiter.error is None]
        if state is not None and not resized:
            held_bytes = sum(one.waiter.held_bytes for one in admitted)
            self._check_decision(state, [one.waiter.permit for one in admitted], held_bytes)

    def _give_out(self, one: Waiting) -> None:
        """Its time is up."""
        state = self._before()
        self.waiters.remove(one)
        try:
            admitted = self.controller._gate._outcome(one.waiter)
        except AdmissionRejected as error:
            assert error.reason is RejectionReason.ABANDONED  # noqa: PT017 - one of two ways out
            return
        assert not admitted
        waits_in_vain = state.in_flight == 0 and not self._fits(one.cost)
        if not waits_in_vain:
            self.controller._refusals.too_late("x", one.waiter.nbytes, RejectionReason.MEMORY)
        self._take_up(state)

    def _check_decision(self, before: Any, admitted: list[Permit], held_bytes: int = 0) -> None:
        """No decision promises more than there is, except one probe with nothing in flight.

        What those admitted held by waiting is part of what they reserve now, and in use already.
        """
        if not admitted:
            return
        after = self.controller.statistics()
        if after.probes > before.probes:
            assert after.probes == before.probes + 1
            assert len(self.held) + (admitted[0] not in self.held) == 1, "a probe runs alone"
            return
        promised = sum(permit.reserved for permit in {*self.held, *admitted})
        assert promised <= after.capacity
        wanted = sum(permit.reserved for permit in admitted) - held_bytes
        assert self.world.memory.used + wanted <= after.capacity


Admission.TestCase.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAdmission = Admission.TestCase
"""Invariants 1 and 3."""


def test_check_and_charge_are_one_step_across_threads() -> None:
    """Invariant 2: eight threads and a watcher at 1000 MiB, 130 MiB each: never more than six at once."""
    world = World(used="100MiB")
    world.clock.advance(1)
    most: list[int] = []
    errors: list[BaseException] = []
    begin = threading.Barrier(8)
    done = threading.Event()

    def work() -> None:
        try:
            begin.wait()
            for number in range(300):
                permit = world.controller.acquire_sync("job", cost="130MiB", priority=Priority(number % 3))
                state = world.controller.statistics()
                most.append(state.reserved)
                permit.record() if number % 2 else permit.drop()
        except BaseException as error:
            errors.append(error)
            raise

    def watch() -> None:
        while not done.is_set():
            world.controller.sample()

    watcher = threading.Thread(target=watch)
    watcher.start()
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    done.set()
    watcher.join(10)
    assert errors == []
    assert max(most) <= 6 * 130 * MIB
    state = world.controller.statistics()
    assert (state.reserved, state.in_flight, state.queued, state.admitted) == (0, 0, 0, 2400)


@pytest.mark.asyncio
async def test_waiters_granted_and_cancelled_at_once_leave_nothing() -> None:
    """Invariant 1: let in on a guess, charged less after a sample, cancelled before it woke: what it had comes back."""
    world = World()
    held = world.controller.acquire_nowait("job", cost="900MiB")
    tasks = [asyncio.ensure_future(world.controller.acquire("new")) for _ in range(3)]
    while world.controller.statistics().queued < len(tasks):  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0)
    held.record()
    assert world.controller.statistics().reserved > 0
    for _ in range(10):
        world.clock.advance(0.5)
        world.controller.sample()
    for task in tasks:
        task.cancel()  # as a server does whose client has gone; no scope of anyio's that would let it wake first
    assert all(
        isinstance(error, asyncio.CancelledError) for error in await asyncio.gather(*tasks, return_exceptions=True)
    )
    state = world.controller.statistics()
    assert (state.reserved, state.in_flight, state.queued) == (0, 0, 0)
    assert state.headroom == 900 * MIB


def full_runtime(**options: Any) -> tuple[MemoryRuntime, Permit]:
    """A runtime of which everything is promised."""
    memory = SyntheticSampler("100MiB")
    runtime = MemoryRuntime(
        MemoryConfig(guard_band=0, log_alerts=False, monitoring=False),
        sampler=memory,
        machine=memory,
        limits=SyntheticLimits(memory, "1000MiB"),
        **options,
    )
    runtime.start()
    return runtime, runtime.admission.acquire_nowait("all", cost="900MiB")


def test_health_metrics_release_and_shutdown_need_no_memory() -> None:
    """Invariant 6: with every byte promised and a reading that fails, each of them still answers."""
    runtime, permit = full_runtime()
    assert readiness(runtime, None).status_code == 200
    assert runtime.statistics().admission.headroom == 0
    assert isinstance(runtime._sampler, SyntheticSampler)
    runtime._sampler.error = OSError("no reading")
    assert runtime.statistics().admission.in_flight == 1
    assert readiness(runtime, None).status_code in {200, 503}
    permit.record()
    runtime.stop()
    assert runtime.statistics().admission.reserved == 0


def test_a_handler_of_alerts_that_blocks_delays_no_permit() -> None:
    """Invariant 7: it hangs in its own thread or in the checker's; permits are handed out all the while."""
    runtime, permit = full_runtime()
    entered, go_on = threading.Event(), threading.Event()

    def block(_alert: object) -> None:
        entered.set()
        go_on.wait(30)

    runtime.alerts.add_handler(block, immediate=True)
    assert isinstance(runtime._sampler, SyntheticSampler)
    runtime._sampler.used = 990 * MIB
    checking = threading.Thread(target=runtime.check_now)
    checking.start()
    try:
        assert entered.wait(10)
        permit.record()
        runtime._sampler.used = 100 * MIB
        for _ in range(100):
            runtime.admission.acquire_nowait("job").record()
        assert runtime.statistics().admission.in_flight == 0
    finally:
        go_on.set()
        checking.join(10)
        runtime.stop()


SAVER = """
import sys
from asyncmem.admission import CostsFile
from tests.admission.conftest import World
world = World()
file = CostsFile(sys.argv[1], world.controller)
number = 0
while True:
    number += 1
    world.run_alone(f"class {number}", 1 + number % 50)
    assert file.save()
    print(number, flush=True)
"""


def test_saved_costs_survive_a_kill(tmp_path: Path) -> None:
    """Invariant 8: killed at any moment, the file is whole and holds what `save` has said that it holds."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", SAVER, str(tmp_path / "costs")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    for _ in range(60):
        acknowledged = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split()
    acknowledged = int(rest[-1]) if rest else acknowledged
    process.stdout.close()
    assert process.wait(10) == -signal.SIGKILL
    world = World()
    world.controller.load_costs((tmp_path / "costs").read_bytes())
    kept = min(acknowledged, 1000)  # so many classes are remembered
    assert len(world.controller.statistics().task_classes) >= kept - 1, "the last one had yet to be sampled"
