"""Where the model lives: loaded once, owned by one thread, reached from any event loop.

A `ModelHost` has two threads: one loads the model and computes with it, the other splits text into tokens. What is
asked of it while it is being closed is refused with `ServiceClosedError`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Final, TypeVar

from asyncmem_services.embedding.batching import InferenceCounters, InferenceQueue
from asyncmem_services.embedding.engine import EmbeddingModel, Tokens, Vectors
from asyncmem_services.embedding.errors import ModelNotLoadedError, ServiceClosedError

__all__ = ["ModelHost"]

T = TypeVar("T")

_TOKENIZED_TOGETHER: Final = 256
"""Texts per step of the tokenizer thread: other calls get their turn in between, and a cancelled one stops there."""


class ModelHost:
    """Loads a model on first use and computes with it.

    Args:
        loader: Makes the model; called on the inference thread, again after it failed.
        batch_size: Most texts that go through the model together.
        batch_tokens: Most padded tokens that do.
    """

    def __init__(self, loader: Callable[[], EmbeddingModel], *, batch_size: int, batch_tokens: int) -> None:
        self._loader = loader
        self._batch_size = batch_size
        self._batch_tokens = batch_tokens
        self._inference = ThreadPoolExecutor(1, thread_name_prefix="asyncmem-inference")
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="asyncmem-tokenizer")
        self._start_lock = threading.Lock()
        self._starting: Future[None] | None = None
        self._model: EmbeddingModel | None = None
        self._queue: InferenceQueue | None = None
        self._last_counters = InferenceCounters()
        self._closed = False

    @property
    def is_loaded(self) -> bool:
        """Whether the model is there."""
        return self._model is not None

    @property
    def is_closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed

    @property
    def queued(self) -> int:
        """Texts that wait for the model."""
        queue = self._queue
        return 0 if queue is None else queue.queued

    @property
    def counters(self) -> InferenceCounters:
        """What has been computed so far."""
        queue = self._queue
        return self._last_counters if queue is None else queue.counters

    @property
    def model(self) -> EmbeddingModel:
        """The loaded model, for what it says of itself.

        Raises:
            ModelNotLoadedError: It is not loaded.
            ServiceClosedError: It is not loaded any more.
        """
        self.check_open()
        if self._model is None:
            raise ModelNotLoadedError("the model is not loaded yet; call 'await service.load()' first")
        return self._model

    def check_open(self) -> None:
        """Raise `ServiceClosedError` once `aclose` was called."""
        if self._closed:
            raise ServiceClosedError("this embedding service is closed; make a new one")

    async def load(self) -> None:
        """Load the model unless it is there. Many may ask at once; it is loaded once.

        Raises:
            ConfigError: The model cannot be found, read or used.
        """
        with self._start_lock:
            if self.is_loaded:
                return
            if self._starting is None or self._starting.done():  # done and not loaded: it failed
                self._starting = self._submit(self._inference, self._start)
            starting = self._starting
        await asyncio.shield(asyncio.wrap_future(starting))  # who gives up leaves the load to the others

    async def tokenize(self, texts: Sequence[str]) -> list[Tokens[int]]:
        """Split texts into token ids."""
        model = self.model
        tokens: list[Tokens[int]] = []
        for start in range(0, len(texts), _TOKENIZED_TOGETHER):
            together = texts[start : start + _TOKENIZED_TOGETHER]
            tokens += await asyncio.wrap_future(self._submit(self._tokenizing, model.tokenize, together))
        return tokens

    async def compute(self, tokens: Sequence[Tokens[int]]) -> Vectors:
        """Compute the vectors of some texts as one piece of a batch; cancelling it while it waits takes it out."""
        self.check_open()
        assert self._queue is not None, "tokens come from `tokenize`, which needs the model"
        return await asyncio.wrap_future(self._queue.submit(tokens))

    async def aclose(self) -> None:
        """Finish the batch that is being computed, refuse what waits, end the threads, let go of the model."""
        self._closed = True
        queue = self._queue
        if queue is not None:
            queue.close()
        await asyncio.to_thread(self._join)
        self._last_counters = self.counters
        self._model = self._queue = None

    def _submit(self, executor: Executor, function: Callable[..., T], *arguments: object) -> Future[T]:
        self.check_open()
        try:
            return executor.submit(function, *arguments)
        except RuntimeError as error:  # closed by another thread since
            raise ServiceClosedError("this embedding service was closed just now") from error

    def _start(self) -> None:
        model = self._loader()
        self._queue = InferenceQueue(
            model, self._inference, batch_size=self._batch_size, batch_tokens=self._batch_tokens
        )
        self._model = model

    def _join(self) -> None:
        self._tokenizing.shutdown()
        self._inference.shutdown()
