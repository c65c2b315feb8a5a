from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncmem_services.embedding import ServiceClosedError
from asyncmem_services.embedding.batching import InferenceQueue, cut
from asyncmem_services.embedding.engine import Vectors

Model = Any  # tests/services/conftest.py: SmallModel


@given(st.lists(st.integers(0, 256), max_size=200), st.integers(1, 40), st.integers(1, 3000))
def test_cut_keeps_every_text_once_and_both_bounds(lengths: list[int], size: int, tokens: int) -> None:
    """Pieces partition the call, are of like length, and pass a bound only with a single text."""
    pieces = cut(lengths, batch_size=size, batch_tokens=tokens)
    assert sorted(index for piece in pieces for index in piece) == list(range(len(lengths)))
    in_order = [lengths[index] for piece in pieces for index in piece]
    assert in_order == sorted(lengths, reverse=True)
    for piece in pieces:
        assert len(piece) <= size
        assert len(piece) == 1 or len(piece) * lengths[piece[0]] <= tokens


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """The one thread."""
    with ThreadPoolExecutor(1) as made:
        yield made


def submit(queue: InferenceQueue, model: Model, *texts: str) -> Future[Vectors]:
    """Queue texts as one piece."""
    return queue.submit(model.tokenize(texts))


def test_pieces_of_different_calls_are_computed_together(small_model: Model, executor: ThreadPoolExecutor) -> None:
    """What waits while the model is busy goes into one batch, as far as the bounds allow, and comes apart rightly."""
    queue = InferenceQueue(small_model, executor, batch_size=4, batch_tokens=100)
    small_model.gate.clear()
    first = submit(queue, small_model, "busy")
    assert small_model.started.acquire(timeout=10)
    rest = [submit(queue, small_model, "a", "bb"), submit(queue, small_model, "ccc"), submit(queue, small_model, "d")]
    late = submit(queue, small_model, "e")
    assert queue.queued == 5
    small_model.gate.set()
    assert first.result(10).tolist() == [[4, 1, 1]]
    assert [future.result(10).tolist() for future in rest] == [[[1, 1, 1], [2, 1, 1]], [[3, 1, 1]], [[1, 1, 1]]]
    assert late.result(10).tolist() == [[1, 1, 1]]
    assert [len(batch) for batch in small_model.batches] == [1, 4, 1]
    assert queue.counters._replace(seconds=0) == (6, 6, 6, 3, 0)


def test_a_long_text_does_not_make_short_ones_long(small_model: Model, executor: ThreadPoolExecutor) -> None:
    """Pieces whose padding would cost more than a batch of their own stay apart, and keep their order."""
    small_model.max_tokens = 1000
    queue = InferenceQueue(small_model, executor, batch_size=32, batch_tokens=10_000)
    small_model.gate.clear()
    futures = [submit(queue, small_model, "busy")]
    assert small_model.started.acquire(timeout=10)
    futures += [submit(queue, small_model, text) for text in ("w " * 500, "short", "w " * 490, "short")]
    small_model.gate.set()
    for future in futures:
        future.result(10)
    assert [[len(text) for text in batch] for batch in small_model.batches] == [[1], [500, 490], [1, 1]]


def test_a_cancelled_piece_is_not_computed(small_model: Model, executor: ThreadPoolExecutor) -> None:
    """Cancelling a piece that waits takes it out; one that is being computed cannot be cancelled."""
    queue = InferenceQueue(small_model, executor, batch_size=4, batch_tokens=100)
    small_model.gate.clear()
    running = submit(queue, small_model, "busy")
    assert small_model.started.acquire(timeout=10)
    unwanted, wanted = submit(queue, small_model, "unwanted"), submit(queue, small_model, "yes")
    assert unwanted.cancel()
    assert not running.cancel()
    assert queue.queued == 1
    small_model.gate.set()
    wanted.result(10)
    assert small_model.batches == [[[4]], [[3]]]


def test_one_calls_fault_is_not_anothers(small_model: Model, executor: ThreadPoolExecutor) -> None:
    """A batch that fails is computed again piece by piece, and only the faulty one fails."""
    small_model.poison = 6
    queue = InferenceQueue(small_model, executor, batch_size=4, batch_tokens=100)
    small_model.gate.clear()
    busy = submit(queue, small_model, "busy")
    assert small_model.started.acquire(timeout=10)
    good, bad = submit(queue, small_model, "good"), submit(queue, small_model, "poison")
    small_model.gate.set()
    busy.result(10)
    assert good.result(10).tolist() == [[4, 1, 1]]
    with pytest.raises(ArithmeticError):
        bad.result(10)


def test_closing_refuses_what_waits_and_finishes_what_runs(small_model: Model, executor: ThreadPoolExecutor) -> None:
    """After `close` a waiting piece has its error at once."""
    queue = InferenceQueue(small_model, executor, batch_size=1, batch_tokens=100)
    small_model.gate.clear()
    running = submit(queue, small_model, "busy")
    assert small_model.started.acquire(timeout=10)
    waiting = submit(queue, small_model, "waiting")
    queue.close()
    with pytest.raises(ServiceClosedError):
        waiting.result(0)
    small_model.gate.set()
    assert running.result(10).tolist() == [[4, 1, 1]]
