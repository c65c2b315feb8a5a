"""Settings: their sources, their order, and what is said of wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asyncmem.config import MemoryConfig, describe
from asyncmem.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_defaults_need_nothing() -> None:
    """An empty environment gives the defaults."""
    assert MemoryConfig.load(environ={}) == MemoryConfig()


def test_text_is_read_as_bytes_and_shares_stay() -> None:
    """A limit with units is bytes at once; a share waits for the limit that is found."""
    assert MemoryConfig(limit="2GiB").limit == 2 * 2**30
    assert MemoryConfig(limit="80%").limit == "80%"


def test_environment_is_read_by_prefix() -> None:
    """Every kind of field can be written as a variable."""
    config = MemoryConfig.from_env(
        {
            "ASYNCMEM_LIMIT": "1GiB",
            "ASYNCMEM_MAX_QUEUE": "12",
            "ASYNCMEM_MONITORING": "off",
            "ASYNCMEM_INTERVAL": "0.5",
            "ASYNCMEM_OPERATION_LIMIT": "none",
            "ASYNCMEM_COMPRESSION_METHOD": "zstd",
            "ASYNCMEM_SERVICES_MODEL": "of no concern here",
            "HOME": "/",
        }
    )
    assert (config.limit, config.max_queue, config.monitoring) == (2**30, 12, False)
    assert (config.interval, config.operation_limit, config.compression_method) == (0.5, None, "zstd")


def test_code_beats_environment_beats_file(tmp_path: Path) -> None:
    """The nearer source wins, setting by setting."""
    file = tmp_path / "memory.toml"
    file.write_text("[asyncmem]\nlimit = '1GiB'\ninterval = 3\nmax_queue = 7\n")
    environ = {"ASYNCMEM_CONFIG": str(file), "ASYNCMEM_LIMIT": "2GiB", "ASYNCMEM_INTERVAL": "2"}
    config = MemoryConfig.load(environ=environ, limit="3GiB", queue_timeout=None)
    assert (config.limit, config.interval, config.max_queue) == (3 * 2**30, 2.0, 7)


def test_a_json_file_is_read_too(tmp_path: Path) -> None:
    """By its suffix."""
    file = tmp_path / "memory.json"
    file.write_text('{"limit": "1GiB", "log_alerts": false}')
    assert MemoryConfig.from_file(file) == MemoryConfig(limit="1GiB", log_alerts=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", "2Gx"),
        ("limit", 12),
        ("limit", -5),
        ("limit", True),
        ("limit", "0%"),
        ("limit", []),
        ("guard_band", "-1MiB"),
        ("operation_limit", "50%"),
        ("max_queue", 0),
        ("max_queue", 1.5),
        ("queue_timeout", -1),
        ("queue_timeout", float("nan")),
        ("interval", 0),
        ("interval", "soon"),
        ("monitoring", "maybe"),
        ("alert_preset", "loud"),
        ("cache_size", None),
        ("compression_method", "rar"),
    ],
)
def test_a_wrong_value_names_setting_value_and_form(field: str, value: object) -> None:
    """From code and from a mapping alike."""
    sources: tuple[Callable[..., MemoryConfig], ...] = (
        MemoryConfig,
        lambda **values: MemoryConfig.from_mapping(values),
    )
    for make in sources:
        with pytest.raises(ConfigError) as caught:
            make(**{field: value})
        message = str(caught.value)
        assert field in message
        assert repr(value) in message
        assert "expected" in message
        assert "for example" in message


def test_a_wrong_variable_is_named_as_it_was_written() -> None:
    """So that it can be found in a manifest."""
    with pytest.raises(ConfigError, match=r"ASYNCMEM_INTERVAL.*got 'soon'"):
        MemoryConfig.from_env({"ASYNCMEM_INTERVAL": "soon"})


def test_a_misspelt_variable_is_refused_with_the_nearest() -> None:
    """A limit that is silently ignored would be found out by the kernel."""
    with pytest.raises(ConfigError, match="ASYNCMEM_LIMT: unknown setting; did you mean ASYNCMEM_LIMIT"):
        MemoryConfig.from_env({"ASYNCMEM_LIMT": "1GiB"})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("absent.toml", None, "cannot be read"),
        ("bad.toml", "limit = ", "not valid TOML"),
        ("bad.json", "{", "not valid JSON"),
        ("list.json", "[1]", "expected a table"),
        ("unknown.toml", "limmit = 3", "did you mean limit"),
        ("binary.toml", b"\xff\xfe", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, name: str, content: str | bytes | None, said: str) -> None:
    """With what is wrong with it."""
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=said) as caught:
        MemoryConfig.from_file(file)
    assert name in str(caught.value)


def test_an_overlap_must_be_smaller_than_its_chunk() -> None:
    """Both values are named."""
    with pytest.raises(ConfigError, match="got 500; expected less than chunk_size, which is 500"):
        MemoryConfig(chunk_overlap=500)


def test_every_setting_is_described_and_its_example_works() -> None:
    """The table of the README rests on this."""
    for setting in describe():
        assert setting.text.endswith(".")
        MemoryConfig.from_env({setting.variable: setting.example})
