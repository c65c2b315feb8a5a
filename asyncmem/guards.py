"""Admission around plain code: a context manager and a decorator, for async and sync functions.

A `Guard` needs only an admission controller; `MemoryRuntime.guard` and `asyncmem.memory_guard` make one.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from traceback import clear_frames
from typing import TYPE_CHECKING, Final, ParamSpec, Self, TypeVar, cast

import anyio

from asyncmem._wakeup import LoopCaller
from asyncmem.admission import Permit, Priority, check_deadline, checked_priority, checked_size, current_permit
from asyncmem.errors import ConfigError
from asyncmem.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Token
    from types import TracebackType

    from asyncmem.admission import AdmissionController

__all__ = ["Guard"]

P = ParamSpec("P")
R = TypeVar("R")


class Guard:
    """Runs work under a permit: ``async with``, ``with``, or as a decorator.

    The permit is recorded when the block ends, and dropped when it raises or is cancelled. A guard is entered once;
    a decorated function takes a new one for each call. As a synchronous context manager or on a synchronous function
    it blocks the calling thread, and raises where that is the event loop's.

    Args:
        controller: Gives the controller at the moment of entering, so that a decorator needs none at import.
        task_class: The name under which costs are learned.
        cost: Bytes needed at the peak, or text such as ``"80MiB"``; None to use what was learned.
        priority: The higher is served first.
        deadline: Seconds from entering within which the work must start.
        size: Size of the input, in bytes or items, where it is known: costs are learned per size.
        cancellable: The work may be cancelled to free its memory when that runs short, because it is safe to repeat; it
            then ends with `AdmissionRejected`. Only for ``async with`` and coroutine functions.

    Raises:
        ConfigError: A cost, priority, deadline or size that cannot be.
    """

    __slots__ = (
        "_cancellable",
        "_controller",
        "_cost",
        "_deadline",
        "_entered",
        "_permit",
        "_priority",
        "_scope",
        "_size",
        "_task_class",
        "_token",
    )

    def __init__(
        self,
        controller: Callable[[], AdmissionController],
        task_class: str,
        *,
        cost: int | str | None = None,
        priority: Priority = Priority.NORMAL,
        deadline: float | None = None,
        size: float = 0.0,
        cancellable: bool = False,
    ) -> None:
        if not isinstance(cast("object", task_class), str) or not task_class:
            raise ConfigError(
                f"guard: got the name {task_class!r}; expected text, for example 'embedding' (as a decorator, "
                "write @memory_guard('name') with its brackets)"
            )
        if deadline is not None:
            check_deadline(deadline)
        self._controller = controller
        self._task_class = task_class
        self._cost = None if cost is None else parse_bytes(cost)
        self._priority = checked_priority(priority)
        self._deadline = deadline
        self._size = checked_size(size)
        self._cancellable = cancellable
        self._scope: anyio.CancelScope | None = None
        self._entered = False
        self._permit: Permit | None = None
        self._token: Token[Permit | None] | None = None

    async def __aenter__(self) -> Permit:
        self._enter_once()
        permit = await self._controller().acquire(
            self._task_class, cost=self._cost, priority=self._priority, deadline=self._deadline, size=self._size
        )
        if self._cancellable:
            self._scope = anyio.CancelScope()
            self._scope.__enter__()
            permit.handle = (LoopCaller(), self._scope)
            permit.canceller = _canceller
        return self._hold(permit)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        permit, scope = self._permit, self._scope
        assert permit is not None
        self._release(failed=kind is not None)
        if scope is None:
            return None
        swallowed = scope.__exit__(kind, error, traceback)
        if error is None or not (swallowed and permit.evicted):
            return error is not None and swallowed
        clear_frames(error.__traceback__)  # what the work held hangs on them
        raise self._controller().evicted(permit) from None

    def __enter__(self) -> Permit:
        if self._cancellable:
            raise ConfigError(
                "guard: cancellable=True is for 'async with' and coroutine functions: nothing can end a "
                "synchronous block from outside"
            )
        self._enter_once()
        permit = self._controller().acquire_sync(
            self._task_class, cost=self._cost, priority=self._priority, deadline=self._deadline, size=self._size
        )
        return self._hold(permit)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._release(failed=kind is not None)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Guard each call of a function.

        Raises:
            ConfigError: A generator function, whose work begins after the call; guard the loop over it instead.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(
                f"{function.__qualname__} is a generator function: calling it does no work yet, so a guard around the "
                "call would end at once; write 'with memory_guard(...)' around the loop that consumes it"
            )
        if inspect.iscoroutinefunction(function):
            coroutine_function = cast("Callable[P, Awaitable[object]]", function)

            @functools.wraps(function)
            async def run(*args: P.args, **kwargs: P.kwargs) -> object:
                guard = self._copy()
                async with guard as permit:
                    return await guard._controller().step(permit, coroutine_function(*args, **kwargs))  # noqa: SLF001 - its own kind

            return cast("Callable[P, R]", run)

        @functools.wraps(function)
        def run_sync(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._copy():
                return function(*args, **kwargs)

        return run_sync

    def _copy(self) -> Self:
        return type(self)(
            self._controller,
            self._task_class,
            cost=self._cost,
            priority=self._priority,
            deadline=self._deadline,
            size=self._size,
            cancellable=self._cancellable,
        )

    def _enter_once(self) -> None:
        if self._entered:
            raise RuntimeError("this guard was entered before; call memory_guard(...) again for each block")
        self._entered = True

    def _hold(self, permit: Permit) -> Permit:
        self._permit = permit
        self._token = current_permit.set(permit)
        return permit

    def _release(self, *, failed: bool) -> None:
        assert self._permit is not None
        assert self._token is not None
        if failed:
            self._permit.drop()
        else:
            self._permit.record()
        with contextlib.suppress(ValueError):  # left in another context, as fixtures do: there is nothing to restore
            current_permit.reset(self._token)


class _ScopeCanceller:
    """Cancels the scope that a guard has put around its work, in the work's own event loop."""

    def cancel(self, permit: Permit) -> None:
        """Cancel it soon; called from the sampling thread."""
        handle = cast("tuple[LoopCaller, anyio.CancelScope] | None", permit.handle)
        if handle is not None:  # else it has ended meanwhile
            loop, scope = handle
            loop.call(scope.cancel)


_canceller: Final = _ScopeCanceller()
