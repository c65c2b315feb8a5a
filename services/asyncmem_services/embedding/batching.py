"""What goes through the model together: cutting a call into pieces, and joining the pieces of many calls.

Measured on a CPU: batches bounded by padded tokens, of texts of like length, give up to twice the throughput of
batches bounded by their count, and around 2048 padded tokens is best. So a call is sorted by length and cut into
pieces within both bounds (`cut`), and `InferenceQueue` joins waiting pieces of other calls to the first one as long
as that wastes little on padding. The pieces of one call come one after another, which gives calls their turns and
lets a cancelled one stop at the next piece.

Memory is not this module's business: who submits a piece holds the permit for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Final, NamedTuple

from asyncmem.errors import ConfigError
from asyncmem_services.embedding.engine import EmbeddingModel, Tokens, Vectors
from asyncmem_services.embedding.errors import ServiceClosedError

__all__ = ["InferenceCounters", "InferenceQueue", "checked_bound", "cut"]

_LOOK_AHEAD: Final = 64
"""Waiting pieces that are considered for one batch."""
_PADDING_SHARE: Final = 1.1
_PADDING_TOKENS: Final = 64
"""Joined pieces may be padded to `_PADDING_SHARE` times their own tokens plus `_PADDING_TOKENS`. Simulated with 8 and
64 callers and lengths from 3 to 256 tokens, where a batch costs as much as 150 tokens by itself: less padding makes too
many batches, more computes too many zeros."""
_MOST: Final = 1_000_000


def checked_bound(name: str, value: int) -> int:
    """The value of a batch's bound, if it can be one.

    Raises:
        ConfigError: It cannot.
    """
    if type(value) is not int or not 1 <= value <= _MOST:
        raise ConfigError(f"{name}: got {value!r}; expected a whole number from 1 to {_MOST}")
    return value


def cut(lengths: Sequence[int], *, batch_size: int, batch_tokens: int) -> list[list[int]]:
    """Cut a call into pieces of like length, longest first.

    Args:
        lengths: Tokens of each text.
        batch_size: Most texts in a piece.
        batch_tokens: Most padded tokens in a piece; a longer text goes alone.

    Returns:
        For each piece the indices of its texts.
    """
    pieces: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        room = pieces and len(pieces[-1]) < batch_size and (len(pieces[-1]) + 1) * longest <= batch_tokens
        if room:
            pieces[-1].append(index)
        else:
            pieces.append([index])
            longest = lengths[index]
    return pieces


class InferenceCounters(NamedTuple):
    """What has been computed so far."""

    texts: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    batches: int = 0
    seconds: float = 0.0


class _Piece:
    """Texts that are computed together, and where their vectors go."""

    __slots__ = ("future", "longest", "tokens", "total")

    def __init__(self, tokens: Sequence[Tokens[int]]) -> None:
        self.tokens = tokens
        self.longest = max(len(text) for text in tokens)
        self.total = sum(len(text) for text in tokens)
        self.future: Future[Vectors] = Future()


class InferenceQueue:
    """Pieces that wait for the one thread that owns the model.

    `submit` may be called from any thread. Only appends and single removals touch the queue, which a deque does
    atomically, so that an event loop never waits for a lock that the inference thread holds.

    Args:
        model: Computes; used on the executor's thread only.
        executor: Has exactly one thread.
        batch_size: Most texts in a batch.
        batch_tokens: Most padded tokens in a batch, unless one piece alone has more.
    """

    def __init__(self, model: EmbeddingModel, executor: Executor, *, batch_size: int, batch_tokens: int) -> None:
        self._model = model
        self._executor = executor
        self._batch_size = batch_size
        self._batch_tokens = batch_tokens
        self._waiting: deque[_Piece] = deque()
        self._counters = InferenceCounters()

    @property
    def counters(self) -> InferenceCounters:
        """What has been computed so far."""
        return self._counters

    @property
    def queued(self) -> int:
        """Texts that wait."""
        return sum(len(piece.tokens) for piece in self._waiting.copy() if not piece.future.cancelled())

    def submit(self, tokens: Sequence[Tokens[int]]) -> Future[Vectors]:
        """Queue texts as one piece; cancelling the future takes them out again while they wait.

        Args:
            tokens: At least one text.
        """
        piece = _Piece(tokens)
        self._waiting.append(piece)
        # One step per piece: a step that finds its piece taken along by an earlier one has nothing to do.
        self._executor.submit(self._step)
        return piece.future

    def close(self) -> None:
        """Refuse what waits; a batch that is being computed is finished."""
        while (piece := self._first()) is not None:
            piece.future.set_exception(ServiceClosedError("the embedding service was closed while texts waited"))

    def _step(self) -> None:
        batch = self._take()
        if not batch:
            return
        try:
            self._compute(batch)
        except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for piece in batch:  # one call's texts may not fail another's
                try:
                    self._compute([piece])
                except BaseException as own:  # noqa: BLE001
                    piece.future.set_exception(own)

    def _take(self) -> list[_Piece]:
        """The first piece that is still wanted, and of those behind it the ones nearest in length, while they fit."""
        first = self._first()
        if first is None:
            return []
        batch, texts, tokens, longest = [first], len(first.tokens), first.total, first.longest
        behind = list(islice(self._waiting.copy(), _LOOK_AHEAD))
        behind.sort(key=lambda piece: abs(piece.longest - first.longest))
        for piece in behind:
            joined = texts + len(piece.tokens), tokens + piece.total, max(longest, piece.longest)
            if self._fits(*joined) and self._remove(piece) and piece.future.set_running_or_notify_cancel():
                batch.append(piece)
                texts, tokens, longest = joined
        return batch

    def _first(self) -> _Piece | None:
        """Take the first piece that is still wanted; from now on it cannot be cancelled."""
        while True:
            try:
                piece = self._waiting.popleft()
            except IndexError:
                return None
            if piece.future.set_running_or_notify_cancel():
                return piece

    def _fits(self, texts: int, tokens: int, longest: int) -> bool:
        padded = texts * longest
        allowed = min(self._batch_tokens, _PADDING_SHARE * tokens + _PADDING_TOKENS)
        return texts <= self._batch_size and padded <= allowed

    def _remove(self, piece: _Piece) -> bool:
        try:
            self._waiting.remove(piece)
        except ValueError:
            return False
        return True

    def _compute(self, batch: Sequence[_Piece]) -> None:
        tokens = [text for piece in batch for text in piece.tokens]
        started = time.perf_counter()
        vectors = self._model.embed(tokens)
        seconds = time.perf_counter() - started
        self._counters = InferenceCounters(
            texts=self._counters.texts + len(tokens),
            tokens=self._counters.tokens + sum(piece.total for piece in batch),
            padded_tokens=self._counters.padded_tokens + len(tokens) * max(piece.longest for piece in batch),
            batches=self._counters.batches + 1,
            seconds=self._counters.seconds + seconds,
        )
        start = 0
        for piece in batch:
            piece.future.set_result(vectors[start : start + len(piece.tokens)])
            start += len(piece.tokens)
