"""`asyncmem settings`: what is set here, and the table for the manual."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from asyncmem.cli.app import run
from asyncmem.config import MemoryConfig, describe

Capture = pytest.CaptureFixture[str]


def test_text_shows_what_is_set_beside_the_default(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """From the environment; each setting once."""
    monkeypatch.setenv("ASYNCMEM_MAX_QUEUE", "77")
    monkeypatch.setenv("ASYNCMEM_MONITORING", "off")
    assert run(["settings"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("ASYNCMEM_")]
    values = {row[0]: row[1:3] for row in rows}
    assert values["ASYNCMEM_MAX_QUEUE"] == ["77", "1000"]
    assert values["ASYNCMEM_MONITORING"] == ["false", "true"]
    assert values["ASYNCMEM_LIMIT"] == ["unset", "unset"]
    assert len(rows) == len(values) == len(describe())


def test_json_joins_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """It is what a `MemoryConfig` is made of."""
    file = tmp_path / "settings.toml"
    file.write_text('limit = "1GiB"\nmax_queue = 5\n')
    monkeypatch.setenv("ASYNCMEM_CONFIG", str(file))
    monkeypatch.setenv("ASYNCMEM_MAX_QUEUE", "6")
    assert run(["settings", "--json"]) == 0
    printed = capsys.readouterr().out
    values = json.loads(printed)
    assert (values["limit"], values["max_queue"]) == (2**30, 6)
    assert msgspec.json.decode(printed, type=MemoryConfig) == MemoryConfig.load()


def test_markdown_is_the_same_whatever_is_set(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """It shows the defaults, and every setting in one of its two tables."""
    assert run(["settings", "--markdown"]) == 0
    table = capsys.readouterr().out
    monkeypatch.setenv("ASYNCMEM_LIMIT", "lots")
    assert run(["settings", "--markdown"]) == 0
    assert capsys.readouterr().out == table
    for setting in describe():
        [row] = [line for line in table.splitlines() if line.startswith(f"| `{setting.variable}` ")]
        cells = row.strip("| ").split(" | ")
        assert cells[1] == f"`{setting.name}`"
        assert setting.text in row
        assert (len(cells) == 5) == bool(setting.read_by)
