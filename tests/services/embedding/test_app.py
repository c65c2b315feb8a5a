from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
import openai
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from blockbuster import blockbuster_ctx

from asyncmem import ConfigError, MemoryConfig
from asyncmem.middleware.aiohttp import RUNTIME
from asyncmem_services.embedding import DEFAULT_MODEL, EmbeddingModel, EmbeddingService, create_app
from asyncmem_services.embedding.app import MAX_BODY, SERVICE, WARM_UP
from asyncmem_services.embedding.engine import SentenceTransformerModel, Vectors

Client = TestClient[Any, Any]
Model = Any  # tests/services/conftest.py: SmallModel
pytestmark = pytest.mark.asyncio

TEXTS = ["short", "A sentence of middling length, with a comma.", "word " * 400, "Ünïcödé, 漢字 and 🙂"]


def url(client: Client) -> str:
    """The address that OpenAI's client wants."""
    return str(client.make_url("/v1"))


async def embed(client: Client, **fields: object) -> tuple[int, dict[str, Any], Any]:
    """Send a request; its status, body and headers."""
    async with client.post("/v1/embeddings", json={"model": DEFAULT_MODEL, "input": "x"} | fields) as response:
        return response.status, await response.json(), response.headers


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop and the threads their turns until something is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a thread's counters have no event
            await asyncio.sleep(0.001)


@pytest_asyncio.fixture
async def small(small_model: Model) -> AsyncIterator[Client]:
    """A client of an application whose model a test controls, ready."""
    async with EmbeddingService("small", batch_size=1, loader=lambda: small_model) as service:
        app = create_app(service, MemoryConfig())
        async with TestClient(TestServer(app)) as client:
            await app[WARM_UP].wait()
            small_model.batches.clear()
            while small_model.started.acquire(blocking=False):
                pass
            yield client


# -- the real model and the real client -------------------------------------------------------------------------------


async def test_openai_client_gets_the_models_vectors(
    client: Client, reference: Callable[[Sequence[str]], Vectors], real_model: SentenceTransformerModel
) -> None:
    """Through OpenAI's client, which asks for base64, come sentence-transformers' vectors, in order, and true usage."""
    async with openai.AsyncOpenAI(base_url=url(client), api_key="none") as api:
        answer = await api.embeddings.create(model=DEFAULT_MODEL, input=TEXTS)
    vectors = np.array([item.embedding for item in answer.data], dtype=np.float32)
    assert ((vectors * reference(TEXTS)).sum(axis=1) >= 0.9999).all()
    assert [item.index for item in answer.data] == [0, 1, 2, 3]
    tokens = real_model._tokenizer(TEXTS, truncation=True, max_length=256)["input_ids"]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(map(len, tokens))
    assert answer.model == DEFAULT_MODEL


async def test_synchronous_openai_client_and_meaning(client: Client) -> None:
    """The other client works as well, and paraphrases are nearer than strangers."""

    def ask() -> list[list[float]]:
        with openai.OpenAI(base_url=url(client), api_key="none") as api:
            names = [model.id for model in api.models.list()]
            assert names == [DEFAULT_MODEL]
            assert api.models.retrieve(f"sentence-transformers/{DEFAULT_MODEL}").id == DEFAULT_MODEL
            texts = ["A cat sleeps on the sofa.", "A kitten is napping on the couch.", "Income tax is due in April."]
            answer = api.embeddings.create(model=DEFAULT_MODEL, input=texts, encoding_format="float")
            return [item.embedding for item in answer.data]

    cat, kitten, tax = np.array(await asyncio.to_thread(ask))
    assert cat @ kitten > cat @ tax + 0.3


async def test_openai_client_understands_refusals(client: Client) -> None:
    """What the service refuses becomes the client's own exceptions, with the field."""
    async with openai.AsyncOpenAI(base_url=url(client), api_key="none", max_retries=0) as api:
        with pytest.raises(openai.NotFoundError) as unknown:
            await api.embeddings.create(model="text-embedding-3-small", input="x")
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as empty:
            await api.embeddings.create(model=DEFAULT_MODEL, input=["a", ""])
        assert empty.value.param == "input[1]"


async def test_float_base64_and_fewer_dimensions_agree(client: Client) -> None:
    """Both encodings hold the same numbers, and fewer dimensions are the beginning, scaled back to length one."""
    _, plain, _ = await embed(client, encoding_format="float")
    _, coded, _ = await embed(client, encoding_format="base64")
    _, short, _ = await embed(client, dimensions=64)
    vector = np.array(plain["data"][0]["embedding"], dtype=np.float32)
    assert (np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), dtype="<f4") == vector).all()
    beginning = vector[:64] / np.linalg.norm(vector[:64])
    assert np.allclose(short["data"][0]["embedding"], beginning, atol=1e-6)


async def test_large_requests_and_answers_are_whole(client: Client) -> None:
    """What is read and written off the event loop is the same as what is small, and nothing blocks the loop."""
    texts = [f"text number {number}" for number in range(300)]
    with blockbuster_ctx():
        status, answer, _ = await embed(client, input=texts, encoding_format="float")
        assert (status, len(answer["data"])) == (200, 300)
        status, one, _ = await embed(client, input=[texts[299], "x " * 200_000])
    assert np.allclose(one["data"][0]["embedding"], answer["data"][299]["embedding"], atol=1e-5)


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status", "param"),
    [
        ({"data": b"not json"}, 400, None),
        ({"data": b"\xff\xfe"}, 400, None),
        ({"data": b""}, 400, None),
        ({"data": b"[" * 100_000}, 400, None),
        ({"data": b"not gzip", "headers": {"Content-Encoding": "gzip"}}, 400, None),
        ({"data": b'{"model": "small", "input": "x", "dimensions": NaN}'}, 400, "dimensions"),
        ({"json": {"model": "small", "input": ["a", 3]}}, 400, "input[1]"),
        ({"json": {"model": "small", "input": [1, 2]}}, 400, "input"),
        ({"json": {"model": "small", "input": ""}}, 400, "input"),
        ({"json": {"input": "x"}}, 400, "model"),
        ({"json": {"model": "other", "input": "x"}}, 404, "model"),
        ({"json": {"model": "small", "input": "x", "encoding_format": "hex"}}, 400, "encoding_format"),
        ({"data": io.BytesIO(b"x" * (MAX_BODY + 1))}, 413, None),
        ({"data": gzip.compress(b" " * (MAX_BODY + 1)), "headers": {"Content-Encoding": "gzip"}}, 413, None),
    ],
)
async def test_bad_requests_are_refused_and_the_next_is_answered(
    small: Client, sent: dict[str, Any], status: int, param: str | None
) -> None:
    """Each refusal has OpenAI's shape and names the field, computes nothing, and harms nobody."""
    async with small.post("/v1/embeddings", **sent) as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert error["message"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    status, answer, _ = await embed(small, model="small", input="two words")
    assert (status, answer["data"][0]["embedding"]) == (200, [8.0, 2.0, 1.0])


async def test_content_type_does_not_matter(small: Client) -> None:
    """JSON is JSON, whatever it is called."""
    body = json.dumps({"model": "small", "input": "x"})
    async with small.post("/v1/embeddings", data=body, headers={"content-type": "text/plain"}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/embeddings", 405),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1", 404),
        ("GET", "/v1/models/other", 404),
        ("DELETE", "/v1/models/small", 405),
    ],
)
async def test_unknown_paths_and_methods_have_the_shape_too(small: Client, method: str, path: str, status: int) -> None:
    """Clients that read errors as OpenAI's JSON find it at every path under /v1."""
    async with small.request(method, path) as response:
        assert response.status == status
        assert (await response.json())["error"]["type"] == "invalid_request_error"
        assert (response.headers.get("Allow") is not None) == (status == 405)


async def test_faults_are_logged_and_not_told(
    small: Client, small_model: Model, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault of ours is a 500 in the shape, without what went wrong; that is in the log."""
    small_model.poison = 6
    with caplog.at_level(logging.ERROR):
        status, answer, _ = await embed(small, model="small", input="poison")
    assert status == 500
    assert answer["error"]["type"] == "server_error"
    assert "poison" not in json.dumps(answer)
    assert "ArithmeticError" in caplog.text + "".join(capsys.readouterr())
    assert (await embed(small, model="small", input="fine"))[0] == 200


async def test_texts_of_a_client_that_went_away_are_not_computed(small: Client, small_model: Model) -> None:
    """A request that is given up while it waits leaves the queue."""
    service = small.app[SERVICE] if small.app is not None else None
    assert service is not None
    before = service.statistics().texts
    small_model.gate.clear()
    busy = asyncio.create_task(embed(small, model="small", input="busy"))
    await until(lambda: small_model.started.acquire(blocking=False))
    gone = asyncio.create_task(embed(small, model="small", input=["never", "computed"]))
    await until(lambda: service.statistics().queued == 1)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await until(lambda: service.statistics().queued == 0)
    small_model.gate.set()
    assert (await busy)[0] == 200
    assert (await embed(small, model="small", input="last"))[0] == 200
    assert small_model.batches == [[[4]], [[4]]]
    assert service.statistics().texts == before + 2


async def test_what_admission_refuses_has_the_shape_and_says_when_to_come_back(small_model: Model) -> None:
    """A full queue is 429 and a wait that was too long 503, with both headers that clients read."""
    config = MemoryConfig(limit="64GiB", max_queue=1, queue_timeout=0.2)
    async with EmbeddingService("small", loader=lambda: small_model) as service:
        app = create_app(service, config)
        async with TestClient(TestServer(app)) as client:
            await app[WARM_UP].wait()
            async with app[RUNTIME].guard("all of it", cost=app[RUNTIME].admission.statistics().headroom):
                late = await embed(client, model="small")
                app[RUNTIME].admission._waiting._queue_timeout = 60.0  # from here on the one that waits stays
                waiting = asyncio.create_task(embed(client, model="small"))
                await until(lambda: app[RUNTIME].admission.statistics().queued == 1)
                full = await embed(client, model="small")
            assert (await waiting)[0] == 200
    for (status, answer, headers), expected, kind in ((full, 429, "rate_limit_error"), (late, 503, "server_error")):
        assert status == expected
        assert answer["error"]["type"] == kind
        assert int(headers["Retry-After"]) >= 1
        assert int(headers["retry-after-ms"]) >= 1
    assert (full[1]["error"]["code"], late[1]["error"]["code"]) == ("queue_full", "memory")


# -- the first seconds and the last -----------------------------------------------------------------------------------


async def test_alive_at_once_and_ready_after_the_first_vector(small_model: Model) -> None:
    """While the model is loaded the service says so, and asks clients to come back."""
    go = threading.Event()

    def load() -> EmbeddingModel:
        assert go.wait(10)
        model: EmbeddingModel = small_model
        return model

    async with EmbeddingService("small", loader=load) as service:
        app = create_app(service, MemoryConfig())
        async with TestClient(TestServer(app)) as client:
            assert (await client.get("/livez")).status == 200
            for path in ("/readyz", "/healthz"):
                async with client.get(path) as response:
                    assert response.status == 503
                    assert "warming up" in (await response.json())["reason"]
            status, answer, headers = await embed(client, model="small")
            assert (status, answer["error"]["code"]) == (503, "not_ready")
            assert headers["Retry-After"] == "2"
            async with client.get("/v1/models") as response:
                assert response.status == 200
            go.set()
            await app[WARM_UP].wait()
            assert service.statistics().texts == 1
            assert (await client.get("/readyz")).status == 200
            assert (await embed(client, model="small"))[0] == 200


async def test_a_model_that_cannot_be_loaded_leaves_the_process_up() -> None:
    """The reason is told by /readyz and to clients, who are told not to try again."""

    def load() -> EmbeddingModel:
        raise ConfigError("the weights are gone")

    async with EmbeddingService("small", loader=load) as service:
        app = create_app(service, MemoryConfig())
        async with TestClient(TestServer(app)) as client:
            await app[WARM_UP].wait()
            assert (await client.get("/livez")).status == 200
            async with client.get("/readyz") as response:
                assert response.status == 503
                assert "the weights are gone" in (await response.json())["reason"]
            status, answer, headers = await embed(client, model="small")
            assert status == 503
            assert "the weights are gone" in answer["error"]["message"]
            assert headers["x-should-retry"] == "false"
            assert "Retry-After" not in headers


async def test_requests_in_flight_are_answered_before_the_end(small: Client, small_model: Model) -> None:
    """Stopping the server lets a request finish, and then ends the service's threads."""
    small_model.gate.clear()
    flying = asyncio.create_task(embed(small, model="small", input="flying"))
    await until(lambda: small_model.started.acquire(blocking=False))
    stopping = asyncio.create_task(small.server.close())
    await asyncio.sleep(0.05)  # nothing shows from outside that it has begun to wait
    assert not stopping.done()
    small_model.gate.set()
    assert (await flying)[0] == 200
    await stopping
