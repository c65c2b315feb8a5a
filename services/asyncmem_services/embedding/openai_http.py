"""OpenAI's error shape over HTTP: for everything under ``/v1``, whatever went wrong.

`errors_in_shape` is a middleware that turns all that is raised there into OpenAI's JSON, and a fault of ours into a
500 that says nothing but that. `refusal` does the same for what admission refuses. Nothing here tells a stranger how
much memory there is.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from asyncmem import AdmissionRejected, RejectionReason
from asyncmem_services.embedding.errors import ServiceClosedError
from asyncmem_services.embedding.openai_answers import error_body
from asyncmem_services.embedding.openai_api import ApiError

__all__ = ["error_response", "errors_in_shape", "refusal", "retry_headers"]

_PREFIX: Final = "/v1"
_WORDS: Final = {
    RejectionReason.MEMORY: "the memory that this request needs is in use; try again later",
    RejectionReason.DEADLINE: "this request could not start in time; try again later",
    RejectionReason.QUEUE_FULL: "too many requests wait already; try again later",
    RejectionReason.TOO_LARGE: "this request needs more memory than there can ever be for one; send fewer texts",
    RejectionReason.PRESSURE: "memory is short, and this request is among the less urgent ones; try again later",
    RejectionReason.CLOSED: "the service is shutting down",
}
_SERVER_ERROR: Final = 500
_CLIENT_ERROR: Final = 400
_RATE_LIMIT: Final = 429

_log = structlog.get_logger(__name__)


def error_response(
    message: str,
    *,
    status: int,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """An error as OpenAI's clients read it.

    Args:
        message: For people.
        status: The HTTP status; it decides the error's type.
        param: The field that was wrong.
        code: For programs.
        headers: Further headers.
    """
    if status == _RATE_LIMIT:
        kind = "rate_limit_error"
    else:
        kind = "server_error" if status >= _SERVER_ERROR else "invalid_request_error"
    return web.Response(
        status=status,
        body=error_body(message, kind=kind, param=param, code=code),
        content_type="application/json",
        headers=headers,
    )


def retry_headers(seconds: float | None) -> dict[str, str]:
    """When to come back: ``Retry-After`` in whole seconds, and ``retry-after-ms``, which OpenAI's clients read first.

    Args:
        seconds: None where no other try is worth it; the clients are then told not to try.
    """
    if seconds is None:
        return {"x-should-retry": "false"}
    return {"Retry-After": str(max(1, math.ceil(seconds))), "retry-after-ms": str(max(1, math.ceil(seconds * 1000)))}


def refusal(request: web.Request, error: AdmissionRejected) -> web.StreamResponse:  # noqa: ARG001 - as `setup` calls it
    """The answer to a request that admission refused."""
    return error_response(
        _WORDS.get(error.reason, _WORDS[RejectionReason.MEMORY]),
        status=error.status_code,
        code=error.reason.value,
        headers=retry_headers(error.retry_after),
    )


@web.middleware
async def errors_in_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error under ``/v1`` in OpenAI's shape; leave other paths alone."""
    if request.path != _PREFIX and not request.path.startswith(_PREFIX + "/"):
        return await handler(request)
    try:
        return await handler(request)
    except ConnectionError:  # the client went away; nobody reads an answer
        raise
    except web.HTTPException as error:
        return _framework_error(request, error)
    except Exception as error:  # noqa: BLE001 - it is answered here, and logged where it is ours
        return _own_error(request, error)


def _own_error(request: web.Request, error: Exception) -> web.Response:
    match error:
        case ApiError():
            return error_response(error.message, status=error.status, param=error.param, code=error.code)
        case web.RequestPayloadError():
            response = error_response("the body could not be read in the way that its headers announce", status=400)
            response.force_close()  # where the next request would begin is not known
            return response
        case ServiceClosedError():
            return error_response(_WORDS[RejectionReason.CLOSED], status=503, headers=retry_headers(1.0))
        case _:
            # As text and not exc_info: a pretty renderer would print all local values, people's texts among them.
            text = "".join(traceback.format_exception(error)).rstrip()
            _log.error("embedding.request_failed", method=request.method, path=request.path, exception=text)
            return error_response("the service failed to answer this request; its log says why", status=500)


def _framework_error(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    if error.status < _CLIENT_ERROR:
        raise error
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    match error.status:
        case 404:
            message = f"there is nothing at {request.path!r}; expected /v1/embeddings or /v1/models"
        case 405:
            message = f"{request.method} is not allowed here; expected {error.headers.get('Allow', 'another method')}"
        case 413:
            limit = request.client_max_size // (1024 * 1024)
            message = f"the body is larger than {limit} MiB; send fewer or shorter texts per request"
        case _:
            message = error.reason
    return error_response(message, status=error.status, headers=headers)
