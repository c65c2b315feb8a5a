"""Where a webhook's messages go, kept so that it does not get out.

The URL of a webhook is its password: whoever has it can post. `Secret` hides a value from all that prints values (logs,
reprs, renderers and crash reporters that show the locals of each frame); `Endpoint` is a URL and headers, checked
before anything is sent. An error that refuses one says what is wrong with it, and not what it is.

This is no protection from code that wants to know: the value is in this process. What is sent, and when again, is in
`asyncmem.alerts.sinks.webhook`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from yarl import URL

from asyncmem.errors import ConfigError

__all__ = ["Endpoint", "Secret"]

T = TypeVar("T")


class Secret(Generic[T]):
    """A value that does not show itself."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value; pass it on at once, and keep it in no variable."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked URL, and the headers that go with each request to it; made by `read`.

    Args:
        host: The URL's host. It is no secret: name servers and proxies learn it from each request.
        url: The whole URL.
        headers: Header fields, in which credentials may be.
    """

    host: str
    url: Secret[URL]
    headers: Secret[dict[str, str]]

    @classmethod
    def read(cls, url: str, headers: Mapping[str, str], *, allow_http: bool) -> Self:
        """Check a URL and headers.

        It is read by the same parser that the HTTP client uses, so that what was checked is what is asked.

        Args:
            url: Absolute, ``https``, or ``http`` to this very machine; white space around it (the line feed of a
                mounted file) is dropped.
            headers: Header fields to send.
            allow_http: Whether ``http`` to other machines will do.

        Raises:
            ConfigError: No such URL, or headers that cannot be sent.
        """
        parsed = _parse(url)
        if parsed is None or not parsed.host or parsed.scheme not in {"http", "https"}:
            raise ConfigError(
                "the webhook's URL (not shown, it is a secret) cannot be used; expected https://host/path"
            )
        if parsed.scheme == "http" and not allow_http and not _is_loopback(parsed.host):
            raise ConfigError(
                f"the webhook at {parsed.host} has an http URL, and who reads the traffic could post with it; use "
                "https, or allow_http=True where the network is trusted"
            )
        _check_headers(headers.items())
        if parsed.user is not None and any(name.lower() == "authorization" for name in headers):
            raise ConfigError(
                f"the webhook at {parsed.host} has credentials both in its URL and in a header Authorization; "
                "expected one of them"
            )
        return cls(parsed.host, Secret(parsed), Secret(dict(headers)))


def _parse(url: object) -> URL | None:
    # None and no error: the one that yarl raises quotes the URL, and would be chained to ours.
    if not isinstance(url, str):
        return None
    text = url.strip()
    if not text.isprintable() or " " in text:
        return None
    try:
        return URL(text)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_headers(headers: Iterable[tuple[object, object]]) -> None:
    for name, value in headers:
        if not isinstance(name, str) or not name.isascii() or not name.isprintable() or not name.strip():
            raise ConfigError("a header of the webhook has no proper name; expected printable ASCII text")
        if not isinstance(value, str) or not value.isprintable():
            raise ConfigError(
                f"the webhook's header {name} has a value (not shown) that cannot be sent; expected text in one line"
            )
