"""From process start to the first answer: the model is loaded in the background while the socket answers already.

A `WarmUp` is ready once one real vector has been computed, so that no client pays for the load, and says why not
until then. A load that failed leaves the process up: what failed is told by ``/readyz``, where whoever runs the
service looks first.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from asyncmem import AdmissionRejected, MemoryRuntime, RejectionReason, format_bytes
from asyncmem_services.embedding.service import EmbeddingService

__all__ = ["WarmUp"]

_LOAD_COST: Final = 320 * 1024 * 1024
"""Bytes that torch and a small model need beyond a bare process; the weights themselves stay in the page cache."""
_FIRST_TEXT: Final = "The first text is the slowest."

_log = structlog.get_logger(__name__)


class WarmUp:
    """Loads a service's model and computes one vector with it.

    Args:
        service: What to warm up.
        memory: Admits the load, so that a model that cannot fit is refused and not killed for.
    """

    def __init__(self, service: EmbeddingService, memory: MemoryRuntime) -> None:
        self._service = service
        self._memory = memory
        self._task: asyncio.Task[None] | None = None
        self._reason: str | None = "warming up: the model is being loaded"
        self._failed = False

    @property
    def has_failed(self) -> bool:
        """Whether it ended without the model."""
        return self._failed

    def reason(self) -> str | None:
        """Why the service is not ready; None when it is."""
        return self._reason

    def start(self) -> None:
        """Begin, in a task of the running loop."""
        self._task = asyncio.create_task(self._run(), name="embedding-warm-up")

    async def wait(self) -> None:
        """Wait until it is ready or has failed."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Give up, if it still runs; a load that has begun goes on in its thread, which `aclose` joins."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        try:
            with self._memory.alerts.starting():  # what the model takes is no growth
                if not self._service.statistics().loaded:
                    async with self._memory.guard("embedding_model_load", cost=_LOAD_COST):
                        await self._service.load()
                await self._service.embed_text(_FIRST_TEXT)
        except AdmissionRejected as error:
            self._fail(f"there is no memory to load the model: it needs about {format_bytes(_LOAD_COST)}", error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told and not raised into nowhere
            self._fail(f"the model could not be loaded: {error}", error)
        else:
            self._reason = None

    def _fail(self, reason: str, error: Exception) -> None:
        self._reason, self._failed = reason, True
        detail = error.reason.value if isinstance(error, AdmissionRejected) else type(error).__name__
        hint = "raise the memory limit" if detail == RejectionReason.TOO_LARGE else None
        _log.error("embedding.warm_up_failed", reason=reason, cause=detail, hint=hint)
