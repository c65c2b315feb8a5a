"""Texts on their way in: what counts as one, and how a stream of them is cut into windows of bounded size."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing

__all__ = ["checked", "is_encodable", "windows"]


def is_encodable(text: str) -> bool:
    """Whether a text is Unicode throughout; half a surrogate pair, as JSON may smuggle one in, is not."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def checked(texts: Sequence[str]) -> list[str]:
    """The texts as a list that nobody else changes.

    Raises:
        TypeError: Not a sequence of texts; one text alone is none.
        ValueError: A text holds half a surrogate pair.
    """
    if isinstance(texts, str | bytes):
        raise TypeError(f"texts: got one {type(texts).__name__}; expected a list of str, or use embed_text")
    result = list(texts)
    for index, text in enumerate(result):
        if not isinstance(text, str):
            raise TypeError(f"texts[{index}]: got {type(text).__name__}; expected str")
        if not is_encodable(text):
            raise ValueError(
                f"texts[{index}]: holds half a surrogate pair, which is no character; remove or replace it"
            )
    return result


async def windows(
    texts: Iterable[str] | AsyncIterable[str], *, texts_at_once: int, characters_at_once: int
) -> AsyncGenerator[list[str], None]:
    """Cut a stream into lists; each ends with the text with which it reaches one of the bounds.

    Args:
        texts: Any stream. A plain iterable is read on the event loop: one that waits for a file or a socket should be
            given as an async iterable.
        texts_at_once: Most texts in a window.
        characters_at_once: Characters with which a window is full.
    """
    window: list[str] = []
    characters = 0
    async with aclosing(_as_async(texts)) as source:
        async for text in source:
            window.append(text)
            characters += len(text)
            if len(window) >= texts_at_once or characters >= characters_at_once:
                yield window
                window, characters = [], 0
    if window:
        yield window


async def _as_async(texts: Iterable[str] | AsyncIterable[str]) -> AsyncGenerator[str, None]:
    if isinstance(texts, AsyncIterable):
        async for text in texts:
            yield text
    else:
        for text in texts:
            yield text
