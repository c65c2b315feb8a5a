"""What the service hands out."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from asyncmem_services.embedding.engine import Vectors

__all__ = ["EmbeddingStatistics", "Embeddings"]


class Embeddings(NamedTuple):
    """What one call computed."""

    vectors: Vectors
    """One row per text, in the order of the texts."""
    token_counts: tuple[int, ...]
    """Tokens of each text that the model read: its own marks included, what was cut off left out."""


class EmbeddingStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What an `EmbeddingService` has done."""

    model: str
    """The name that the model is served under."""
    loaded: bool
    """Whether the model is in memory."""
    queued: int
    """Texts that wait for the model now."""
    texts: int
    """Texts computed."""
    tokens: int
    """Tokens of the texts computed."""
    padded_tokens: int
    """Tokens computed, padding included."""
    batches: int
    """Batches computed."""
    inference_seconds: float
    """Seconds that the model computed."""
