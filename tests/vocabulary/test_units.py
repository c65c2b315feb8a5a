"""Bytes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncmem.errors import ConfigError
from asyncmem.units import format_bytes, is_share, parse_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.5GiB", 1_610_612_736),
        ("500 MB", 500_000_000),
        ("2Gi", 2 * 2**30),
        ("2G", 2 * 10**9),
        ("64mib", 64 * 2**20),
        ("1_000", 1000),
        ("0", 0),
        ("1e3", 1000),
        (12, 12),
    ],
)
def test_reads_quantities(text: int | str, expected: int) -> None:
    """Binary units are powers of 1024 and decimal ones of 1000, as in Kubernetes."""
    assert parse_bytes(text) == expected


def test_reads_a_share_where_there_is_a_whole() -> None:
    """A share is taken of what the caller names, and refused where nothing is named."""
    assert parse_bytes("80%", of=1000) == 800
    assert is_share("80%")
    assert not is_share(80)
    with pytest.raises(ConfigError, match="nothing it could be a share of"):
        parse_bytes("80%")


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "MiB",
        "-1",
        "5XB",
        "1.2.3.4MiB",
        "nan",
        "inf",
        "1e400",
        "99999999TiB",
        -1,
        2**63,
        True,
        None,
        1.5,
        "٣MiB",
        "101%",
    ],
)
def test_refuses_what_is_no_quantity(bad: object) -> None:
    """The error names what was met."""
    with pytest.raises(ConfigError) as caught:
        parse_bytes(bad, of=100)  # type: ignore[arg-type]
    assert str(bad) in str(caught.value)


@given(st.integers(0, 2**62))
def test_what_is_written_can_be_read(value: int) -> None:
    """`format_bytes` loses at most the digits that it does not show."""
    again = parse_bytes(format_bytes(value))
    assert abs(again - value) <= max(1, value * 0.06)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1_610_612_736, "1.5 GiB"), (-2048, "-2 KiB"), (2**50, "1024 TiB")],
)
def test_writes_for_people(value: int, text: str) -> None:
    """Few digits and a binary unit."""
    assert format_bytes(value) == text
