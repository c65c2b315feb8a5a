"""The runtime that module-level conveniences work on.

It is the one whose ``async with`` block the caller is in, else the one that was started last in this process (an app
under the middleware), else a default made at first use from environment and file. Never at import.
"""

from __future__ import annotations

import threading

from asyncmem.admission import AdmissionController, Priority
from asyncmem.guards import Guard
from asyncmem.runtime import MemoryRuntime, current_runtime, running_runtimes

__all__ = ["get_runtime", "memory_guard"]

_making_default = threading.Lock()


def get_runtime() -> MemoryRuntime:
    """The current runtime; makes and starts a default one where there is none.

    Raises:
        ConfigError: The environment or the settings file holds a wrong value.
        LimitDiscoveryError: No limit could be read.
    """
    runtime = current_runtime.get()
    if runtime is not None and runtime.is_running:
        return runtime
    with _making_default:
        running = tuple(running_runtimes)  # another thread may stop one meanwhile
        if running:
            return running[-1]
        made = MemoryRuntime()
        made.start()
        return made


def memory_guard(
    name: str,
    *,
    cost: int | str | None = None,
    priority: Priority = Priority.NORMAL,
    deadline: float | None = None,
    size: float = 0.0,
    cancellable: bool = False,
) -> Guard:
    """Run work under a permit of the current runtime, as a context manager or as a decorator.

    ::

        @memory_guard("thumbnail", cost="40MiB")
        async def thumbnail(image): ...

        async with memory_guard("report"):
            ...

    Args:
        name: The task class under which costs are learned.
        cost: Bytes needed at the peak, or text such as ``"40MiB"``; None to use what was learned.
        priority: The higher is served first.
        deadline: Seconds within which the work must start.
        size: Size of the input, in bytes or items, where it is known: costs are learned per size.
        cancellable: The work is safe to repeat and may be cancelled when memory runs short.

    Returns:
        A guard for ``async with``, ``with`` or ``@``.

    Raises:
        ConfigError: A value that cannot be.
    """
    return Guard(_admission, name, cost=cost, priority=priority, deadline=deadline, size=size, cancellable=cancellable)


def _admission() -> AdmissionController:
    return get_runtime().admission
