"""The byte semaphore: in order, resizable, and nothing lost, on asyncio, on trio and across threads."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import anyio
import anyio.lowlevel
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asyncmem.admission import MemorySemaphore, Priority
from asyncmem.admission.waiter import Waiter
from asyncmem.errors import ConfigError, MemoryLimitExceeded

pytestmark = pytest.mark.anyio


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await checkpoint()


async def test_holders_never_exceed_the_capacity() -> None:
    """Three of 40 in 100: two run, the third when one has released."""
    semaphore = MemorySemaphore(100)
    running: list[int] = []
    peak = 0

    async def work(number: int) -> None:
        nonlocal peak
        async with semaphore.hold(40):
            running.append(number)
            peak = max(peak, semaphore.statistics().reserved)
            await settle()
            running.remove(number)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(work, number)
    assert peak == 80
    assert semaphore.statistics().reserved == 0


async def test_a_large_waiter_is_not_overtaken() -> None:
    """Small ones behind a large one wait, though they would fit."""
    semaphore = MemorySemaphore(100)
    order: list[str] = []

    async def take(name: str, nbytes: int) -> None:
        async with semaphore.hold(nbytes):
            order.append(name)

    await semaphore.acquire(60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, "large", 80)
        await settle()
        tasks.start_soon(take, "small", 30)
        await settle()
        assert order == []
        with pytest.raises(anyio.WouldBlock):
            semaphore.acquire_nowait(1)
        semaphore.release(60)
    assert order == ["large", "small"]


async def test_the_higher_priority_is_served_first() -> None:
    """Within one priority in order of arrival."""
    semaphore = MemorySemaphore(10)
    order: list[str] = []

    async def take(name: str, priority: Priority) -> None:
        async with semaphore.hold(10, priority=priority):
            order.append(name)

    await semaphore.acquire(10)
    async with anyio.create_task_group() as tasks:
        for name, priority in [
            ("low", Priority.LOW),
            ("normal", Priority.NORMAL),
            ("high", Priority.HIGH),
            ("normal 2", Priority.NORMAL),
        ]:
            tasks.start_soon(take, name, priority)
            await settle()
        semaphore.release(10)
    assert order == ["high", "normal", "normal 2", "low"]


async def test_cancelled_waiters_take_nothing_and_unblock_those_behind() -> None:
    """A cancelled head lets the next go on at once, without a release."""
    semaphore = MemorySemaphore(100)
    await semaphore.acquire(60)
    async with anyio.create_task_group() as outer, anyio.create_task_group() as doomed:
        doomed.start_soon(semaphore.acquire, 90)
        await settle()
        outer.start_soon(semaphore.acquire, 40)
        await settle()
        assert semaphore.statistics().waiting == 2
        doomed.cancel_scope.cancel()
    assert semaphore.statistics().reserved == 100


async def test_cancelled_in_the_moment_of_admission_gives_back() -> None:
    """Admitted and cancelled before it could run: the bytes come back."""
    semaphore = MemorySemaphore(10)
    await semaphore.acquire(10)

    async def hold() -> None:
        async with semaphore.hold(10):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        await settle()
        semaphore.release(10)
        tasks.cancel_scope.cancel()
    assert semaphore.statistics().reserved == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_bare_task_cancel_in_the_moment_of_admission_gives_back(anyio_backend: str) -> None:
    """The `Task.cancel` of asyncio strikes where anyio's would hold off: after the wakeup, before the task runs."""
    semaphore = MemorySemaphore(10)
    await semaphore.acquire(10)
    task = asyncio.ensure_future(semaphore.acquire(10))
    await settle()
    semaphore.release(10)
    assert semaphore.statistics().waiting == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert semaphore.statistics().reserved == 0


async def test_grows_and_shrinks_while_waiters_queue() -> None:
    """Shrunk and grown again it never grants more than there is (anyio #1223: 110 borrowers at a capacity of 20)."""
    semaphore = MemorySemaphore(100)
    async with anyio.create_task_group() as tasks:
        for _ in range(200):
            tasks.start_soon(semaphore.acquire, 1)
        await settle()
        assert semaphore.statistics().reserved == 100
        semaphore.capacity = 10
        for _ in range(95):
            semaphore.release(1)
        await settle()
        assert semaphore.statistics().reserved == 10
        semaphore.capacity = "20"
        await settle()
        assert semaphore.statistics().reserved == 20
        for _ in range(85):
            semaphore.release(1)
            assert semaphore.statistics().reserved <= 20
            await settle()
    assert semaphore.statistics().waiting == 0


async def test_a_waiter_beyond_a_lowered_capacity_keeps_its_place() -> None:
    """It blocks nobody, and is the first again when the capacity comes back."""
    semaphore = MemorySemaphore(100)
    await semaphore.acquire(50)
    order: list[str] = []

    async def take(name: str, nbytes: int) -> None:
        await semaphore.acquire(nbytes)
        order.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, "large", 90)
        await settle()
        tasks.start_soon(take, "small", 10)
        await settle()
        semaphore.capacity = 60
        await settle()
        assert order == ["small"]
        semaphore.release(50)
        await settle()
        assert order == ["small"]
        semaphore.capacity = 100
    assert order == ["small", "large"]


async def test_uncontended_it_does_not_yield() -> None:
    """The way in costs no trip through the loop."""
    semaphore = MemorySemaphore(100)
    ran = False

    async def other() -> None:
        nonlocal ran
        ran = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await semaphore.acquire(1)
        assert not ran


async def test_a_thread_and_a_task_share_one_queue() -> None:
    """A release in the loop wakes a thread, and one in a thread wakes a task."""
    semaphore = MemorySemaphore(10)
    await semaphore.acquire(10)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(anyio.to_thread.run_sync, semaphore.acquire_sync, 10))
            while not semaphore.statistics().waiting:
                await anyio.lowlevel.checkpoint()
            semaphore.release(10)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(semaphore.acquire, 10)
            await settle()
            await anyio.to_thread.run_sync(semaphore.release, 10)
    assert semaphore.statistics().reserved == 10


async def test_a_blocking_wait_on_the_loops_thread_is_refused() -> None:
    """It would stop the loop that has to release; without contention it is allowed."""
    semaphore = MemorySemaphore(10)
    semaphore.acquire_sync(10)
    with pytest.raises(RuntimeError, match="async with"):
        semaphore.acquire_sync(10)
    assert semaphore.statistics().waiting == 0


async def test_ten_thousand_cancelled_at_once() -> None:
    """Nothing is lost and nothing stays queued."""
    semaphore = MemorySemaphore(1)
    await semaphore.acquire(1)
    with anyio.fail_after(100):
        async with anyio.create_task_group() as tasks:
            for _ in range(10_000):
                tasks.start_soon(semaphore.acquire, 1)
            await settle()
            assert semaphore.statistics().waiting == 10_000
            tasks.cancel_scope.cancel()
    semaphore.release(1)
    assert semaphore.statistics().reserved == semaphore.statistics().waiting == 0


def test_threads_alone() -> None:
    """Without any loop: eight threads, never more than the capacity."""
    semaphore = MemorySemaphore(30)
    over: list[int] = []

    def work() -> None:
        for _ in range(200):
            semaphore.acquire_sync(10)
            if (reserved := semaphore.statistics().reserved) > 30:
                over.append(reserved)
            semaphore.release(10)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert over == []
    assert semaphore.statistics().reserved == 0


def test_bad_amounts_are_refused() -> None:
    """More than there is, nothing, and nonsense; and a release that nobody acquired."""
    semaphore = MemorySemaphore("1KiB")
    with pytest.raises(MemoryLimitExceeded, match="split the work") as caught:
        semaphore.acquire_nowait(2000)
    assert (caught.value.requested, caught.value.available) == (2000, 1024)
    with pytest.raises(ConfigError, match="at least 1"):
        semaphore.acquire_nowait(0)
    with pytest.raises(ConfigError):
        semaphore.acquire_nowait("-3")
    with pytest.raises(RuntimeError, match="release each acquire once"):
        semaphore.release(1)
    with pytest.raises(ConfigError):
        MemorySemaphore("lots")


class SemaphoreMachine(RuleBasedStateMachine):
    """Any order of acquire, release, cancel and resize keeps the books."""

    def __init__(self) -> None:
        super().__init__()
        self.semaphore = MemorySemaphore(100)
        self.held: list[int] = []
        self.waiting: list[Waiter] = []

    @rule(nbytes=st.integers(1, 100), priority=st.sampled_from(Priority))
    def acquire(self, nbytes: int, priority: Priority) -> None:
        """Take or queue up, as `acquire` does before it waits."""
        if nbytes > self.semaphore.capacity:
            with pytest.raises(MemoryLimitExceeded):
                self.semaphore.acquire_nowait(nbytes)
            return
        waiter = Waiter(nbytes, priority)
        self.semaphore._gate.enter_or_queue(waiter, NoWakeup, None)  # type: ignore[arg-type]
        self.waiting.append(waiter)
        self.collect()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Give back any of what is held."""
        self.semaphore.release(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))
        self.collect()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Take any waiter out."""
        waiter = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.semaphore._gate._withdraw(waiter)
        self.collect()

    @rule(capacity=st.integers(0, 200))
    def resize(self, capacity: int) -> None:
        """Change the capacity; what is held stays."""
        before = self.semaphore.statistics().reserved
        self.semaphore.capacity = capacity
        self.collect()
        after = self.semaphore.statistics().reserved
        assert after <= max(before, capacity)

    def collect(self) -> None:
        """Move the admitted from waiting to held."""
        self.held += [w.nbytes for w in self.waiting if w.admitted]
        self.waiting = [w for w in self.waiting if not w.admitted]

    @invariant()
    def books_agree(self) -> None:
        """What is reserved is what is held, and no more than before or than there is."""
        statistics = self.semaphore.statistics()
        assert statistics.reserved == sum(self.held)
        assert self.semaphore._gate.in_flight == len(self.held)
        assert statistics.waiting == len(self.waiting)

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """The first that could ever be served does not fit."""
        free = self.semaphore.capacity - sum(self.held)
        ordered = sorted(self.waiting, key=lambda w: -w.priority)
        first = next((w for w in ordered if w.nbytes <= self.semaphore.capacity), None)
        assert first is None or first.nbytes > free


class NoWakeup:
    """A waiter that is looked at and not woken."""

    def notify(self) -> bool:
        """Nothing to wake."""
        return True


SemaphoreMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestSemaphoreMachine = SemaphoreMachine.TestCase
