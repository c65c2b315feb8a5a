"""``asyncmem settings``: every setting, its value here, and how to write it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Group, Parameter
from cyclopts.validators import mutually_exclusive
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from asyncmem.config import MemoryConfig, Setting, describe

__all__ = ["markdown_table", "settings"]

_FORMAT = Group("Format", validator=mutually_exclusive)


def settings(
    *,
    markdown: Annotated[bool, Parameter(negative=(), group=_FORMAT, show_default=False)] = False,
    json: Annotated[bool, Parameter(negative=(), group=_FORMAT, show_default=False)] = False,
) -> int:
    """Show the settings as environment and settings file give them.

    Args:
        markdown: Write the table of the README, with defaults and not with the values here.
        json: Write the values here as JSON.
    """
    if markdown:
        print(markdown_table(), end="")  # noqa: T201 - the command's result
        return 0
    config = MemoryConfig.load()
    if json:
        print(msgspec.json.format(msgspec.json.encode(config)).decode())  # noqa: T201 - as above
        return 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading, whole in (("setting", True), ("value", True), ("default", True), ("expected", False)):
        table.add_column(heading, no_wrap=whole)
    for setting in describe():
        value = getattr(config, setting.name)
        table.add_row(
            setting.variable,
            Text(_text(value), style="" if value == setting.default else "bold green"),
            _text(setting.default),
            setting.expected,
        )
    Console(highlight=False).print(table)
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
