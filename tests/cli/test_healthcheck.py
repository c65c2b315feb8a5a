"""`asyncmem healthcheck` against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asyncmem.cli.app import run

if TYPE_CHECKING:
    from tests.cli.conftest import Service

Capture = pytest.CaptureFixture[str]


def test_ready_is_0(service: Service, capsys: Capture) -> None:
    """The URL that was given is what is asked, once."""
    assert run(["healthcheck", service.url]) == 0
    assert capsys.readouterr() == (f"ok: {service.url} answered 200\n", "")
    assert service.asked == ["/readyz"]


def test_not_ready_is_1_with_the_reason(service: Service, capsys: Capture) -> None:
    """In one line, as an orchestrator shows it."""
    service.status, service.body = 503, b'{"status": "unavailable",\n "reason": "the model is loading"}\n'
    assert run(["healthcheck", service.url]) == 1
    assert capsys.readouterr() == (
        "",
        f'not ready: {service.url} answered 503 {{"status": "unavailable",  "reason": "the model is loading"}}\n',
    )


def test_an_answer_cannot_speak_to_the_terminal(service: Service, capsys: Capture) -> None:
    """Control characters and bytes that are no text are left out; a long answer is cut."""
    service.status, service.body = 500, b"\x1b[2J\xff" + b"x" * 5000
    assert run(["healthcheck", service.url]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"not ready: {service.url} answered 500 [2J�xxx")
    assert len(error) < 700


def test_a_server_that_stalls_is_not_ready_in_time(service: Service, capsys: Capture) -> None:
    """Status 503 and then nothing: the reason is missing, the answer is not."""
    service.status, service.stalls = 503, True
    assert run(["healthcheck", service.url, "--timeout", "2"]) == 1
    assert capsys.readouterr() == ("", f"not ready: {service.url} answered 503\n")


def test_proxies_are_not_asked(service: Service, monkeypatch: pytest.MonkeyPatch, free_tcp_port: int) -> None:
    """The environment's proxy is for the service's own calls."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{free_tcp_port}")
    assert run(["healthcheck", service.url]) == 0


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080/readyz",
        "localhost:8080",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://",
        "http:///readyz",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:8080/ready z",
        "http://127.0.0.1:8080/ready\nz",
        "http://exämple.org/",
        "",
    ],
)
def test_what_is_no_url_is_2(url: str, capsys: Capture) -> None:
    """Nothing is asked; the line says what a URL looks like."""
    assert run(["healthcheck", url]) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.count("\n") == 1
    assert "expected a URL such as http://127.0.0.1:8080/readyz" in error


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf"])
def test_a_timeout_that_cannot_be_is_2(timeout: str, service: Service, capsys: Capture) -> None:
    """Before anything is asked."""
    assert run(["healthcheck", service.url, f"--timeout={timeout}"]) == 2
    assert "expected seconds, more than 0" in capsys.readouterr().err
    assert service.asked == []
