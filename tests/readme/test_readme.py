"""The README says what is so: its code runs, its table of settings is the program's, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from asyncmem.cli.settings import markdown_table
from asyncmem.events import AdmissionOutlook, AlertLevel, AlertState, AlertType, MemoryAlert, MemorySnapshot

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_block_of_code_runs(number: int, tmp_path: Path) -> None:
    """In a process of its own, as it stands; those that would serve for ever do so only as a main program."""
    block = tmp_path / "block.py"
    block.write_text(BLOCKS[number])
    serves = "__main__" in BLOCKS[number]
    command = ["-c", "import block"] if serves else [block.name]
    done = subprocess.run(
        [sys.executable, "-W", "error", *command], cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_table_of_settings_is_the_programs() -> None:
    """Made by ``asyncmem settings --markdown``; put it in again after a change of `MemoryConfig`."""
    written = re.search(r"<!-- settings: .*? -->\n(.*?)<!-- end of settings -->", README, re.DOTALL)
    assert written is not None
    assert written[1] == markdown_table()


def test_the_table_of_an_alert_is_its_fields() -> None:
    """All of them and no others, with all words that stand for something."""
    written = re.search(r"<!-- alert: .*? -->\n(.*?)<!-- end of alert -->", README, re.DOTALL)
    assert written is not None
    rows = dict(re.findall(r"^\| (`.*?) \| (.*) \|$", written[1], re.MULTILINE))
    fields = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(fields) == sorted(["schema_version", *MemoryAlert.__struct_fields__])
    for row, words in (("`alert_type`", AlertType), ("`state`", AlertState), ("`level`", AlertLevel)):
        assert re.findall(r"`(\w+)`", rows[row]) == [word.value for word in words]
    assert sorted(re.findall(r"`(\w+)`", rows["`admission`"])) == sorted(AdmissionOutlook.__struct_fields__)
    assert set(re.findall(r"`(\w+)`", rows["`snapshot`"])) <= {*MemorySnapshot.__struct_fields__, "percent"}


def test_links_lead_somewhere() -> None:
    """To a heading of the page, or to a file of the project."""
    headings = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^##+ (.*)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (target[1:] in headings) if target.startswith("#") else (ROOT / target).exists(), target
