"""The model itself: what the service needs of one, and sentence-transformers as the one that is built in.

An engine has two halves that different threads own. `EmbeddingModel.tokenize` belongs to the tokenizer thread and
`EmbeddingModel.embed` to the inference thread, so that the next texts are split while the model computes; neither
is called by two threads at once. What goes into one batch is decided in `batching`.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from asyncmem.errors import ConfigError
from asyncmem_services.embedding.models import ModelSource, verify
from asyncmem_services.embedding.prefixes import enough_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["EmbeddingModel", "SentenceTransformerModel", "Tokens", "Vectors", "load_model"]

Tokens = array
"""The token ids of one text: four bytes each, where a list takes up to 36."""
Vectors = npt.NDArray[np.float32]
"""One row per text."""

_PROBES: Final = ("A quick check.", "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. " * 4, "42")
"""Different lengths, letters beyond ASCII and upper case: what a wrong padding or a forgotten prefix would change."""
_SAME_DIRECTION: Final = 0.9999
_LONGEST: Final = 8192
"""Tokens of a text for a model that names no limit of its own."""
_BATCH_OVERHEAD: Final = 12 * 1024 * 1024

_log = structlog.stdlib.get_logger(__name__)


class EmbeddingModel(Protocol):
    """What computes vectors. Another backend takes this shape."""

    @property
    def dimension(self) -> int:
        """Numbers per vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are read; what follows has no effect on the vector."""
        ...

    def tokenize(self, texts: Sequence[str]) -> list[Tokens[int]]:
        """Split texts into token ids, at most `max_tokens` each, the model's own marks included."""
        ...

    def embed(self, batch: Sequence[Tokens[int]]) -> Vectors:
        """Compute one vector per text, in the same order; the texts are padded to the longest."""
        ...

    def batch_cost(self, texts: int, longest: int) -> int:
        """Bytes that `embed` needs beyond what the model holds already, for `texts` texts of up to `longest` tokens."""
        ...


def load_model(source: ModelSource, *, device: str = "cpu") -> SentenceTransformerModel:
    """Verify and load a model; takes seconds and some 300 MB, and imports torch. Call it on the inference thread.

    Args:
        source: What to load.
        device: Where torch computes: ``"cpu"``, ``"cuda"`` or another of torch's names.

    Raises:
        ConfigError: The model cannot be found, read or used; says why.
    """
    log = _log.bind(model=source.name)
    log.info("embedding.model_load_started", location=source.location)
    started = time.perf_counter()
    verify(source)
    # Here and not above: torch costs 400 MB and seconds, which only the process that computes shall pay.
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    try:
        inner = SentenceTransformer(source.location, device=device, trust_remote_code=False)
    except OSError as error:
        if source.local:
            raise ConfigError(f"model {source.name!r}: cannot be read ({_first_line(error)})") from error
        raise ConfigError(
            f"model {source.name!r}: not a path, not in the local hub cache, and could not be fetched "
            f"({_first_line(error)})"
        ) from error
    except (ValueError, RuntimeError, KeyError, ImportError) as error:
        raise ConfigError(f"model {source.name!r}: cannot be loaded ({_first_line(error)})") from error
    model = SentenceTransformerModel(inner, name=source.name)
    log.info(
        "embedding.model_load_done",
        seconds=round(time.perf_counter() - started, 2),
        rss_mb=_rss_mb(),
        dimension=model.dimension,
        max_tokens=model.max_tokens,
    )
    return model


class SentenceTransformerModel:
    """A sentence-transformers model that is fed token ids, so that a text is split once only.

    Pooling and normalisation are the model's own. At construction the vectors of a few texts are compared with
    `SentenceTransformer.encode`: a model for which ids alone do not say everything is refused, not served wrong.

    Args:
        inner: The loaded model.
        name: The name for error messages.

    Raises:
        ConfigError: The model reads no text, or its vectors differ from those that it gives by itself.
    """

    def __init__(self, inner: SentenceTransformer, *, name: str) -> None:
        self._inner = inner
        self._tokenizer: Any = inner.tokenizer
        if not callable(self._tokenizer) or getattr(self._tokenizer, "pad_token_id", None) is None:
            raise ConfigError(f"model {name!r}: has no tokenizer that can pad texts; expected a text embedding model")
        config = getattr(getattr(inner[0], "auto_model", None), "config", None)
        self._max_tokens = _max_tokens(inner, config)
        self._prompt = inner.prompts.get(inner.default_prompt_name or "", "")
        template = _features(inner, _PROBES[0])
        self._inputs = frozenset(template) & {"input_ids", "attention_mask", "token_type_ids"}
        self._marks = {key: value for key, value in template.items() if isinstance(value, str)}
        expected = np.asarray(inner.encode(list(_PROBES), show_progress_bar=False), dtype=np.float32)
        self._dimension = int(expected.shape[1])
        self._bytes_per_token = _bytes_per_token(config, self._dimension)
        _compare(self.embed(self.tokenize(_PROBES)), expected, name)

    @property
    def dimension(self) -> int:
        """Numbers per vector."""
        return self._dimension

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are read."""
        return self._max_tokens

    def tokenize(self, texts: Sequence[str]) -> list[Tokens[int]]:
        """Split texts into token ids; the tokenizer thread's half."""
        prompted = [self._prompt + text for text in texts] if self._prompt else texts
        bounded = [enough_of(text, self._max_tokens, self._count) for text in prompted]
        return [array("i", ids) for ids in self._ids(bounded, self._max_tokens)]

    def embed(self, batch: Sequence[Tokens[int]]) -> Vectors:
        """Compute one vector per text; the inference thread's half."""
        import torch  # noqa: PLC0415 - loaded by now: this is a lookup

        padded = _pad(batch, self._tokenizer.pad_token_id, left=self._tokenizer.padding_side == "left")
        features: dict[str, Any] = {
            key: torch.from_numpy(value).to(self._inner.device) for key, value in padded.items() if key in self._inputs
        }
        with torch.inference_mode():
            vectors = self._inner(features | self._marks)["sentence_embedding"]
            result: Vectors = vectors.float().cpu().numpy()
        return result

    def batch_cost(self, texts: int, longest: int) -> int:
        """Bytes that one batch needs at its peak, from the sizes of the model's layers."""
        return _BATCH_OVERHEAD + texts * longest * self._bytes_per_token

    def _count(self, text: str, at_most: int) -> int:
        return len(self._ids([text], at_most)[0])

    def _ids(self, texts: Sequence[str], at_most: int) -> list[list[int]]:
        encoded = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=at_most,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def _pad(batch: Sequence[Tokens[int]], pad: int, *, left: bool) -> dict[str, npt.NDArray[np.int64]]:
    longest = max(len(tokens) for tokens in batch)
    ids = np.full((len(batch), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(batch):
        place = slice(longest - len(tokens), longest) if left else slice(0, len(tokens))
        ids[row, place] = tokens
        mask[row, place] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _features(inner: SentenceTransformer, text: str) -> dict[str, Any]:
    # `tokenize` was renamed in sentence-transformers 5.3 or so, and warns under its old name since.
    split = getattr(inner, "preprocess", None) or inner.tokenize
    features: dict[str, Any] = split([text])
    return features


def _max_tokens(inner: SentenceTransformer, config: Any) -> int:
    """The model's own limit; a tokenizer that has none says so with an absurdly large number."""
    known = [inner.max_seq_length, getattr(config, "max_position_embeddings", None)]
    return min([int(limit) for limit in known if limit] + [_LONGEST])


def _bytes_per_token(config: Any, dimension: int) -> int:
    """Float32 activations alive at once in a transformer layer.

    Six of the hidden size and three of the intermediate one: 27.6 kB for all-MiniLM-L6-v2, for which 25 to 28 kB
    were measured at 2048 to 8192 padded tokens.
    """
    hidden = getattr(config, "hidden_size", None) or dimension
    intermediate = getattr(config, "intermediate_size", None) or 4 * hidden
    return 4 * (6 * hidden + 3 * intermediate)


def _compare(found: Vectors, expected: Vectors, name: str) -> None:
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    nearest = float(((found * expected).sum(axis=1) / norms).min()) if found.shape == expected.shape else 0.0
    if not nearest >= _SAME_DIRECTION:  # also when it is not a number
        raise ConfigError(
            f"model {name!r}: fed with token ids it does not give the vectors that it gives by itself (cosine "
            f"{nearest:.4f}, expected at least {_SAME_DIRECTION}); expected a text embedding model without routing"
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _rss_mb() -> float | None:
    """MiB resident now; None where the kernel does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(round(int(line.split()[1]) / 1024, 1) for line in status.splitlines() if line.startswith("VmRSS:"))
    except (OSError, StopIteration):
        return None
