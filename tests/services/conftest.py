"""Fixtures for the services: the real model once per session, and a small one whose every step a test controls."""

from __future__ import annotations

import threading
import warnings
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer

from asyncmem import MemoryConfig
from asyncmem_services.embedding import DEFAULT_MODEL, EmbeddingService, create_app
from asyncmem_services.embedding.app import WARM_UP
from asyncmem_services.embedding.engine import SentenceTransformerModel, Tokens, Vectors, load_model
from asyncmem_services.embedding.models import resolve


@pytest.fixture(scope="session")
def real_model() -> Iterator[SentenceTransformerModel]:
    """The default model, loaded once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):  # nothing here may need a network
            patch.setenv(name, "1")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch and transformers deprecate of each other while they load
            model = load_model(resolve(DEFAULT_MODEL))
        yield model


@pytest.fixture(scope="session")
def reference(real_model: SentenceTransformerModel) -> Callable[[Sequence[str]], Vectors]:
    """What sentence-transformers computes by itself."""

    def encode(texts: Sequence[str]) -> Vectors:
        return np.asarray(real_model._inner.encode(list(texts), show_progress_bar=False), dtype=np.float32)

    return encode


@pytest_asyncio.fixture
async def service(real_model: SentenceTransformerModel) -> AsyncIterator[EmbeddingService]:
    """A service with the real model."""
    async with EmbeddingService(loader=lambda: real_model) as made:
        yield made


@pytest_asyncio.fixture
async def client(service: EmbeddingService) -> AsyncIterator[TestClient[Any, Any]]:
    """A client of the real application over HTTP, ready."""
    app = create_app(service, MemoryConfig())
    async with TestClient(TestServer(app)) as made:
        await app[WARM_UP].wait()
        yield made


class SmallModel:
    """Counts words and computes from them; records each batch, and computes only while `gate` is set.

    A text's ids are the lengths of its words, and its vector is their sum, their number, and one.
    """

    dimension = 3
    max_tokens = 8

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.batches: list[list[list[int]]] = []
        self.poison: int | None = None

    def tokenize(self, texts: Sequence[str]) -> list[Tokens[int]]:
        """One id per word."""
        return [array("i", [len(word) for word in text.split()][: self.max_tokens]) for text in texts]

    def embed(self, batch: Sequence[Tokens[int]]) -> Vectors:
        """Wait for the gate, then compute."""
        self.started.release()
        assert self.gate.wait(30)
        self.batches.append([list(tokens) for tokens in batch])
        if any(self.poison in tokens for tokens in batch):
            raise ArithmeticError("poison")
        return np.array([[sum(tokens), len(tokens), 1] for tokens in batch], dtype=np.float32)

    def batch_cost(self, texts: int, longest: int) -> int:
        """A kibibyte per padded token."""
        return texts * longest * 1024


@pytest.fixture
def small_model() -> Iterator[SmallModel]:
    """A model without weights; its gate is open."""
    model = SmallModel()
    yield model
    model.gate.set()
