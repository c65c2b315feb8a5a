"""Every setting of asyncmem: one frozen, validated `MemoryConfig`.

Settings come from code, from the environment (``ASYNCMEM_LIMIT=2GiB``) and from a TOML or JSON file;
`MemoryConfig.load` joins them, and code beats environment beats file beats default. Nothing is read at import. A wrong
value gives a `ConfigError` that names the setting, the value met and the form expected.

The table of settings in the README is made from this module by `describe`.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_type_hints

import msgspec
from msgspec import Meta

from asyncmem.errors import ConfigError
from asyncmem.units import is_share, parse_bytes

__all__ = ["CONFIG_FILE_VARIABLE", "ENV_PREFIX", "MemoryConfig", "Setting", "describe"]

ENV_PREFIX = "ASYNCMEM_"
CONFIG_FILE_VARIABLE = "ASYNCMEM_CONFIG"
_FOREIGN_PREFIX = "ASYNCMEM_SERVICES_"
"""Variables of the services, which have settings of their own."""

_BYTES = "bytes, or text such as '512MiB' or '1.5GiB'"

Seconds = Annotated[float, Meta(gt=0.0, le=86_400.0)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]


def _doc(text: str, expected: str, example: str, *, read_by: str = "") -> Meta:
    """Describe a setting; `read_by` names the part that will read it, where that part is not built yet."""
    return Meta(description=text, extra={"expected": expected, "example": example, "read_by": read_by})


class MemoryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a `MemoryRuntime`; all have defaults that need no tuning.

    Raises:
        ConfigError: A value is of the wrong type or out of range; names the setting, the value and the form expected.
    """

    limit: Annotated[
        int | str | None,
        _doc(
            "The most that this process may use, in bytes or as a share of the limit found. Unset: the limit that the "
            "kernel enforces (cgroup, rlimit, else the machine's memory).",
            f"{_BYTES}, or a share such as '80%', of at least 1 MiB",
            "2GiB",
        ),
    ] = None
    guard_band: Annotated[
        int | str | None,
        _doc(
            "Bytes kept free below the limit for what was not foreseen. Unset: 5 % of the limit, and at least 64 MiB "
            "or an eighth of the limit, whichever is less.",
            f"{_BYTES}, or a share of the limit such as '10%'",
            "64MiB",
        ),
    ] = None
    operation_limit: Annotated[
        int | str | None,
        _doc("The most that one operation may reserve; more is refused. Unset: the capacity.", _BYTES, "512MiB"),
    ] = None
    max_queue: Annotated[
        Count,
        _doc(
            "Waiters that may queue for memory; more are refused at once (429).",
            "a whole number from 1",
            "1000",
        ),
    ] = 1000
    queue_timeout: Annotated[
        Seconds,
        _doc(
            "Longest wait for memory, in seconds; then the work is refused (503).",
            "seconds, more than 0",
            "30",
        ),
    ] = 30.0
    costs_path: Annotated[
        str | None,
        _doc(
            "File in which learned costs outlive the process; it is read at the start and written every minute and at "
            "the end. Unset: each process learns anew.",
            "the path of a file in a directory that exists",
            "/var/lib/app/costs.json",
        ),
    ] = None
    monitoring: Annotated[
        bool,
        _doc(
            "Run the background thread that samples memory, learns peaks and raises alerts. Without it memory is read "
            "at each decision only.",
            "true or false",
            "true",
        ),
    ] = True
    interval: Annotated[
        Seconds,
        _doc("Seconds between two samples while nothing is in flight.", "seconds, more than 0", "1.0"),
    ] = 1.0
    history: Annotated[Count, _doc("Snapshots that the monitor keeps.", "a whole number from 1", "3600")] = 3600
    alert_preset: Annotated[
        Literal["default", "conservative", "none"],
        _doc("The alert thresholds to begin with.", "default, conservative or none", "default"),
    ] = "default"
    alert_cooldown: Annotated[
        Annotated[float, Meta(ge=0.0, le=86_400.0)],
        _doc(
            "Seconds for which a condition must have stayed better before its alert is resolved.",
            "seconds from 0",
            "30.0",
        ),
    ] = 30.0
    log_alerts: Annotated[bool, _doc("Write each alert as a structlog event.", "true or false", "true")] = True

    # Names that are settled, checked already, and read by parts that come with later releases.
    profiling: Annotated[
        bool, _doc("Trace Python allocations by line.", "true or false", "false", read_by="profiler")
    ] = False
    streaming_threshold: Annotated[
        int | str,
        _doc("Size from which a file is streamed and never read whole.", _BYTES, "50MB", read_by="loaders"),
    ] = 50_000_000
    max_file_size: Annotated[
        int | str | None, _doc("Largest file that is opened. Unset: any.", _BYTES, "10GB", read_by="loaders")
    ] = None
    chunk_size: Annotated[
        Count, _doc("Length of a chunk of text.", "a whole number from 1", "500", read_by="loaders")
    ] = 500
    chunk_overlap: Annotated[
        Annotated[int, Meta(ge=0, le=10_000_000)],
        _doc(
            "Length that two chunks share.",
            "a whole number from 0, less than chunk_size",
            "100",
            read_by="loaders",
        ),
    ] = 100
    chunk_rows: Annotated[
        Count, _doc("Rows of a chunk of a table.", "a whole number from 1", "10000", read_by="loaders")
    ] = 10_000
    gc_frequency: Annotated[
        Count,
        _doc("Streamed chunks between two collections.", "a whole number from 1", "1", read_by="loaders"),
    ] = 1
    cache_size: Annotated[
        int | str, _doc("Bytes of the compressed cache's memory tier.", _BYTES, "500MiB", read_by="caches")
    ] = 500 * 1024 * 1024
    compression: Annotated[bool, _doc("Compress what is cached.", "true or false", "true", read_by="caches")] = True
    compression_method: Annotated[
        Literal["lz4", "gzip", "zstd", "numpy", "none", "auto"],
        _doc("How it is compressed.", "lz4, gzip, zstd, numpy, none or auto", "lz4", read_by="caches"),
    ] = "lz4"

    def __post_init__(self) -> None:
        """Check every value; text with units stays text only where it is a share."""
        for name, spec in _specs().items():
            try:
                checked = _check(name, getattr(self, name), spec)
            except (msgspec.ValidationError, ConfigError) as error:
                raise ConfigError(_refusal(name, getattr(self, name), name, spec, error)) from None
            msgspec.structs.force_setattr(self, name, checked)
        if self.chunk_overlap >= self.chunk_size:
            raise ConfigError(
                f"chunk_overlap: got {self.chunk_overlap}; expected less than chunk_size, which is {self.chunk_size}"
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Make settings from a mapping of field names, as a file holds it.

        Args:
            values: Field names to values; text is read as the field's type.

        Raises:
            ConfigError: An unknown name (the nearest known one is suggested) or a wrong value.
        """
        return cls(**_read(values, {name: name for name in values}))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Make settings from a TOML file (its ``[asyncmem]`` table, or the top level) or a JSON file.

        Raises:
            ConfigError: The file cannot be read, is not what its name says, or holds a wrong value.
        """
        return cls(**_read_file(Path(path)))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Make settings from the variables ``ASYNCMEM_<NAME>``; `environ` stands in for `os.environ`.

        Raises:
            ConfigError: An unknown variable with the prefix, or a wrong value.
        """
        return cls(**_read_env(os.environ if environ is None else environ))

    @classmethod
    def load(cls, *, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Join all sources: `overrides` beat the environment, which beats the file that ``ASYNCMEM_CONFIG`` names.

        Args:
            environ: Stands in for `os.environ`.
            **overrides: Settings by field name; None leaves the setting to the other sources.

        Raises:
            ConfigError: Any source holds an unknown name or a wrong value.
        """
        variables = os.environ if environ is None else environ
        file = variables.get(CONFIG_FILE_VARIABLE)
        values = _read_file(Path(file)) if file else {}
        values |= _read_env(variables)
        values |= _read({k: v for k, v in overrides.items() if v is not None}, {name: name for name in overrides})
        return cls(**values)


class Setting(NamedTuple):
    """One row of the table of settings."""

    name: str
    variable: str
    default: object
    expected: str
    text: str
    example: str
    read_by: str
    """The part that reads the setting, where that part comes with a later release; else empty."""


def describe() -> list[Setting]:
    """The settings in their order, for documentation and for the command line."""
    defaults = MemoryConfig()
    return [
        Setting(
            name=name,
            variable=_variable(name),
            default=getattr(defaults, name),
            expected=spec.expected,
            text=spec.text,
            example=spec.example,
            read_by=spec.read_by,
        )
        for name, spec in _specs().items()
    ]


class _Spec(NamedTuple):
    type: Any
    text: str
    expected: str
    example: str
    read_by: str


@cache
def _specs() -> dict[str, _Spec]:
    specs = {}
    for name, hint in get_type_hints(MemoryConfig, include_extras=True).items():
        meta: Meta = hint.__metadata__[-1]
        extra = meta.extra or {}
        specs[name] = _Spec(hint, meta.description or "", extra["expected"], extra["example"], extra["read_by"])
    return specs


_QUANTITIES = {"limit", "guard_band", "operation_limit", "streaming_threshold", "max_file_size", "cache_size"}
_OPTIONAL = {"limit", "guard_band", "operation_limit", "max_file_size"}
_SHARES_ALLOWED = {"limit", "guard_band"}
_SMALLEST_LIMIT = 1024 * 1024


def _check(name: str, value: object, spec: _Spec) -> object:
    if name not in _QUANTITIES:
        return msgspec.convert(value, spec.type)
    if value is None and name in _OPTIONAL:
        return None
    if not isinstance(value, int | str):
        raise ConfigError(f"{type(value).__name__} is no number of bytes")
    if is_share(value):
        if name not in _SHARES_ALLOWED:
            raise ConfigError("a share has no meaning here")
        if parse_bytes(value, of=100) == 0 and name == "limit":
            raise ConfigError("it leaves no memory at all")
        return value
    number = parse_bytes(value)
    if name in {"limit", "operation_limit"} and number < _SMALLEST_LIMIT:
        raise ConfigError("less than 1 MiB; a bare number is bytes")
    return number


def _refusal(name: str, value: object, shown: str, spec: _Spec, cause: Exception) -> str:
    label = shown if shown == name else f"{name} ({shown})"
    return f"{label}: got {value!r} ({cause}); expected {spec.expected}, for example {spec.example!r}"


def _variable(name: str) -> str:
    return ENV_PREFIX + name.upper()


def _read(values: Mapping[str, object], shown: Mapping[str, str]) -> dict[str, Any]:
    """Read loosely typed values (text from files and variables) as the fields' types; `shown` names them in errors."""
    specs = _specs()
    result: dict[str, Any] = {}
    for name, value in values.items():
        spec = specs.get(name)
        if spec is None:
            raise ConfigError(_unknown(name, shown[name], specs))
        try:
            typed = value if name in _QUANTITIES else msgspec.convert(_plain(value), spec.type, strict=False)
            if isinstance(typed, str) and name in _QUANTITIES and typed.strip().lower() in {"", "none"}:
                typed = None
            result[name] = _check(name, typed, spec)
        except (msgspec.ValidationError, ConfigError) as error:
            raise ConfigError(_refusal(name, value, shown[name], spec, error)) from None
    return result


_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def _plain(value: object) -> object:
    return _WORDS.get(value.strip().lower(), value.strip()) if isinstance(value, str) else value


def _unknown(name: str, shown: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    prefix = ENV_PREFIX if shown.startswith(ENV_PREFIX) else ""
    proper = [prefix + (n.upper() if prefix else n) for n in (near or sorted(known))]
    hint = f"did you mean {proper[0]}?" if near else f"known are {', '.join(proper)}"
    return f"{shown}: unknown setting; {hint}"


def _read_env(environ: Mapping[str, str]) -> dict[str, Any]:
    found = {
        variable[len(ENV_PREFIX) :].lower(): value
        for variable, value in environ.items()
        if variable.startswith(ENV_PREFIX)
        and variable != CONFIG_FILE_VARIABLE
        and not variable.startswith(_FOREIGN_PREFIX)
    }
    return _read(found, {name: _variable(name) for name in found})


def _read_file(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"settings file {str(path)!r}: cannot be read ({error.strerror})") from error
    try:
        content = json.loads(raw) if path.suffix == ".json" else tomllib.loads(raw.decode())
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigError(f"settings file {str(path)!r}: not valid {kind} ({error})") from error
    table = content.get("asyncmem", content) if isinstance(content, dict) else content
    if not isinstance(table, dict):
        raise ConfigError(f"settings file {str(path)!r}: expected a table of settings, got {type(table).__name__}")
    return _read(table, {name: f"{path}: {name}" for name in table})
