"""``asyncmem healthcheck``: the probe of a container, without curl in the image."""

from __future__ import annotations

import http.client
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from asyncmem.errors import ConfigError

__all__ = ["healthcheck"]


def healthcheck(url: str = "http://127.0.0.1:8080/readyz", *, timeout: float = 3.0) -> int:
    """Ask a service whether it is ready; exit code 0 if so, else 1.

    For ``HEALTHCHECK`` in a Dockerfile, or as a Kubernetes exec probe.

    Args:
        url: What to ask; ``/livez`` for liveness.
        timeout: Seconds to wait for the answer.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ConfigError(f"healthcheck: got {url!r}; expected a URL such as http://127.0.0.1:8080/readyz")
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:  # noqa: S310 - the scheme was checked
            print(f"ok: {url} answered {response.status}")  # noqa: T201 - the command's result
            return 0
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(200).decode(errors="replace").strip()
        print(f"not ready: {url} answered {error.code} {body}", file=sys.stderr)  # noqa: T201 - as above
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        print(f"not reachable: {url} ({reason})", file=sys.stderr)  # noqa: T201 - as above
    return 1
