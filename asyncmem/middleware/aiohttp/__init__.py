"""Admission in front of an `aiohttp.web` application: one call guards it.

::

    app = web.Application()
    app.router.add_post("/resize", resize)
    setup(app)

Each request reserves memory before its handler runs and before its body is read, waits for it, or is refused with 503,
429 or 413. The permit lasts until the answer has been sent, or until the handler *really* ended behind a client that
went away; WebSockets hold theirs as long as they are open. When memory runs short all the same, requests that are safe
to repeat are cancelled: with 503, or, where the answer had begun, by closing the connection.

Routes that do not exist (404, 405) cost nothing and are not guarded.

========= ====================================================
module    what it does
========= ====================================================
attaching `setup`: puts the rest into an application
declaring what a handler needs, and how its requests are treated
guarding  the middleware: a permit around each request
evicting  ends requests to free their memory
refusing  answers to those that are not served
draining  `shutdown_on_critical`: ends a process whose memory stays critical
========= ====================================================
"""

from __future__ import annotations

from asyncmem.middleware.aiohttp.attaching import RUNTIME, add_health_routes, setup
from asyncmem.middleware.aiohttp.declaring import EXEMPT, admission
from asyncmem.middleware.aiohttp.draining import EXIT_MEMORY, shutdown_on_critical
from asyncmem.middleware.aiohttp.guarding import memory_middleware
from asyncmem.middleware.aiohttp.refusing import refuse

__all__ = [
    "EXEMPT",
    "EXIT_MEMORY",
    "RUNTIME",
    "add_health_routes",
    "admission",
    "memory_middleware",
    "refuse",
    "setup",
    "shutdown_on_critical",
]
