"""What the embedding service raises on purpose, beyond the `ConfigError` for a wrong setting or a wrong model.

::

    asyncmem.errors.AsyncmemError
     └── EmbeddingError
          ├── ServiceClosedError   the service was closed before the text was computed
          └── ModelNotLoadedError  something was asked that only a loaded model can answer
"""

from __future__ import annotations

from asyncmem.errors import AsyncmemError

__all__ = ["EmbeddingError", "ModelNotLoadedError", "ServiceClosedError"]


class EmbeddingError(AsyncmemError):
    """The root of the embedding service's own errors."""


class ServiceClosedError(EmbeddingError):
    """The service is closed; what was still queued has not been computed."""


class ModelNotLoadedError(EmbeddingError):
    """The model is not loaded yet, and the question needs it: ``await service.load()`` first."""
