from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from asyncmem.errors import ConfigError
from asyncmem_services.embedding.engine import SentenceTransformerModel, Vectors, load_model
from asyncmem_services.embedding.models import resolve

MIXED = [
    "short",
    "",
    "A sentence of middling length, with a comma.",
    "word " * 1000,
    "Ünïcödé, 漢字 and 🙂",
    "THE SAME IN CAPITALS",
]


def test_vectors_are_those_of_sentence_transformers(
    real_model: SentenceTransformerModel, reference: Callable[[Sequence[str]], Vectors]
) -> None:
    """Token ids in padded batches give what `encode` gives, in the same order."""
    vectors = real_model.embed(real_model.tokenize(MIXED))
    assert vectors.shape == (len(MIXED), real_model.dimension) == (len(MIXED), 384)
    assert vectors.dtype == np.float32
    assert ((vectors * reference(MIXED)).sum(axis=1) >= 0.9999).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "an ordinary sentence about memory " * 3000,
        " " * 50_000 + "a word behind a desert",
        "漢字" * 20_000,
        "x" * 100_000 + " and the rest",
        "dGhpcyBpcyBiYXNlNjQ+/" * 5000,
        "a b" * 4096 + "c" * 90,
    ],
    ids=["english", "spaces", "chinese", "one-word", "base64", "letters"],
)
def test_reading_only_the_beginning_of_a_long_text_changes_nothing(
    real_model: SentenceTransformerModel, text: str
) -> None:
    """The tokens kept of a long text are those that its tokenizer keeps of the whole."""
    whole = real_model._tokenizer([text], truncation=True, max_length=real_model.max_tokens)["input_ids"][0]
    assert list(real_model.tokenize([text])[0]) == whole


def test_tokens_are_counted_with_the_models_own_marks(real_model: SentenceTransformerModel) -> None:
    """'hello world' is two words between two marks, and a long text ends at the model's limit."""
    assert [len(tokens) for tokens in real_model.tokenize(["hello world", "word " * 1000])] == [4, 256]
    assert real_model.max_tokens == 256


def test_cost_of_a_batch_grows_with_its_padded_tokens(real_model: SentenceTransformerModel) -> None:
    """2048 padded tokens are put at the 50 to 70 MB that were measured."""
    assert real_model.batch_cost(1, 16) < real_model.batch_cost(8, 256) == real_model.batch_cost(64, 32)
    assert 50 * 2**20 < real_model.batch_cost(8, 256) < 80 * 2**20


def test_folder_whose_model_cannot_be_read(tmp_path: Path) -> None:
    """A broken model gives one clear error and not a library's traceback."""
    (tmp_path / "config.json").write_text('{"model_type": "no-such-architecture"}')
    with pytest.raises(ConfigError, match=f"model '{tmp_path.name}': can"):
        load_model(resolve(str(tmp_path)))


def test_hub_name_without_network(real_model: SentenceTransformerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is neither cached nor reachable says all three things that were tried."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="not a path, not in the local hub cache, and could not be fetched"):
        load_model(resolve("asyncmem-tests/no-such-model"))


def test_model_that_ids_alone_do_not_drive_is_refused(
    real_model: SentenceTransformerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose own vectors differ from those computed from ids is not served wrong."""
    inner = real_model._inner
    true = inner.encode
    monkeypatch.setattr(inner, "encode", lambda texts, **options: -true(texts, **options))
    with pytest.raises(ConfigError, match=r"cosine -1\.0000"):
        SentenceTransformerModel(inner, name="odd")


def test_a_models_own_prompt_is_put_in_front(
    real_model: SentenceTransformerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A default prompt counts as part of each text, as in `encode`."""
    inner = real_model._inner
    monkeypatch.setattr(inner, "prompts", {"passage": "passage: "})
    monkeypatch.setattr(inner, "default_prompt_name", "passage")
    prompted = SentenceTransformerModel(inner, name="prompted")  # compares itself with `encode`
    assert prompted.tokenize(["x"])[0] == real_model.tokenize(["passage: x"])[0]
