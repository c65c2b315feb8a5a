"""``asyncmem settings``: every setting, its value here, and how to write it."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from asyncmem.config import MemoryConfig, Setting, describe

__all__ = ["markdown_table", "settings"]


def settings(
    *,
    markdown: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show the settings as environment and settings file give them.

    Args:
        markdown: Write the table of the README, with defaults and not with the values here.
        json: Write the values here as JSON.
    """
    if markdown:
        sys.stdout.write(markdown_table())
        return 0
    config = MemoryConfig.load()
    if json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(config)) + b"\n")
        return 0
    table = Table("setting", "value", "default", "expected")
    for setting in describe():
        value = getattr(config, setting.name)
        shown = _text(value)
        table.add_row(
            setting.variable,
            shown if value == setting.default else f"[bold]{shown}[/bold]",
            _text(setting.default),
            setting.expected,
        )
    Console().print(table)
    return 0


def markdown_table() -> str:
    """The table of settings as the README has it."""
    rows = [setting for setting in describe() if not setting.read_by]
    planned = [setting for setting in describe() if setting.read_by]
    text = "| variable | field | default | meaning |\n| --- | --- | --- | --- |\n"
    text += "".join(_row(setting) for setting in rows)
    text += (
        "\nThese are checked today and read by parts that come with later releases:\n\n"
        "| variable | field | default | meaning | read by |\n| --- | --- | --- | --- | --- |\n"
    )
    return text + "".join(_row(setting) for setting in planned)


def _row(setting: Setting) -> str:
    cells = [
        f"`{setting.variable}`",
        f"`{setting.name}`",
        f"`{_text(setting.default)}`",
        f"{setting.text} ({setting.expected})",
    ]
    if setting.read_by:
        cells.append(setting.read_by)
    return "| " + " | ".join(cells) + " |\n"


def _text(value: object) -> str:
    if value is None:
        return "unset"
    return str(value).lower() if isinstance(value, bool) else str(value)
