"""The wire format of OpenAI's ``/v1/embeddings``: reading requests, writing answers. Pure functions, no HTTP.

What is read: ``model`` and ``input`` (one text or a list of them), ``encoding_format`` (``float``, or ``base64`` of
little-endian float32), ``dimensions`` (the first so many numbers, scaled back to length one) and ``user`` (checked,
not used). Unknown fields are ignored, for clients send more of them every year.

Two differences to OpenAI: lists of token ids are refused, and a text longer than the model reads is not refused but
cut, as sentence-transformers does; ``usage`` counts the tokens that were read.

A wrong request raises `ApiError`, which names the field in ``param``. Answers are in `openai_answers`.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import msgspec

from asyncmem_services.embedding.texts import is_encodable

__all__ = ["MAX_CHARACTERS", "MAX_INPUTS", "ApiError", "EmbeddingRequest", "check_model", "parse_request"]

MAX_INPUTS: Final = 2048
"""Texts per request; OpenAI's own bound."""
MAX_CHARACTERS: Final = 1024 * 1024
"""Characters per text: far more than any model reads, and little enough to split quickly."""

_EXPLAINED_UP_TO: Final = 1024 * 1024
"""Bytes of a malformed body that are read a second time to find out which field is wrong."""
_SHOWN: Final = 40


class ApiError(Exception):
    """A request that cannot be answered, in OpenAI's words.

    Args:
        message: What was wrong, the value met and the value expected.
        status: The HTTP status.
        param: The field, for example ``input[3]``; None where it is the request as a whole.
        code: A word for programs; None where the status says it all.
    """

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that can be answered."""

    texts: list[str]
    encoding_format: Literal["float", "base64"]
    dimensions: int | None
    """Numbers wanted per vector; None for all."""


def parse_request(body: bytes, *, models: frozenset[str], dimension: int) -> EmbeddingRequest:
    """Read a request and check every field of it.

    Args:
        body: The request as it came; its content type does not matter.
        models: The names under which the model is served.
        dimension: Numbers per vector of the model.

    Raises:
        ApiError: 400 with the field named, or 404 for a model that is not served.
    """
    fields, complaint = _decode(body)
    name = _text(fields, "model")
    if name is None:
        raise ApiError("'model' is missing; expected the name of a model", param="model")
    request = EmbeddingRequest(
        texts=_inputs(fields.get("input")),
        encoding_format=_encoding_format(fields.get("encoding_format")),
        dimensions=_dimensions(fields.get("dimensions"), dimension),
    )
    _text(fields, "user")
    if complaint is not None:  # every field that is read is fine, so it is another one
        raise ApiError(complaint)
    check_model(name, models)
    return request


def check_model(name: str, models: frozenset[str]) -> None:
    """Refuse a model that is not served.

    Raises:
        ApiError: 404.
    """
    if name not in models:
        served = min(models, key=len)
        raise ApiError(
            f"the model {_shown(name)} does not exist here; this service serves {served!r}",
            status=404,
            param="model",
            code="model_not_found",
        )


def _decode(body: bytes) -> tuple[dict[str, Any], str | None]:
    """The fields, and why the body is not JSON in spite of them."""
    complaint: str | None = None
    value: Any
    try:
        value = msgspec.json.decode(body)
    except UnicodeDecodeError:
        raise ApiError("the body is not UTF-8; expected JSON in UTF-8") from None
    except RecursionError:
        raise ApiError("the body is nested too deeply") from None
    except msgspec.DecodeError as error:
        complaint = f"the body is not valid JSON: {error}"
        value = _lenient(body)
        if value is None:
            raise ApiError(complaint) from None
    if not isinstance(value, dict):
        raise ApiError(f"the body is {_kind(value)}; expected an object with 'model' and 'input'")
    return value, complaint


def _lenient(body: bytes) -> object:
    """A malformed body as Python reads it, so that the field can be named; None where Python cannot either.

    Python takes NaN, Infinity, numbers beyond a float's range and half a surrogate pair.
    """
    if len(body) > _EXPLAINED_UP_TO:
        return None
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        return None


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not (isinstance(value, str) and is_encodable(value)):
        raise ApiError(f"{name!r} is {_kind(value)}; expected a string", param=name)
    return value


def _inputs(value: object) -> list[str]:
    if isinstance(value, str):
        _check_input(value, "input")
        return [value]
    if value is None:
        raise ApiError("'input' is missing; expected a string or a list of strings", param="input")
    if not isinstance(value, list):
        raise ApiError(f"'input' is {_kind(value)}; expected a string or a list of strings", param="input")
    if not value:
        raise ApiError("'input' is an empty list; expected at least one string", param="input")
    if all(type(item) is int for item in value) or all(isinstance(item, list) for item in value):
        raise ApiError("'input' holds token ids, which this version does not accept; send strings", param="input")
    if len(value) > MAX_INPUTS:
        raise ApiError(f"'input' has {len(value)} items; expected at most {MAX_INPUTS}", param="input")
    for index, item in enumerate(value):
        _check_input(item, f"input[{index}]")
    return value


def _check_input(item: object, param: str) -> None:
    if not isinstance(item, str):
        raise ApiError(f"{param!r} is {_kind(item)}; expected a string", param=param)
    if not item:
        raise ApiError(f"{param!r} is an empty string; expected some text", param=param)
    if len(item) > MAX_CHARACTERS:
        raise ApiError(f"{param!r} has {len(item)} characters; expected at most {MAX_CHARACTERS}", param=param)
    if not is_encodable(item):
        raise ApiError(f"{param!r} holds half a surrogate pair, which is no character", param=param)


def _encoding_format(value: object) -> Literal["float", "base64"]:
    if value is None or value == "float":
        return "float"
    if value == "base64":
        return "base64"
    raise ApiError(f"'encoding_format' is {_shown(value)}; expected 'float' or 'base64'", param="encoding_format")


def _dimensions(value: object, most: int) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= most:
        raise ApiError(f"'dimensions' is {_shown(value)}; expected a whole number from 1 to {most}", param="dimensions")
    return value


def _kind(value: object) -> str:
    """What a JSON value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return f"the number {_shown(value)}"
        case str():
            return "a string" if is_encodable(value) else "a string with half a surrogate pair"
        case list():
            return "a list"
        case _:
            return "an object"


def _shown(value: object) -> str:
    if isinstance(value, int | float | str):
        text = repr(value[: 2 * _SHOWN] if isinstance(value, str) else value)
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return _kind(value)
