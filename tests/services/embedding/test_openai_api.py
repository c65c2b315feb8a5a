from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncmem_services.embedding.openai_api import MAX_CHARACTERS, MAX_INPUTS, ApiError, parse_request

MODELS = frozenset({"m", "sentence-transformers/m"})


def body(**fields: object) -> bytes:
    """A request for the model `m`."""
    return json.dumps({"model": "m", "input": "x"} | fields).encode()


@pytest.mark.parametrize(
    ("raw", "texts", "encoding", "dimensions"),
    [
        (body(), ["x"], "float", None),
        (body(model="sentence-transformers/m"), ["x"], "float", None),
        (body(input=["a", " ", "ü🙂"]), ["a", " ", "ü🙂"], "float", None),
        (body(encoding_format="base64", dimensions=8, user="u"), ["x"], "base64", 8),
        (body(encoding_format=None, dimensions=None, user=None), ["x"], "float", None),
        (body(unknown={"a": 1}, dimensions=1), ["x"], "float", 1),
        (body(input="x" * MAX_CHARACTERS), ["x" * MAX_CHARACTERS], "float", None),
        (body(input=["x"] * MAX_INPUTS), ["x"] * MAX_INPUTS, "float", None),
    ],
)
def test_requests_that_can_be_answered(raw: bytes, texts: list[str], encoding: str, dimensions: int | None) -> None:
    """Optional fields may be missing or null, and unknown ones are ignored."""
    request = parse_request(raw, models=MODELS, dimension=8)
    assert (request.texts, request.encoding_format, request.dimensions) == (texts, encoding, dimensions)


@pytest.mark.parametrize(
    ("raw", "param", "words"),
    [
        (b"", None, "not valid JSON"),
        (b"{", None, "not valid JSON"),
        (b'{"model": "m", "input": "x"} more', None, "not valid JSON"),
        (b"\xef\xbb\xbf{}", None, "not valid JSON"),
        (b"\xff\xfe{\x00}\x00", None, "not valid JSON"),
        (b'{"model": "m", "input": "\xff"}', None, "not UTF-8"),
        (b"[" * 100_000, None, "nested too deeply"),
        (b'{"model": "m", "input": "x", "other": NaN}', None, "not valid JSON"),
        (b"[]", None, "the body is a list; expected an object"),
        (b'"text"', None, "the body is a string; expected an object"),
        (b"null", None, "the body is null; expected an object"),
        (b"NaN", None, "the body is the number nan"),
        (b'{"input": "x"}', "model", "'model' is missing"),
        (body(model=None), "model", "'model' is missing"),
        (body(model=7), "model", "'model' is the number 7; expected a string"),
        (b'{"model": "\\ud800", "input": "x"}', "model", "half a surrogate pair"),
        (b'{"model": "m"}', "input", "'input' is missing"),
        (body(input=None), "input", "'input' is missing"),
        (body(input=""), "input", "an empty string"),
        (body(input=[]), "input", "an empty list"),
        (body(input=7), "input", "'input' is the number 7"),
        (body(input=True), "input", "'input' is a boolean"),
        (body(input={"a": 1}), "input", "'input' is an object"),
        (b'{"model": "m", "input": NaN}', "input", "'input' is the number nan"),
        (body(input=[1, 2, 3]), "input", "token ids, which this version does not accept"),
        (body(input=[[1, 2], [3]]), "input", "token ids, which this version does not accept"),
        (body(input=["a", "b", "c", 4]), "input[3]", "the number 4; expected a string"),
        (body(input=["a", None]), "input[1]", "null; expected a string"),
        (body(input=["a", ["b"]]), "input[1]", "a list; expected a string"),
        (body(input=["a", ""]), "input[1]", "an empty string"),
        (b'{"model": "m", "input": ["a", "\\udc00"]}', "input[1]", "half a surrogate pair"),
        (body(input="x" * (MAX_CHARACTERS + 1)), "input", "1048577 characters; expected at most 1048576"),
        (body(input=["x"] * (MAX_INPUTS + 1)), "input", "2049 items; expected at most 2048"),
        (body(encoding_format="hex"), "encoding_format", "'hex'; expected 'float' or 'base64'"),
        (body(encoding_format=["float"]), "encoding_format", "a list; expected 'float' or 'base64'"),
        (body(dimensions=0), "dimensions", "0; expected a whole number from 1 to 8"),
        (body(dimensions=9), "dimensions", "9; expected a whole number from 1 to 8"),
        (body(dimensions=-(10**300)), "dimensions", "…; expected a whole number"),
        (body(dimensions=2.0), "dimensions", "2.0; expected a whole number"),
        (body(dimensions=True), "dimensions", "expected a whole number"),
        (body(dimensions="8"), "dimensions", "'8'; expected a whole number"),
        (b'{"model": "m", "input": "x", "dimensions": NaN}', "dimensions", "nan; expected a whole number"),
        (b'{"model": "m", "input": "x", "dimensions": -Infinity}', "dimensions", "-inf; expected a whole number"),
        (b'{"model": "m", "input": "x", "dimensions": 1e999}', "dimensions", "inf; expected a whole number"),
        (body(user=5), "user", "'user' is the number 5; expected a string"),
    ],
)
def test_requests_that_cannot_be_answered(raw: bytes, param: str | None, words: str) -> None:
    """Each is refused with 400, the field, the value met and the value expected."""
    with pytest.raises(ApiError) as refused:
        parse_request(raw, models=MODELS, dimension=8)
    assert words in refused.value.message
    assert (refused.value.status, refused.value.param) == (400, param)


def test_unknown_model_is_named_with_the_one_that_is_served() -> None:
    """A model that is not served is 404, with the code that clients look for."""
    with pytest.raises(ApiError) as refused:
        parse_request(body(model="text-embedding-3-small"), models=MODELS, dimension=8)
    assert (refused.value.status, refused.value.param, refused.value.code) == (404, "model", "model_not_found")
    assert "'text-embedding-3-small'" in refused.value.message
    assert "serves 'm'" in refused.value.message


@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["model", "input", "dimensions"]), inner),
        ).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    )
)
def test_any_body_is_answered_or_refused(raw: bytes) -> None:
    """Whatever is sent, nothing but `ApiError` comes out."""
    try:
        parse_request(raw, models=MODELS, dimension=8)
        status = 200
    except ApiError as error:
        status = error.status
    assert status in {200, 400, 404}
