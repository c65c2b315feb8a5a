"""``asyncmem healthcheck``: the probe of a container, without curl in the image."""

from __future__ import annotations

import http.client
import math
import sys
import urllib.error
import urllib.request
from typing import Final
from urllib.parse import urlsplit

from asyncmem.errors import ConfigError

__all__ = ["healthcheck"]

_BODY_BYTES: Final = 500
"""As much of an answer as is shown."""


def healthcheck(url: str = "http://127.0.0.1:8080/readyz", *, timeout: float = 3.0) -> int:
    """Ask a service whether it is ready; exit code 0 if so, else 1.

    For ``HEALTHCHECK`` in a Dockerfile, or as a Kubernetes exec probe. Proxies that the environment names are not
    used.

    Args:
        url: What to ask; ``/livez`` for liveness.
        timeout: Seconds to wait for the answer.
    """
    _check(url, timeout)
    # Without proxies: HTTP_PROXY of the environment is for the service's own calls, and would answer in its place.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as response:
            print(f"ok: {url} answered {response.status}")  # noqa: T201 - the command's result
            return 0
    except urllib.error.HTTPError as error:
        print(f"not ready: {url} answered {error.code} {_body(error)}".rstrip(), file=sys.stderr)  # noqa: T201 - as above
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        print(f"not reachable: {url} ({reason})", file=sys.stderr)  # noqa: T201 - as above
    return 1


def _check(url: str, timeout: float) -> None:
    """Refuse what cannot be asked.

    Raises:
        ConfigError: No URL, or no number of seconds.
    """
    try:
        parts = urlsplit(url)
        proper = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0  # port may raise
    except ValueError:
        proper = False
    if not proper or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"healthcheck: got {url!r}; expected a URL such as http://127.0.0.1:8080/readyz")
    if not (math.isfinite(timeout) and timeout > 0):
        raise ConfigError(f"healthcheck: got --timeout {timeout}; expected seconds, more than 0, for example 3")


def _body(error: urllib.error.HTTPError) -> str:
    """The answer in one line, as far as it arrives in time; a terminal shows nothing but its text."""
    try:
        with error:
            body = error.read(_BODY_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""
    return "".join(c if c.isprintable() else " " for c in body).strip()
