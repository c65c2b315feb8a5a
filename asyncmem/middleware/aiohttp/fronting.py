"""Where admission stands in an application: in front of everything that could take memory for a request.

That is the front of the middlewares, and, for requests that ask with ``Expect: 100-continue`` whether to send their
body, in front of the answer to that. Where an application has no other middlewares, each handler is wrapped instead:
the chain of middlewares alone costs aiohttp a tenth of the processor time of a small request.

aiohttp has no public place for the last two, so private names of it are used here and nowhere else. Where one is not as
expected the middleware does it all, and only the order around ``100 Continue`` is lost; tests hold aiohttp to them.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from asyncmem.middleware.aiohttp.declaring import Plan
    from asyncmem.middleware.aiohttp.guarding import Guard, Guarding

    ExpectHandler = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse | None]]

__all__ = ["place_in_front"]


def place_in_front(app: web.Application, guarding: Guarding) -> None:
    """Put admission in front of an application that has not been started yet."""
    middleware = guarding.middleware()
    app.middlewares.insert(0, middleware)

    has_taken_place = False

    async def take_place(_app: web.Application) -> None:
        nonlocal has_taken_place
        if has_taken_place:  # an application may be started again
            return
        has_taken_place = True
        routes = list(app.router.routes())
        stands_alone = (
            list(app.middlewares) == [middleware]
            and not app.middlewares.frozen
            and not any(sub.middlewares for sub in _subapps(app))
            and all(hasattr(route, "_handler") for route in routes)
        )
        for route in routes:
            plan = guarding.plan(route)
            if plan is None:
                continue
            if not plan.is_plain and hasattr(route, "_expect_handler"):
                route._expect_handler = _expecting(route._expect_handler, guarding, plan)  # noqa: SLF001 - see above
            if stands_alone:
                route._handler = _guarded(guarding.guard(plan), route.handler)  # noqa: SLF001
        if stands_alone:
            app.middlewares.remove(middleware)

    app.on_startup.append(take_place)


def _subapps(app: web.Application) -> list[web.Application]:
    subapps: list[web.Application] = getattr(app, "_subapps", [])
    return [*subapps, *(inner for sub in subapps for inner in _subapps(sub))]


def _guarded(guard: Guard, handler: Any) -> Any:
    return functools.update_wrapper(functools.partial(guard, handler), handler)


def _expecting(answer: ExpectHandler, guarding: Guarding, plan: Plan) -> ExpectHandler:
    async def expect(request: web.Request) -> web.StreamResponse | None:
        refusal = await guarding.expect(request, plan)
        return await answer(request) if refusal is None else refusal

    return expect
