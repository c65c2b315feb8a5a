"""The wire format of OpenAI's embeddings API, the other way: vectors, models and errors as JSON. Pure functions."""

from __future__ import annotations

import base64
from typing import Final, Literal

import msgspec
import numpy as np

from asyncmem_services.embedding.engine import Vectors

__all__ = ["embeddings_body", "error_body", "estimate_bytes", "model_object", "models_body", "shorten"]

_BYTES_PER_NUMBER: Final = {"float": 22, "base64": 6}
_OWNER: Final = "asyncmem"


def shorten(vectors: Vectors, dimensions: int | None) -> Vectors:
    """Keep the first numbers of each vector and scale it back to length one, as OpenAI does for ``dimensions``.

    Args:
        vectors: One row per text.
        dimensions: Numbers to keep; None to leave the vectors alone.
    """
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    short = vectors[:, :dimensions]
    lengths = np.linalg.norm(short, axis=1, keepdims=True)
    result: Vectors = np.divide(short, lengths, out=np.zeros_like(short), where=lengths > 0)
    return result


def estimate_bytes(vectors: Vectors, encoding_format: Literal["float", "base64"]) -> int:
    """About how long `embeddings_body` will be."""
    return vectors.size * _BYTES_PER_NUMBER[encoding_format]


def embeddings_body(
    vectors: Vectors, *, model: str, tokens: int, encoding_format: Literal["float", "base64"]
) -> bytearray:
    """The answer to a request for embeddings.

    It is put together row by row: that needs little memory beside the result, and in a thread it lets go of the
    interpreter between two rows.

    Args:
        vectors: One row per text.
        model: The name that the model is served under.
        tokens: Tokens that were read.
        encoding_format: How vectors are written.
    """
    body = bytearray(b'{"object":"list","data":[')
    for index, row in enumerate(vectors):
        body += b'%s{"object":"embedding","index":%d,"embedding":' % (b"," if index else b"", index)
        if encoding_format == "base64":
            body += b'"%s"}' % base64.b64encode(row.astype("<f4", copy=False).tobytes())
        else:
            body += msgspec.json.encode(row.tolist()) + b"}"
    usage = msgspec.json.encode({"prompt_tokens": tokens, "total_tokens": tokens})
    body += b'],"model":%s,"usage":%s}' % (msgspec.json.encode(model), usage)
    return body


def model_object(name: str, created: int) -> dict[str, object]:
    """A model as ``GET /v1/models/{id}`` shows it.

    Args:
        name: The name that the model is served under.
        created: When this service began to serve it, in seconds since 1970.
    """
    return {"id": name, "object": "model", "created": created, "owned_by": _OWNER}


def models_body(name: str, created: int) -> bytes:
    """The answer to ``GET /v1/models``."""
    return msgspec.json.encode({"object": "list", "data": [model_object(name, created)]})


def error_body(message: str, *, kind: str, param: str | None = None, code: str | None = None) -> bytes:
    """An error.

    Args:
        message: For people.
        kind: OpenAI's ``type``, for example ``invalid_request_error``.
        param: The field that was wrong.
        code: For programs.
    """
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})
