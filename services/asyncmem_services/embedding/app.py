"""The embedding service over HTTP: an aiohttp application that speaks OpenAI's API and is guarded by asyncmem.

======  ======================  ==============================================================
method  path                    what
======  ======================  ==============================================================
POST    ``/v1/embeddings``      vectors for texts (`openai_api` says what is read)
GET     ``/v1/models``          the one model that is served
GET     ``/v1/models/{id}``     the same, by any of its names
GET     ``/livez``              200 as soon as the socket is open
GET     ``/readyz``             200 once a vector has been computed, else 503 with the reason
GET     ``/healthz``            the same as ``/readyz``
======  ======================  ==============================================================

Each request under ``/v1`` holds a memory permit from before its body is read until its answer is sent; the service
behind it therefore takes none. Run it with ``handler_cancellation=True``, as `command` does, so that the texts of a
client that went away leave the queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from asyncmem import MemoryConfig
from asyncmem.middleware.aiohttp import add_health_routes, setup
from asyncmem_services.embedding.openai_answers import (
    embeddings_body,
    estimate_bytes,
    model_object,
    models_body,
    shorten,
)
from asyncmem_services.embedding.openai_api import check_model, parse_request
from asyncmem_services.embedding.openai_http import error_response, errors_in_shape, refusal, retry_headers
from asyncmem_services.embedding.service import EmbeddingService
from asyncmem_services.embedding.warmup import WarmUp

__all__ = ["MAX_BODY", "SERVICE", "WARM_UP", "create_app"]

T = TypeVar("T")

SERVICE: Final = web.AppKey("embedding_service", EmbeddingService)
"""Where the application keeps its service."""
WARM_UP: Final = web.AppKey("embedding_warm_up", WarmUp)
"""Where the application keeps its warm-up."""
MAX_BODY: Final = 16 * 1024 * 1024
"""Bytes of a request; more are answered with 413."""

_ON_THE_LOOP: Final = 256 * 1024
"""Bytes of JSON that are read or written on the event loop: some two milliseconds. More go to a thread."""
_WARM_UP_RETRY: Final = 2.0
_CREATED: Final = web.AppKey("embedding_created", int)


def create_app(service: EmbeddingService | None = None, config: MemoryConfig | None = None) -> web.Application:
    """Make the application; its model is loaded when it starts.

    Args:
        service: The service to put behind HTTP, which the caller closes. It should have no `memory` of its own. None
            for one with the default model, which the application closes.
        config: Settings of the memory guard; None to read environment and file.

    Raises:
        ConfigError: A setting is wrong.
        LimitDiscoveryError: No memory limit could be read.
    """
    own = EmbeddingService() if service is None else service
    app = web.Application(client_max_size=MAX_BODY)
    app[SERVICE] = own
    app[_CREATED] = int(time.time())
    app.router.add_post("/v1/embeddings", _embeddings)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/v1/models/{model:.+}", _model)
    warm_up = app[WARM_UP] = WarmUp(own, setup(app, config, refusal=refusal))
    add_health_routes(app, ready=warm_up.reason)
    # In front of admission: what cannot be answered yet reserves nothing and teaches nothing.
    app.middlewares.insert(0, errors_in_shape)
    app.middlewares.insert(1, _only_when_ready)
    app.on_startup.append(_start)
    app.on_shutdown.append(_stop)
    if service is None:
        app.on_cleanup.append(_close)
    return app


async def _start(app: web.Application) -> None:
    app[WARM_UP].start()


async def _stop(app: web.Application) -> None:
    await app[WARM_UP].stop()


async def _close(app: web.Application) -> None:
    await app[SERVICE].aclose()


@web.middleware
async def _only_when_ready(request: web.Request, handler: Handler) -> web.StreamResponse:
    warm_up = request.app[WARM_UP]
    reason = warm_up.reason() if request.match_info.handler is _embeddings else None
    if reason is None:
        return await handler(request)
    seconds = None if warm_up.has_failed else _WARM_UP_RETRY
    return error_response(reason, status=503, code="not_ready", headers=retry_headers(seconds))


async def _embeddings(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    body = await request.read()
    read = partial(parse_request, body, models=service.model_names, dimension=service.dimension)
    wanted = await _off_the_loop_if(len(body) > _ON_THE_LOOP, read)
    result = await service.embed(wanted.texts)
    vectors = shorten(result.vectors, wanted.dimensions)
    write = partial(
        embeddings_body,
        vectors,
        model=service.model_name,
        tokens=sum(result.token_counts),
        encoding_format=wanted.encoding_format,
    )
    large = estimate_bytes(vectors, wanted.encoding_format) > _ON_THE_LOOP
    return web.Response(body=await _off_the_loop_if(large, write), content_type="application/json")


async def _models(request: web.Request) -> web.Response:
    body = models_body(request.app[SERVICE].model_name, request.app[_CREATED])
    return web.Response(body=body, content_type="application/json")


async def _model(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    check_model(request.match_info["model"], service.model_names)
    body = msgspec.json.encode(model_object(service.model_name, request.app[_CREATED]))
    return web.Response(body=body, content_type="application/json")


async def _off_the_loop_if(large: bool, work: Callable[[], T]) -> T:  # noqa: FBT001 - reads as a sentence
    return await asyncio.to_thread(work) if large else work()
