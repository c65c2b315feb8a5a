"""The sink that posts alerts to an HTTP endpoint, Slack's or any that takes JSON, and tries again where that may help.

It needs an extra (``pip install 'asyncmem[webhook]'``) and asyncio: aiohttp runs on nothing else.

What is tried again: no connection, no answer in time, 429 and 5xx. A ``Retry-After`` is kept to where it leaves time
for another attempt; else the alert is given up at once, because those behind it are newer. Other answers are final,
redirects too: an alert goes where it was sent, or nowhere. An attempt without an answer may have arrived, so a receiver
can see an alert twice; by fingerprint and state it knows them again.

One alert takes at most ``deadline`` seconds. The queue is the manager's: alerts wait in the handler's own bounded
buffer, in order, and the oldest are dropped and counted when it is full.

The URL is a secret, as are headers and body: they are in no log, repr, error or statistic of this module. So an error
is told by its class and number: aiohttp writes URLs into texts, and a server may send one back in its answer. That is
also why errors are made anew here and outside of ``except``: a chained one would bring the original along.

Messages are made by `asyncmem.alerts.sinks.slack` or by a function of one's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, NamedTuple

import anyio
import msgspec

from asyncmem.alerts.sinks.slack import slack_message
from asyncmem.errors import AlertDeliveryError, ConfigError
from asyncmem.events import MemoryAlert

try:
    import aiohttp
    import stamina
except ModuleNotFoundError as missing:
    package = (missing.name or "").partition(".")[0]
    if package not in {"aiohttp", "stamina"}:
        raise
    raise ImportError(
        f"asyncmem.alerts.sinks.webhook needs {package}; install it with: pip install 'asyncmem[webhook]'",
        name=missing.name,
    ) from missing

from asyncmem.alerts.sinks.endpoint import Endpoint, Secret

__all__ = ["WebhookSink", "WebhookStatistics"]

_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "asyncmem"}
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 8.0
_JITTER: Final = 0.5
"""Seconds between attempts: the first, at most (each is twice the one before), and what chance adds to them."""
_MARGIN: Final = 5.0
"""Seconds that the manager waits beyond the deadline: so the sink itself ends each delivery, and can say why."""
_SECONDS: Final = re.compile(r"\d+(\.\d+)?")


class WebhookStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a webhook's alerts.

    Args:
        sent: Alerts that the endpoint has taken.
        retried: Attempts after the first of an alert.
        failed: Alerts that were given up.
        last_error: Why the last one was given up; without secrets. None where none was.
    """

    sent: int
    retried: int
    failed: int
    last_error: str | None


class _Failure(NamedTuple):
    """Why an attempt came to nothing."""

    problem: str
    again: bool = False
    """Whether another attempt may do better."""
    retry_after: float | None = None
    """Seconds that the server asks to wait before that."""


class _AttemptFailedError(Exception):
    """An attempt that failed, as stamina and its hooks see it; by default they log it."""

    def __init__(self, name: str, failure: _Failure) -> None:
        super().__init__(f"{name}: {failure.problem}")
        self.failure = failure


class WebhookSink:
    """A handler that posts each alert as JSON to a URL; give it to `AlertManager.add_handler`.

    ::

        memory.alerts.add_handler(WebhookSink(os.environ["SLACK_WEBHOOK_URL"]), levels=["warning", "critical"])

    It tells the manager how long it may take (`handler_timeout`), so that needs no ``timeout`` there. There is nothing
    to open or to close: alerts are few, and each attempt has a connection of its own unless a session is given.

    Args:
        url: Where to post; a secret.
        body: Makes the JSON object to post from an alert. `slack_message` is Slack's; `MemoryAlert.as_dict` is all of
            the alert; others are a function like these.
        headers: Header fields to send beside ``Content-Type``; secrets, too.
        timeout: Seconds that one attempt may take.
        deadline: Seconds that one alert may take, with all attempts and the time between them.
        attempts: How often one alert is tried at most.
        session: The client session to use, for a proxy or certificates of one's own; its owner closes it, after the
            alerts have ended. None for a new one per attempt, which ignores proxies that the environment names.
        name: What errors and reprs call this endpoint; None for the URL's host.
        allow_http: Send in the clear, also to other machines.

    Raises:
        ConfigError: A URL that cannot be, is ``http`` to another machine, or an argument out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        body: Callable[[MemoryAlert], Mapping[str, object]] = slack_message,
        headers: Mapping[str, str] | None = None,
        timeout: float = 5.0,
        deadline: float = 30.0,
        attempts: int = 5,
        session: aiohttp.ClientSession | None = None,
        name: str | None = None,
        allow_http: bool = False,
    ) -> None:
        for argument, seconds in (("timeout", timeout), ("deadline", deadline)):
            if not 0 < seconds < math.inf:
                raise ConfigError(f"{argument}={seconds!r} is no time for a webhook; expected seconds above 0")
        if type(attempts) is not int or attempts < 1:
            raise ConfigError(f"attempts={attempts!r} tries nothing; expected a whole number from 1")
        self._endpoint = Endpoint.read(url, _with_defaults(headers or {}), allow_http=allow_http)
        self._body = body
        self._timeout = min(float(timeout), float(deadline))
        self._deadline = float(deadline)
        self._attempts = attempts
        self._session = session
        self._name = self._endpoint.host if name is None else name
        self._sent = 0
        self._retried = 0
        self._failed = 0
        self._last_error: str | None = None

    def __repr__(self) -> str:
        return f"WebhookSink({self._name})"

    @property
    def handler_timeout(self) -> float:
        """Seconds that the alert manager should let one call take: a little more than the deadline."""
        return self._deadline + _MARGIN

    def statistics(self) -> WebhookStatistics:
        """What became of the alerts so far."""
        return WebhookStatistics(
            sent=self._sent, retried=self._retried, failed=self._failed, last_error=self._last_error
        )

    async def __call__(self, alert: MemoryAlert) -> None:
        """Deliver one alert.

        Raises:
            AlertDeliveryError: It was given up.
            RuntimeError: This is not asyncio.
            Exception: Whatever the function `body` raises.
        """
        if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
            raise RuntimeError(f"{self!r} runs on asyncio only, for aiohttp does; on trio, write a handler with httpx")
        try:
            content = Secret(_encoded(self._body(alert)))
        except Exception as error:
            self._count(f"no JSON could be made of it: {type(error).__name__}")
            raise
        problem: str | None = "it was cancelled before there was an answer"
        try:
            problem = await self._deliver(content)
        finally:
            self._count(problem)
        if problem is not None:
            raise AlertDeliveryError(f"the alert {alert.fingerprint} was not delivered to {self._name}: {problem}")

    def _count(self, problem: str | None) -> None:
        if problem is None:
            self._sent += 1
        else:
            self._failed += 1
            self._last_error = problem

    async def _deliver(self, content: Secret[bytes]) -> str | None:
        """Try until it is taken or given up; returns why it was given up."""
        failure, tries = _Failure("there was no answer"), 0
        with anyio.move_on_after(self._deadline) as scope:

            def judge(error: Exception) -> bool | float:
                return _next_wait(error, scope.deadline - anyio.current_time())

            with contextlib.suppress(_AttemptFailedError):
                async for attempt in stamina.retry_context(
                    on=judge,
                    attempts=self._attempts,
                    timeout=None,  # the scope's business: stamina would begin a wait that ends after it
                    wait_initial=_FIRST_WAIT,
                    wait_max=_LONGEST_WAIT,
                    wait_jitter=_JITTER,
                ):
                    with attempt:
                        tries += 1
                        self._retried += tries > 1
                        outcome = await self._attempt(content)
                        if outcome is None:
                            return None
                        failure = outcome
                        raise _AttemptFailedError(self._name, failure)
        asked = "" if failure.retry_after is None else f" and asked to wait {failure.retry_after:g} s"
        late = f", cut off after {self._deadline:g} s" if scope.cancelled_caught else ""
        return f"{failure.problem}{asked} (attempt {tries} of {self._attempts}{late})"

    async def _attempt(self, content: Secret[bytes]) -> _Failure | None:
        """Post once. Raises nothing but what cancels it: the frames of an error here would hold the URL."""
        if self._session is not None and self._session.closed:
            return _Failure("the session that it was given is closed")
        try:
            async with (
                self._open_session() as session,
                session.post(
                    self._endpoint.url.reveal(),
                    data=io.BytesIO(content.reveal()),  # of plain bytes aiohttp complains where they are many
                    headers=self._endpoint.headers.reveal(),
                    timeout=aiohttp.ClientTimeout(total=self._timeout),
                    allow_redirects=False,
                    raise_for_status=False,
                ) as response,
            ):
                # The answer's body stays unread: it may be long, or never end, or quote the URL.
                return _judged(response.status, response.headers.get("Retry-After"))
        except TimeoutError:
            return _Failure(f"no answer within {self._timeout:g} s", again=True)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch) as error:
            return _Failure(_told(error))  # somebody else answers, and will the next time
        except (aiohttp.ClientConnectionError, OSError) as error:
            return _Failure(_told(error), again=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may have the URL
            return _Failure(_told(error))

    def _open_session(self) -> AbstractAsyncContextManager[aiohttp.ClientSession]:
        return aiohttp.ClientSession() if self._session is None else contextlib.nullcontext(self._session)


def _encoded(body: Mapping[str, object]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        # Lone surrogates, as in the name of a file that is not UTF-8: question marks are better than no alert.
        return json.dumps(msgspec.to_builtins(body), ensure_ascii=False).encode("utf-8", "replace")


def _with_defaults(headers: Mapping[str, str]) -> dict[str, str]:
    given = {str(name).lower() for name in headers}
    return {name: value for name, value in _HEADERS.items() if name.lower() not in given} | dict(headers)


def _judged(status: int, retry_after: str | None) -> _Failure | None:
    """What an answer means."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _Failure(f"it answered {status}", again=True, retry_after=_seconds(retry_after))
    if status < HTTPStatus.BAD_REQUEST:
        return _Failure(f"it answered {status}, and redirects are not followed")
    return _Failure(f"it answered {status}")


def _seconds(retry_after: str | None) -> float | None:
    """What ``Retry-After`` says, a number of seconds or a date; None where it is missing or neither."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())


def _next_wait(error: Exception, remaining: float) -> bool | float:
    """What stamina asks after a failure: False to give up, seconds to wait, or True for its own backoff."""
    if not isinstance(error, _AttemptFailedError) or not error.failure.again:
        return False
    asked = error.failure.retry_after
    if asked is None or asked <= _FIRST_WAIT:
        return True
    return asked if asked < remaining else False


def _told(error: Exception) -> str:
    """An error without its text: its class, and what the system or OpenSSL says about its number."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        verdict = getattr(error.certificate_error, "verify_message", "")
    else:
        number = error.errno if isinstance(error, OSError) else None
        # Those of name servers are negative, and of another list.
        verdict = os.strerror(number) if number is not None and number > 0 else ""
    return f"{type(error).__name__}: {verdict}" if verdict else type(error).__name__
