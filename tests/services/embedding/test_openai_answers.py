from __future__ import annotations

import base64
import json

import numpy as np

from asyncmem_services.embedding.openai_answers import (
    embeddings_body,
    error_body,
    estimate_bytes,
    models_body,
    shorten,
)

VECTORS = np.array([[0.6, 0.8, 0.0], [1e-9, -1.0, 0.0]], dtype=np.float32)


def test_float_and_base64_hold_the_same_numbers() -> None:
    """Both forms give back every float32 exactly, in order, with the usage beside them."""
    plain = json.loads(embeddings_body(VECTORS, model="m", tokens=7, encoding_format="float"))
    coded = json.loads(embeddings_body(VECTORS, model="m", tokens=7, encoding_format="base64"))
    numbers = np.array([item["embedding"] for item in plain["data"]], dtype=np.float32)
    raw = [np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4") for item in coded["data"]]
    assert (numbers == VECTORS).all()
    assert (np.array(raw) == VECTORS).all()
    for answer in (plain, coded):
        assert answer["object"] == "list"
        assert [(item["object"], item["index"]) for item in answer["data"]] == [("embedding", 0), ("embedding", 1)]
        assert answer["model"] == "m"
        assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


def test_estimate_is_near_the_length() -> None:
    """The estimate decides who encodes, so it must be right within a factor of two for vectors of usual size."""
    vectors = np.random.default_rng(0).normal(size=(20, 384)).astype(np.float32)
    for form in ("float", "base64"):
        length = len(embeddings_body(vectors, model="m", tokens=7, encoding_format=form))
        assert 0.5 < length / estimate_bytes(vectors, form) < 2


def test_shortened_vectors_have_length_one_again() -> None:
    """Fewer dimensions keep the direction of what is left, and a vector without any stays zero."""
    assert shorten(VECTORS, None) is VECTORS
    assert shorten(VECTORS, 3) is VECTORS
    assert np.allclose(shorten(VECTORS, 2), [[0.6, 0.8], [0.0, -1.0]])
    assert np.allclose(shorten(np.array([[0.0, 1.0]], dtype=np.float32), 1), [[0.0]])


def test_models_and_errors() -> None:
    """Both have the keys that clients read, null where nothing applies."""
    (model,) = json.loads(models_body("m", 123))["data"]
    assert model == {"id": "m", "object": "model", "created": 123, "owned_by": "asyncmem"}
    error = json.loads(error_body("words", kind="invalid_request_error", param="input"))
    assert error == {"error": {"message": "words", "type": "invalid_request_error", "param": "input", "code": None}}
