from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from asyncmem.errors import ConfigError
from asyncmem_services.embedding.models import (
    DEFAULT_MODEL,
    ModelSource,
    aliases,
    canonical,
    resolve,
    served_name,
    verify,
)


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"])
def test_default_is_the_packaged_model_under_both_its_names(name: str) -> None:
    """Neither name of the default leads anywhere but to the installed weights, which are the published ones."""
    source = resolve(name)
    verify(source)
    assert source.name == canonical(name) == DEFAULT_MODEL
    assert source.local
    assert (Path(source.location) / "modules.json").is_file()


def test_names_that_clients_may_use() -> None:
    """A model is known by its name with and without its publisher, and a folder by its last part."""
    both = {"all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"}
    assert aliases("all-MiniLM-L6-v2") == aliases("sentence-transformers/all-MiniLM-L6-v2") == both
    assert aliases("BAAI/bge-small-en") == {"BAAI/bge-small-en"}
    assert served_name("/srv/models/mine") == served_name("./mine/") == served_name("~/mine") == "mine"


@pytest.mark.parametrize("marker", ["modules.json", "config.json"])
def test_folder_with_a_model(tmp_path: Path, marker: str) -> None:
    """A folder that holds either kind of model is taken, and nothing is known of its weights' hash."""
    (tmp_path / marker).write_text("{}")
    assert resolve(str(tmp_path)) == ModelSource(tmp_path.name, str(tmp_path), local=True)


def test_hub_name_is_left_to_the_hub() -> None:
    """A name that is no path is not looked up here."""
    assert resolve("BAAI/bge-small-en") == ModelSource("BAAI/bge-small-en", "BAAI/bge-small-en", local=False)


def test_what_is_no_model_is_refused_with_what_was_found(tmp_path: Path) -> None:
    """The error names the path, what is there and what was expected."""
    file = tmp_path / "notes.txt"
    file.write_text("")
    (tmp_path / "empty").mkdir()
    for argument, words in [
        (str(tmp_path), "found empty, notes.txt"),
        (str(tmp_path / "empty"), "found nothing"),
        (str(file), "is a file"),
        (str(tmp_path / "gone"), "nothing exists at"),
        ("./gone", "nothing exists at"),
        ("a/b/c", "nothing exists at"),
        ("", "got ''"),
    ]:
        with pytest.raises(ConfigError, match=words):
            resolve(argument)


def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    """Weights with another hash, or none at all, are named with both hashes or the reason."""
    source = ModelSource("m", str(tmp_path), local=True, sha256="0" * 64)
    with pytest.raises(ConfigError, match="cannot be read"):
        verify(source)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ConfigError, match=r"SHA-256 is [0-9a-f]{64}, expected 0{64}"):
        verify(source)


def test_neither_import_nor_resolving_loads_torch() -> None:
    """A process pays for torch only when it loads a model."""
    code = (
        "import sys, asyncmem_services.embedding as e; from asyncmem_services.embedding.models import resolve;"
        "resolve(e.DEFAULT_MODEL); e.create_app();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'sentence_transformers')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
