"""A clean environment, and a service to ask."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import pytest

_DECIDING: Final = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting and no wish about colours or width comes from outside."""
    for variable in os.environ:
        if variable.startswith("ASYNCMEM_") or variable.lower().endswith("_proxy") or variable in _DECIDING:
            monkeypatch.delenv(variable)


class Service:
    """A server whose readiness is set by hand."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b'{"status": "ok"}'
        self.asked: list[str] = []
        self.stalls = False
        """Whether the body never comes."""
        self.go_on = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked.append(self.path)
                self.send_response(service.status)
                self.send_header("Content-Length", str(len(service.body)))
                self.end_headers()
                if service.stalls:
                    service.go_on.wait()
                else:
                    self.wfile.write(service.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/readyz"


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that is ready."""
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield service
    service.go_on.set()
    service.server.shutdown()
    thread.join()
    service.server.server_close()
