from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncmem_services.embedding.prefixes import enough_of
from asyncmem_services.embedding.texts import checked, windows


@pytest.mark.parametrize(
    ("texts", "error", "words"),
    [
        ("one text", TypeError, "got one str"),
        (["a", 3], TypeError, r"texts\[1\]: got int"),
        (["a", None], TypeError, r"texts\[1\]: got NoneType"),
        (["\ud800"], ValueError, r"texts\[0\]: holds half a surrogate pair"),
    ],
)
def test_what_is_no_text_is_named(texts: Any, error: type[Exception], words: str) -> None:
    """The error says which item it was."""
    with pytest.raises(error, match=words):
        checked(texts)


def test_checked_texts_are_a_copy() -> None:
    """A list that the caller changes meanwhile is not what is computed."""
    texts = ["a", "🙂"]
    own = checked(texts)
    texts.clear()
    assert own == ["a", "🙂"]


@pytest.mark.asyncio
async def test_windows_are_bounded_by_count_and_by_characters() -> None:
    """A window ends with the text that fills it, and a stream is read no further than that."""
    read = []

    async def source() -> AsyncIterator[str]:
        for text in ["a", "b", "c", "long enough", "d"]:
            read.append(text)
            yield text

    cutting = windows(source(), texts_at_once=2, characters_at_once=10)
    assert await anext(cutting) == ["a", "b"]
    assert read == ["a", "b"]
    assert [window async for window in cutting] == [["c", "long enough"], ["d"]]
    assert [window async for window in windows([], texts_at_once=2, characters_at_once=10)] == []


@given(st.text(alphabet="ab ", max_size=600), st.integers(1, 4))
def test_a_prefix_holds_the_tokens_that_count(text: str, tokens: int) -> None:
    """For words as tokens, the first ones of the prefix are those of the whole text."""
    prefix = enough_of(text, tokens, lambda part, at_most: min(len(part.split()), at_most))
    assert text.startswith(prefix)
    assert prefix.split()[:tokens] == text.split()[:tokens]


def test_a_prefix_is_short_where_tokens_are() -> None:
    """Of a megabyte of words only a few kilobytes are read."""
    assert len(enough_of("word " * 200_000, 256, lambda part, at_most: min(len(part.split()), at_most))) < 10_000
