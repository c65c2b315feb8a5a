"""The embedding service as a Python object: text in, vectors out, from any event loop.

One instance has one model, one thread that computes with it and one that splits text into tokens. The model is loaded
on first use. Calls are cut into pieces and joined with those of other calls (`batching`); a cancelled call leaves the
queue. `app` puts this behind HTTP.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from types import TracebackType
from typing import Any, ClassVar, Final, Self

import numpy as np

from asyncmem import MemoryRuntime
from asyncmem.errors import ConfigError
from asyncmem_services.embedding.batching import checked_bound, cut
from asyncmem_services.embedding.engine import EmbeddingModel, Vectors, load_model
from asyncmem_services.embedding.host import ModelHost
from asyncmem_services.embedding.models import DEFAULT_MODEL, aliases, canonical, resolve, served_name
from asyncmem_services.embedding.texts import checked, windows
from asyncmem_services.embedding.values import Embeddings, EmbeddingStatistics

__all__ = ["EmbeddingService", "EmbeddingStatistics", "Embeddings"]

_WINDOW_BATCHES: Final = 8
_WINDOW_CHARACTERS: Final = 1024 * 1024
"""What `embed_stream` holds at once: some batches' worth, so that texts of like length find each other."""


class EmbeddingService:
    """Turns text into vectors with a sentence-transformers model.

    ::

        async with EmbeddingService() as service:
            vector = await service.embed_text("a guard for memory")

    Texts longer than `max_tokens` are cut there, as sentence-transformers does. Vectors are normalised if the model is
    made so (the default is). Instances may be used from several threads and event loops.

    Args:
        model: A name or a folder, as `models.resolve` reads it. It is not looked at before the first use.
        batch_size: Most texts that go through the model together.
        batch_tokens: Most tokens that do, padding included; 2048 was the fastest of what was measured on CPUs.
        memory: Every batch's share runs under a permit of this runtime. Leave it out where the caller holds a permit
            already, as behind the HTTP middleware.
        device: Where torch computes.
        loader: Loads another `EmbeddingModel` instead, on the inference thread; `model` is then only its name.

    Raises:
        ConfigError: A bound is out of range.
    """

    _instance: ClassVar[EmbeddingService | None] = None
    _instance_process: ClassVar[int] = 0
    _instance_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        batch_size: int = 32,
        batch_tokens: int = 2048,
        memory: MemoryRuntime | None = None,
        device: str = "cpu",
        loader: Callable[[], EmbeddingModel] | None = None,
    ) -> None:
        self._model_argument = canonical(model)
        self._batch_size = checked_bound("batch_size", batch_size)
        self._batch_tokens = checked_bound("batch_tokens", batch_tokens)
        self._memory = memory
        self._device = device
        self._host = ModelHost(loader or self._load_model, batch_size=self._batch_size, batch_tokens=self._batch_tokens)

    @classmethod
    def get_instance(
        cls,
        model: str | None = None,
        *,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        memory: MemoryRuntime | None = None,
        device: str | None = None,
    ) -> EmbeddingService:
        """The process's one instance, made at the first call; once that is closed, the next call makes a new one.

        Arguments are those of the class. One that is left out is what the instance has, or the class's default.

        Raises:
            ConfigError: The instance was made with another value.
        """
        given: dict[str, Any] = {
            "model": None if model is None else canonical(model),
            "batch_size": batch_size,
            "batch_tokens": batch_tokens,
            "memory": memory,
            "device": device,
        }
        given = {name: value for name, value in given.items() if value is not None}
        with cls._instance_lock:
            found = EmbeddingService._instance
            if found is None or found.is_closed or cls._instance_process != os.getpid():
                found = EmbeddingService._instance = EmbeddingService(**given)
                EmbeddingService._instance_process = os.getpid()
        for name, value in given.items():
            present = getattr(found, "_model_argument" if name == "model" else f"_{name}")
            if value != present:
                raise ConfigError(
                    f"EmbeddingService.get_instance: got {name}={value!r}, but this process's instance was made with "
                    f"{present!r}; close that one first, or make an EmbeddingService of your own"
                )
        return found

    @property
    def is_closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._host.is_closed

    @property
    def model_name(self) -> str:
        """The name that the model is served under."""
        return served_name(self._model_argument)

    @property
    def model_names(self) -> frozenset[str]:
        """Every name that clients may ask for it by."""
        return aliases(self._model_argument)

    @property
    def dimension(self) -> int:
        """Numbers per vector.

        Raises:
            ModelNotLoadedError: The model is not loaded.
        """
        return self._host.model.dimension

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are read; the model's own marks count too.

        Raises:
            ModelNotLoadedError: The model is not loaded.
        """
        return self._host.model.max_tokens

    def statistics(self) -> EmbeddingStatistics:
        """What has been done so far."""
        counters = self._host.counters
        return EmbeddingStatistics(
            model=self.model_name,
            loaded=self._host.is_loaded,
            queued=self._host.queued,
            texts=counters.texts,
            tokens=counters.tokens,
            padded_tokens=counters.padded_tokens,
            batches=counters.batches,
            inference_seconds=counters.seconds,
        )

    async def load(self) -> None:
        """Load the model now and not at the first text: once, however many ask; a load that failed is tried again.

        Raises:
            ConfigError: The model cannot be found, read or used.
            ServiceClosedError: The service is closed.
        """
        await self._host.load()

    async def embed_text(self, text: str) -> Vectors:
        """Compute the vector of one text.

        Returns:
            A float32 array of shape (dimension,).
        """
        vectors: Vectors = (await self.embed([text])).vectors[0]
        return vectors

    async def embed_batch(self, texts: Sequence[str]) -> Vectors:
        """Compute the vectors of many texts.

        Returns:
            A float32 array of shape (number of texts, dimension), in the order of the texts.
        """
        return (await self.embed(texts)).vectors

    async def embed_stream(self, texts: Iterable[str] | AsyncIterable[str]) -> AsyncGenerator[Vectors, None]:
        """Compute vectors one after another, in order, holding only a window of texts and vectors.

        Args:
            texts: Any stream. A plain iterable is read on the event loop, so it should not wait for anything.

        Yields:
            A float32 array of shape (dimension,) for each text.
        """
        cutting = windows(
            texts, texts_at_once=_WINDOW_BATCHES * self._batch_size, characters_at_once=_WINDOW_CHARACTERS
        )
        async with aclosing(cutting):
            async for window in cutting:
                for vector in await self.embed_batch(window):
                    yield vector.copy()  # a row alone: it would keep its whole window alive

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Compute the vectors of many texts and count their tokens; cancelling it takes them out of the queue.

        Args:
            texts: Any number of texts; an empty text has a vector too.

        Raises:
            TypeError: Something among `texts` is no text.
            ValueError: A text is not valid Unicode.
            ConfigError: The model cannot be found, read or used.
            ServiceClosedError: The service is closed.
            AdmissionRejected: `memory` refused a batch.
        """
        own = checked(texts)
        await self._host.load()
        model = self._host.model
        tokens = await self._host.tokenize(own)
        counts = tuple(len(text) for text in tokens)
        vectors = np.empty((len(own), model.dimension), dtype=np.float32)
        for piece in cut(counts, batch_size=self._batch_size, batch_tokens=self._batch_tokens):
            async with self._permit(model.batch_cost(len(piece), counts[piece[0]])):
                vectors[piece] = await self._host.compute([tokens[index] for index in piece])
        return Embeddings(vectors, counts)

    async def aclose(self) -> None:
        """Finish the batch that is being computed, refuse what waits, end the threads, let go of the model."""
        await self._host.aclose()

    async def __aenter__(self) -> Self:
        self._host.check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _load_model(self) -> EmbeddingModel:
        return load_model(resolve(self._model_argument), device=self._device)

    def _permit(self, cost: int) -> AbstractAsyncContextManager[object]:
        return nullcontext() if self._memory is None else self._memory.guard("embedding", cost=cost)
