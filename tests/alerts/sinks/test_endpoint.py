"""What a URL and headers must be, and that neither the value nor the refusal shows them."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from asyncmem.alerts.sinks.endpoint import Endpoint, Secret
from asyncmem.errors import ConfigError

HIDDEN = "XhiddenX"


def refusal(url: Any, headers: dict[Any, Any] | None = None) -> str:
    """Why something is refused; nothing of it is in the error, nor in one that is chained to it."""
    with pytest.raises(ConfigError) as refused:
        Endpoint.read(url, headers or {}, allow_http=False)
    assert refused.value.__context__ is None
    text = str(refused.value)
    assert HIDDEN not in text + repr(refused.value) + "".join(traceback.format_exception(refused.value))
    return text


@pytest.mark.parametrize(
    "url",
    [
        "",
        HIDDEN,
        f"hooks.slack.com/services/{HIDDEN}",
        f"{HIDDEN}:abc",
        f"ftp://example.org/{HIDDEN}",
        f"https:///{HIDDEN}",
        f"https://example.org:{HIDDEN}/",
        f"https://[{HIDDEN}/",
        f"https://example.org/a {HIDDEN}",
        f"https://example.org/a\r\nX: {HIDDEN}",
        f"https://example.org/a\0{HIDDEN}",
        None,
        HIDDEN.encode(),
    ],
)
def test_what_is_no_url_is_refused(url: object) -> None:
    """With an error that says what is expected, and nothing of what was met."""
    assert "expected https://host/path" in refusal(url)


def test_in_the_clear_only_to_this_machine() -> None:
    """A URL that is a password does not travel readable, unless somebody says so."""
    assert "allow_http=True" in refusal(f"http://example.org/{HIDDEN}")
    assert "allow_http=True" in refusal(f"http://127.example.org/{HIDDEN}")
    for host in ("localhost", "api.localhost", "127.0.0.1", "127.8.8.8", "[::1]"):
        Endpoint.read(f"http://{host}:8080/{HIDDEN}", {}, allow_http=False)
    Endpoint.read(f"http://gateway.monitoring.svc/{HIDDEN}", {}, allow_http=True)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Token": f"{HIDDEN}\r\nX-Other: 1"},
        {"X-Token": HIDDEN.encode()},
        {"X-Token": None},
        {f"{HIDDEN}\n": "1"},
        {"": HIDDEN},
        {1: HIDDEN},
    ],
)
def test_headers_that_cannot_be_sent_are_refused(headers: dict[Any, Any]) -> None:
    """At once, and not when there is an alert to tell."""
    assert "header" in refusal("https://example.org/", headers)


def test_credentials_are_given_once() -> None:
    """In the URL or in a header."""
    assert "one of them" in refusal(f"https://user:{HIDDEN}@example.org/", {"AUTHORIZATION": HIDDEN})


def test_it_shows_the_host_and_nothing_else() -> None:
    """Neither path, query and userinfo nor headers."""
    url = f"https://user{HIDDEN}:{HIDDEN}@hooks.example.org:8443/{HIDDEN}?token={HIDDEN}#{HIDDEN}"
    endpoint = Endpoint.read(url, {"X-Token": HIDDEN}, allow_http=False)
    assert endpoint.host == "hooks.example.org"
    assert HIDDEN not in f"{endpoint} {endpoint!r}"
    assert str(endpoint.url.reveal()) == url
    assert endpoint.headers.reveal() == {"X-Token": HIDDEN}


def test_a_mounted_file_may_end_in_a_line_feed() -> None:
    """White space around the URL is no part of it."""
    endpoint = Endpoint.read("  https://example.org/a\n", {}, allow_http=False)
    assert str(endpoint.url.reveal()) == "https://example.org/a"


def test_a_secret_is_formatted_as_one() -> None:
    """However it is printed."""
    secret = Secret(HIDDEN)
    assert HIDDEN not in f"{secret} {secret!r} {[secret]} %s" % secret
    assert secret.reveal() == HIDDEN
