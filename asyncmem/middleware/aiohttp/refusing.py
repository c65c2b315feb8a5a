"""Answers to requests that are not served, and how their connections are let go.

A refusal comes before the body was read. The server would go on reading an upload for up to ten seconds after its
answer, and a close at once would take the answer with it: the kernel resets a connection that is closed with bytes
unread. So the answer is sent, the upload is read and thrown away for a second, and then the connection is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from aiohttp import web

from asyncmem.middleware.problem import PROBLEM_JSON, problem_body, retry_headers

if TYPE_CHECKING:
    from asyncmem.errors import AdmissionRejected

__all__ = ["let_go", "refuse"]

_LINGER_SECONDS: Final = 1.0


def refuse(request: web.Request, rejection: AdmissionRejected) -> web.StreamResponse:  # noqa: ARG001 - a `refusal` has both
    """The default answer to a refused request: RFC 9457 problem JSON with ``Retry-After``."""
    return web.Response(
        status=rejection.status_code,
        body=problem_body(rejection),
        content_type=PROBLEM_JSON,
        headers=retry_headers(rejection),
    )


async def let_go(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Send a refusal; where an upload is under way, close the connection soon after."""
    if not request.can_read_body or request.content.is_eof():
        return response
    response.force_close()
    with contextlib.suppress(OSError):  # the client has gone
        await response.prepare(request)
        await response.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while not request.content.is_eof():
                    await request.content.readany()
        request.protocol.force_close()
    return response
