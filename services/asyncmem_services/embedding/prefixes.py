"""How much of a long text has to be split into tokens, when only the first tokens count.

A tokenizer splits the whole text and cuts afterwards: for a megabyte that is half a second and tens of megabytes,
for a result of 256 tokens. So a prefix is tried first, and doubled until it holds twice the tokens that count.
Twice, because where the cut falls into a word or between two characters that belong together, only the last tokens
of the prefix differ from those of the whole text, and those are far from the ones that are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["enough_of"]

_CHARACTERS_PER_TOKEN: Final = 16
"""English has four to five; with four times that the first prefix is nearly always enough."""
_MARGIN: Final = 2


def enough_of(text: str, tokens: int, count: Callable[[str, int], int]) -> str:
    """The shortest prefix tried whose first `tokens` tokens are those of the whole text; often the text itself.

    Args:
        text: Any text.
        tokens: How many tokens will be kept.
        count: Counts the tokens of a text, and may stop at the number given.
    """
    length = tokens * _CHARACTERS_PER_TOKEN
    while length < len(text):
        prefix = text[:length]
        if count(prefix, tokens * _MARGIN) >= tokens * _MARGIN:
            return prefix
        length *= 2
    return text
