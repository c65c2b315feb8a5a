"""Embeddings that run under asyncmem: as a Python object, or as a service that speaks OpenAI's API.

::

    async with EmbeddingService() as service:
        vectors = await service.embed_batch(["a guard for memory", "a watchman for RAM"])

``python -m asyncmem_services.embedding`` serves it over HTTP. Importing this package does not import torch; loading a
model does.

=================  ====================================================================
module             what
=================  ====================================================================
service            `EmbeddingService`, text in and vectors out
host, batching     the two threads, and what goes through the model together
engine, models     the model itself, and which one is meant
texts, prefixes    what counts as a text, and how much of a long one has to be read
openai_api         reading OpenAI's requests; `openai_answers` writes, `openai_http` errs
app, warmup        the aiohttp application and its first seconds
command, logs      ``asyncmem serve``
=================  ====================================================================
"""

from __future__ import annotations

from asyncmem_services.embedding.app import create_app
from asyncmem_services.embedding.engine import EmbeddingModel
from asyncmem_services.embedding.errors import EmbeddingError, ModelNotLoadedError, ServiceClosedError
from asyncmem_services.embedding.models import DEFAULT_MODEL
from asyncmem_services.embedding.service import EmbeddingService
from asyncmem_services.embedding.values import Embeddings, EmbeddingStatistics

__all__ = [
    "DEFAULT_MODEL",
    "EmbeddingError",
    "EmbeddingModel",
    "EmbeddingService",
    "EmbeddingStatistics",
    "Embeddings",
    "ModelNotLoadedError",
    "ServiceClosedError",
    "create_app",
]
