"""A permit around each request.

aiohttp runs each request in a task of its own that ends after the last byte of the answer was handed to the kernel. A
small answer is handed over at once when the handler has returned it, and its permit ends there; else the permit ends
with the task, which covers answers that are read slowly, and handlers that run on behind a client that went away.
"""

from __future__ import annotations

import asyncio
import functools
import traceback
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web

from asyncmem.admission import STEPPED_FROM, Permit, current_permit
from asyncmem.errors import AdmissionRejected, RejectionReason
from asyncmem.middleware.aiohttp.declaring import EXEMPT, Plans, checked
from asyncmem.middleware.aiohttp.evicting import ConnectionBreaker, TaskCanceller
from asyncmem.middleware.aiohttp.refusing import let_go, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from aiohttp.typedefs import Handler, Middleware

    from asyncmem.admission import AdmissionController, Priority
    from asyncmem.middleware.aiohttp.declaring import CostOf, Plan, PriorityOf, SizeOf
    from asyncmem.runtime import MemoryRuntime

    class Guard(Protocol):
        """Runs a request of one route under a permit."""

        def __call__(self, handler: Handler, request: web.Request) -> Coroutine[Any, Any, web.StreamResponse]:
            """Admit it, have it handled, and end its permit."""
            ...

    Refusal = Callable[[web.Request, AdmissionRejected], web.StreamResponse]

__all__ = ["Guarding", "memory_middleware"]

_SMALL_ANSWER: Final = 16 * 1024
"""An answer of so many bytes fits the kernel's buffer, and is handed over in one go."""
_STREAM: Final = object()
"""Stands for the body of an answer that is sent by its handler."""
_CONNECTION_BYTES: Final = 16 * 1024
"""What a request without a body takes while it waits: its parsed head, its task, its connection's buffers."""
_UPLOAD_BYTES: Final = 395 * 1024
"""What an upload that waits unread takes at most: the server stops reading when its buffers are full."""
_PERMIT: Final = web.RequestKey("asyncmem_permit", Permit)


def memory_middleware(
    runtime: MemoryRuntime,
    *,
    cost: int | str | CostOf | None = None,
    priority: Priority | PriorityOf | None = None,
    size: SizeOf | None = None,
    exempt: Iterable[str] = EXEMPT,
    refusal: Refusal | None = None,
) -> Middleware:
    """The middleware alone, for those who compose by hand; `runtime` is theirs to start and stop.

    It belongs at the front of ``app.middlewares``. Arguments and errors as of `setup`. A request that asks with
    ``Expect: 100-continue`` whether to send its body is told to before it comes here; `setup` goes in front of that.
    """
    plans = Plans(checked(cost, priority, None, size), exempt)
    return Guarding(runtime.admission, plans, refuse if refusal is None else refusal).middleware()


class Guarding:
    """Takes requests through admission.

    Args:
        controller: Hands out the permits.
        plans: Makes the plans of routes.
        answer: Makes the answer to a refused request.
    """

    def __init__(self, controller: AdmissionController, plans: Plans, answer: Refusal) -> None:
        self._controller = controller
        self._plans = plans
        self._answer = answer
        self._canceller = TaskCanceller()

    def middleware(self) -> Middleware:
        """For the front of ``app.middlewares``; the plan of a route is made at its first request."""
        guards: dict[web.AbstractRoute, Guard | None] = {}

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            match = request.match_info
            try:
                guarded = guards[match.route]
            except KeyError:
                if match.http_exception is not None:  # no such route; these are made anew for each request
                    return await handler(request)
                plan = self._plans.of(match.route)
                guarded = guards[match.route] = None if plan is None else self.guard(plan)
            return await (handler(request) if guarded is None else guarded(handler, request))

        return guard

    def plan(self, route: web.AbstractRoute) -> Plan | None:
        """What to do with a route's requests; None to leave them alone."""
        return self._plans.of(route)

    def guard(self, plan: Plan) -> Guard:
        """What runs a route's requests under permits, with whatever handles them.

        Everything that a request passes on its way stands in one function: calls are what it would cost.
        """
        try_acquire, task_class = self._controller.try_acquire, plan.task_class
        step = self._controller.step
        canceller, is_plain = self._canceller, plan.is_plain
        may_be_cancelled = plan.cancellable is not False if is_plain else None
        current_task, hold = asyncio.current_task, current_permit.set

        async def run(handler: Handler, request: web.Request) -> web.StreamResponse:
            try:
                permit = try_acquire(task_class) if is_plain else self._try(request, plan)
                if permit is None:
                    permit = await self._wait(request, plan)
                    if request.transport is None:  # the client went away in the queue; the access log sees the answer
                        permit.drop()
                        return web.Response(status=499, reason="Client Closed Request")
            except AdmissionRejected as rejection:
                return await let_go(request, self._refused(request, rejection))
            task: Any = current_task()
            if may_be_cancelled or (may_be_cancelled is None and plan.may_be_cancelled(request)):
                permit.handle, permit.canceller = task, canceller
            hold(permit)  # the task and its context end with the request
            try:
                work = handler(request)
                response = await (work if permit.reserved < STEPPED_FROM else step(permit, work))
            except BaseException as error:
                answer = self._failed(request, permit, task, error)
                task = None  # the error's traceback holds this frame, and must not hold the task, which holds the error
                if answer is None:
                    raise
                return answer
            body = response.body if response.__class__ is web.Response else _STREAM
            if body is None or (body.__class__ is bytes and len(body) <= _SMALL_ANSWER):
                permit.record()
            else:
                permit.measured = permit.taken = -1  # what it takes to send is in none of the handler's steps
                if permit.canceller is not None:
                    permit.canceller = ConnectionBreaker(task.get_loop(), request.transport)
                _end_with_task(task, permit, failed=False)
            return response

        return run

    async def expect(self, request: web.Request, plan: Plan) -> web.StreamResponse | None:
        """Admission for a request that asks whether to send its body: a refusal comes before ``100 Continue``.

        Returns:
            The refusal; None where the body may come. The permit is handed to `guard`.
        """
        try:
            permit = await self._wait(request, plan)
        except AdmissionRejected as rejection:
            response = self._answer(request, rejection)
            response.force_close()
            return response
        request[_PERMIT] = permit
        task = asyncio.current_task()
        assert task is not None, "aiohttp runs requests in tasks"
        task.add_done_callback(functools.partial(_drop_unused, request))
        return None

    def _try(self, request: web.Request, plan: Plan) -> Permit | None:
        permit: Permit | None = request.pop(_PERMIT, None)
        if permit is not None:
            return permit
        return self._controller.try_acquire(
            plan.task_class,
            cost=plan.cost_of(request),
            priority=plan.priority_of(request),
            size=plan.size_of(request),
        )

    async def _wait(self, request: web.Request, plan: Plan) -> Permit:
        return await self._controller.acquire(
            plan.task_class,
            cost=plan.cost_of(request),
            priority=plan.priority_of(request),
            deadline=plan.deadline,
            size=plan.size_of(request),
            held_bytes=_waiting_bytes(request),
            abandoned=lambda: request.transport is None,
        )

    def _failed(
        self, request: web.Request, permit: Permit, task: asyncio.Task[Any], error: BaseException
    ) -> web.StreamResponse | None:
        """End the permit of a request whose handler raised; returns its answer, None where the error is to go on."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            permit.drop()
            return self._evicted(request, permit, task, error) if permit.evicted else None
        _end_with_task(task, permit, failed=not isinstance(error, web.HTTPException))
        if isinstance(error, AdmissionRejected) and not request.writer.output_size:  # of a guard inside the handler
            return self._refused(request, error)
        return None

    def _refused(self, request: web.Request, rejection: AdmissionRejected) -> web.StreamResponse:
        """The answer to a refused request."""
        response = self._answer(request, rejection)
        if rejection.reason is RejectionReason.CLOSED:
            response.force_close()  # the next request of this client belongs to another process
        return response

    def _evicted(
        self, request: web.Request, permit: Permit, task: asyncio.Task[Any], cancellation: BaseException
    ) -> web.StreamResponse | None:
        """The answer to a request that was cancelled to free its memory; None where one had begun."""
        # What the handler held hangs on the frames of the traceback.
        traceback.clear_frames(cancellation.__traceback__)
        if request.writer.output_size:
            if request.transport is not None:
                request.transport.abort()
            return None
        task.uncancel()
        return self._answer(request, self._controller.evicted(permit))


def _drop_unused(request: web.Request, _task: asyncio.Task[Any]) -> None:
    """End the permit of a request that never got from ``100 Continue`` to its handler."""
    permit: Permit | None = request.pop(_PERMIT, None)
    if permit is not None:
        permit.drop()


def _waiting_bytes(request: web.Request) -> int:
    if not request.can_read_body:
        return _CONNECTION_BYTES
    length = request.content_length
    return _CONNECTION_BYTES + (_UPLOAD_BYTES if length is None else min(length, _UPLOAD_BYTES))


def _end_with_task(task: asyncio.Task[Any] | None, permit: Permit, *, failed: bool) -> None:
    """End a permit when the request's task ends; aiohttp turns what a handler raised into an answer: `failed` tells."""

    def end(ended: asyncio.Task[Any]) -> None:
        if failed or ended.cancelled() or ended.exception() is not None:
            permit.drop()
        else:
            permit.record()

    assert task is not None, "aiohttp runs requests in tasks"
    task.add_done_callback(end)
