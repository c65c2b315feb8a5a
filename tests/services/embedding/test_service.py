from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from asyncmem import MemoryConfig, MemoryRuntime
from asyncmem.errors import ConfigError
from asyncmem_services.embedding import (
    EmbeddingModel,
    EmbeddingService,
    EmbeddingStatistics,
    ModelNotLoadedError,
    ServiceClosedError,
)
from asyncmem_services.embedding.engine import Vectors

Model = Any  # tests/services/conftest.py: SmallModel
pytestmark = pytest.mark.asyncio


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop and the threads their turns until something is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a thread's counters have no event
            await asyncio.sleep(0.001)


async def test_texts_become_vectors(service: EmbeddingService, reference: Callable[[Sequence[str]], Vectors]) -> None:
    """One text and many give the vectors that the model gives, in order, and the statistics count them."""
    texts = ["short", "something rather longer than that " * 20, "middling words here"] * 20
    vectors = await service.embed_batch(texts)
    assert vectors.shape == (60, service.dimension)
    assert vectors.dtype == np.float32
    assert ((vectors * reference(texts)).sum(axis=1) >= 0.9999).all()
    assert np.allclose(await service.embed_text("short"), vectors[0], atol=1e-5)
    statistics = service.statistics()
    assert (statistics.loaded, statistics.queued, statistics.texts) == (True, 0, 61)
    assert statistics.padded_tokens >= statistics.tokens > 61
    assert 2 <= statistics.batches < 61
    assert statistics.inference_seconds > 0


async def test_paraphrases_are_nearer_than_strangers(service: EmbeddingService) -> None:
    """The vectors mean something: what says the same is near."""
    cat, kitten, tax = await service.embed_batch(
        ["A cat sleeps on the sofa.", "A kitten is napping on the couch.", "Income tax is due in April."]
    )
    assert cat @ kitten > 0.6
    assert cat @ tax < 0.3


async def test_nothing_and_emptiness_have_an_answer(service: EmbeddingService) -> None:
    """No texts give no rows, and the empty text has a vector."""
    assert (await service.embed_batch([])).shape == (0, 384)
    assert (await service.embed_text("")).shape == (384,)


async def test_stream_keeps_order_and_reads_only_what_it_needs(small_model: Model) -> None:
    """A stream of any length is read one window ahead, from plain and from async iterables."""
    read = 0

    def source() -> Iterator[str]:
        nonlocal read
        for number in range(100_000):
            read += 1
            yield "x" * (number % 7 + 1)

    async def slow() -> AsyncIterator[str]:
        for text in ["a", "bb", "ccc"]:
            await asyncio.sleep(0)
            yield text

    async with EmbeddingService(batch_size=4, loader=lambda: small_model) as service:
        async with contextlib.aclosing(service.embed_stream(source())) as stream:
            firsts = [(await anext(stream))[0] for _ in range(100)]
        assert firsts == [number % 7 + 1 for number in range(100)]
        assert read <= 128
        assert [vector[0] async for vector in service.embed_stream(slow())] == [1, 2, 3]


async def test_many_at_once_load_once_and_off_the_loop(small_model: Model) -> None:
    """However many ask first, the model is loaded once, and who gives up does not take it from the others."""
    loads = 0
    loading, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def load() -> EmbeddingModel:
        nonlocal loads
        loads += 1
        loop.call_soon_threadsafe(loading.set)
        assert go.wait(10)
        model: EmbeddingModel = small_model
        return model

    async with EmbeddingService(loader=load) as service:
        with pytest.raises(ModelNotLoadedError):
            _ = service.dimension
        calls = [asyncio.create_task(service.embed_text("a word")) for _ in range(10)]
        await loading.wait()
        calls[0].cancel()
        go.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert all(isinstance(result, np.ndarray) for result in results[1:])
        assert loads == 1
        assert (service.dimension, service.max_tokens) == (3, 8)


async def test_a_load_that_failed_is_tried_again(small_model: Model) -> None:
    """An error while loading is the caller's, and the next call may have more luck."""
    tries = iter([ConfigError("no such model"), None])

    def load() -> EmbeddingModel:
        error = next(tries)
        if error is not None:
            raise error
        model: EmbeddingModel = small_model
        return model

    async with EmbeddingService(loader=load) as service:
        with pytest.raises(ConfigError, match="no such model"):
            await service.embed_text("a")
        assert not service.statistics().loaded
        assert (await service.embed_text("a")).tolist() == [1, 1, 1]


async def test_a_cancelled_call_leaves_the_queue(small_model: Model) -> None:
    """A call that is cancelled while it waits, or between its pieces, computes nothing more."""
    async with EmbeddingService(batch_size=1, loader=lambda: small_model) as service:
        await service.load()
        small_model.gate.clear()
        busy = asyncio.create_task(service.embed_text("busy"))
        await until(lambda: small_model.started.acquire(blocking=False))
        waiting = asyncio.create_task(service.embed_batch(["never", "computed"]))
        await until(lambda: service.statistics().queued == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert service.statistics().queued == 0
        small_model.gate.set()
        await busy
        small_model.gate.clear()
        half = asyncio.create_task(service.embed_batch(["first", "other"]))
        await until(lambda: small_model.started.acquire(blocking=False))
        half.cancel()
        small_model.gate.set()
        await service.embed_text("last one")
        assert small_model.batches == [[[4]], [[5]], [[4, 3]]]


async def test_closing_refuses_all_but_what_is_being_computed(small_model: Model) -> None:
    """Whoever waits or comes later is told that the service is closed; its statistics stay."""
    service = EmbeddingService(batch_size=1, loader=lambda: small_model)
    await service.load()
    small_model.gate.clear()
    running = asyncio.create_task(service.embed_text("busy"))
    await until(lambda: small_model.started.acquire(blocking=False))
    waiting = asyncio.create_task(service.embed_text("waiting"))
    await until(lambda: service.statistics().queued == 1)
    closing = asyncio.create_task(service.aclose())
    with pytest.raises(ServiceClosedError):
        await waiting
    small_model.gate.set()
    assert (await running).tolist() == [4, 1, 1]
    await closing
    await service.aclose()
    with pytest.raises(ServiceClosedError):
        await service.embed_text("late")
    with pytest.raises(ServiceClosedError):
        async with service:
            pass
    assert service.statistics().texts == 1
    assert not service.statistics().loaded


async def test_wrong_texts_and_bounds_are_named(small_model: Model) -> None:
    """Neither a wrong text nor a wrong bound reaches the model."""
    async with EmbeddingService(loader=lambda: small_model) as service:
        with pytest.raises(TypeError, match="use embed_text"):
            await service.embed_batch("one text")
        with pytest.raises(ValueError, match="half a surrogate pair"):
            await service.embed_text("\udc00")
    wrong: list[dict[str, Any]] = [{"batch_size": 0}, {"batch_tokens": True}, {"batch_size": 1.5}]
    for bounds in wrong:
        with pytest.raises(ConfigError, match=r"batch_\w+: got .*; expected a whole number"):
            EmbeddingService(**bounds)


async def test_plain_code_runs_under_permits(small_model: Model) -> None:
    """With a runtime, each piece of a call holds a permit while it is computed, and none is left over."""
    async with MemoryRuntime(MemoryConfig(limit="64GiB")) as memory:
        async with EmbeddingService(batch_size=2, memory=memory, loader=lambda: small_model) as service:
            await service.embed_batch(["a", "b", "c d e"])
        admission = memory.statistics().admission
    assert admission.in_flight == 0
    assert admission.admitted == 2


async def test_one_instance_per_process() -> None:
    """The same instance is given to all until it is closed, and a different wish is an error and not ignored."""
    first = EmbeddingService.get_instance(batch_size=16)
    try:
        assert EmbeddingService.get_instance() is first
        assert EmbeddingService.get_instance("sentence-transformers/all-MiniLM-L6-v2", batch_size=16) is first
        with pytest.raises(ConfigError, match="got batch_size=32, but this process's instance was made with 16"):
            EmbeddingService.get_instance(batch_size=32)
        with pytest.raises(ConfigError, match="model='BAAI/bge-small-en'"):
            EmbeddingService.get_instance("BAAI/bge-small-en")
    finally:
        await first.aclose()
    second = EmbeddingService.get_instance()
    assert second is not first
    await second.aclose()


async def test_one_instance_serves_several_loops(small_model: Model) -> None:
    """A second event loop in another thread uses the same model."""
    async with EmbeddingService(loader=lambda: small_model) as service:
        await service.load()
        there = await asyncio.to_thread(lambda: asyncio.run(service.embed_text("over there")))
        assert there.tolist() == (await service.embed_text("over there")).tolist() == [9, 2, 1]


async def test_statistics_of_a_new_service() -> None:
    """A service that nobody has used has done nothing, and has not looked at its model."""
    async with EmbeddingService("/no/such/folder/mine") as service:
        assert service.statistics() == EmbeddingStatistics(
            model="mine", loaded=False, queued=0, texts=0, tokens=0, padded_tokens=0, batches=0, inference_seconds=0.0
        )
        assert service.model_names == {"mine", "sentence-transformers/mine"}
        with pytest.raises(ConfigError, match="nothing exists at '/no/such/folder/mine'"):
            await service.load()
