"""The webhook over real sockets: what is tried again, how long that takes, and that no secret gets out."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import subprocess
import sys
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, NoReturn

import aiohttp
import anyio
import msgspec
import pytest
import stamina
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from stamina.instrumentation import LoggingOnRetryHook, StructlogOnRetryHook, set_on_retry_hooks
from structlog.testing import capture_logs

from asyncmem import MemoryConfig, MemoryRuntime
from asyncmem.alerts import AlertManager
from asyncmem.alerts.sinks.webhook import WebhookSink, WebhookStatistics
from asyncmem.errors import AlertDeliveryError, ConfigError
from asyncmem.events import AlertLevel, MemoryAlert

pytestmark = pytest.mark.anyio

Alerts = Callable[..., MemoryAlert]
Serving = Callable[[AlertManager], AbstractAsyncContextManager[None]]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

HIDDEN = "XhiddenX"
PATH = f"/services/{HIDDEN}"
ATTEMPTS = 20
"""More than any test needs: a machine that stands still makes an attempt late, and no test fail."""


@pytest.fixture
def anyio_backend() -> str:
    """The one that aiohttp runs on."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_backoff() -> Iterator[None]:
    """Attempts follow each other at once, and the test has a bounded time."""
    with stamina.set_testing(True, attempts=ATTEMPTS, cap=True):
        yield
    set_on_retry_hooks(None)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts as they would be; none is waited."""
    stamina.set_testing(False)
    told: list[float] = []

    async def sleep(seconds: float) -> None:
        told.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr("stamina._core._smart_sleep", sleep)
    return told


def status(code: int, text: str = "", **headers: str) -> Answer:
    """Answers with a status."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            status=code, text=text, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    return answer


async def hang(_request: web.Request) -> web.StreamResponse:
    """Never answers; ends with its client."""
    await asyncio.Event().wait()
    raise AssertionError


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Closes the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class Receiver:
    """An endpoint that gives its answers one after the other, and the last one for ever."""

    def __init__(self, answers: tuple[Answer, ...]) -> None:
        self.url = ""
        self.requests: list[web.Request] = []
        self.bodies: list[dict[str, Any]] = []
        self.asked = asyncio.Event()
        self._answers = list(answers) or [status(200)]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Keep what came, and answer."""
        self.requests.append(request)
        self.bodies.append(json.loads(await request.read()))
        self.asked.set()
        return await (self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])(request)


@asynccontextmanager
async def receiving(*answers: Answer) -> AsyncGenerator[Receiver]:
    """A server on a port of its own, without a log of its requests: it would show their secrets."""
    receiver = Receiver(answers)
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    with anyio.fail_after(100):
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}"
            yield receiver
        finally:
            await runner.cleanup()


def webhook(url: str, **options: Any) -> WebhookSink:
    """A sink with so much time that a machine which stands still for a while makes no difference."""
    return WebhookSink(url, **{"timeout": 60, "deadline": 600} | options)


async def failure(sink: WebhookSink, alert: MemoryAlert) -> str:
    """Why an alert is given up; the same is in the statistics."""
    with pytest.raises(AlertDeliveryError) as failed:
        await sink(alert)
    last_error = sink.statistics().last_error
    assert last_error is not None
    assert last_error in str(failed.value)
    return last_error


# -- delivering -----------------------------------------------------------------------------------------------------


async def test_an_alert_is_posted_as_slack_wants_it(alert: Alerts) -> None:
    """JSON by POST, with the host as name; nothing else is needed than the URL."""
    async with receiving() as receiver:
        sink = webhook(receiver.url)
        await sink(alert("nearly full", AlertLevel.CRITICAL))
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", PATH)
    assert request.content_type == "application/json"
    assert request.headers["User-Agent"] == "asyncmem"
    assert request.content_length == len(json.dumps(receiver.bodies[0], separators=(",", ":")))
    assert receiver.bodies[0]["text"] == "*CRITICAL* nearly full"
    assert sink.statistics() == WebhookStatistics(sent=1, retried=0, failed=0, last_error=None)
    assert repr(sink) == "WebhookSink(127.0.0.1)"


async def test_a_body_and_headers_of_ones_own(alert: Alerts) -> None:
    """All of the alert as JSON is one function; headers replace the default ones whatever their case."""
    told = alert()
    headers = {"Authorization": f"Bearer {HIDDEN}", "content-type": "application/vnd.alert+json"}
    async with receiving(status(202)) as receiver:
        await webhook(receiver.url, body=MemoryAlert.as_dict, headers=headers)(told)
    assert receiver.bodies == [told.as_dict()]
    assert receiver.requests[0].headers["Authorization"] == f"Bearer {HIDDEN}"
    assert receiver.requests[0].headers.getall("Content-Type") == ["application/vnd.alert+json"]


async def test_credentials_in_the_url_are_sent(alert: Alerts) -> None:
    """As basic authentication, and the query with them."""
    async with receiving() as receiver:
        url = receiver.url.replace("http://", f"http://user:{HIDDEN}@") + f"?token={HIDDEN}"
        await webhook(url)(alert())
    assert receiver.requests[0].headers["Authorization"] == aiohttp.encode_basic_auth("user", HIDDEN)
    assert receiver.requests[0].query["token"] == HIDDEN


@pytest.mark.parametrize("message", ["Speicher läuft voll 🔥 内存不足 \u202e", "x" * 5_000_000, "a\0b\r\nc"])
async def test_any_text_arrives(alert: Alerts, message: str) -> None:
    """Whatever the language, and however long."""
    async with receiving() as receiver:
        await webhook(receiver.url, body=MemoryAlert.as_dict)(alert(message))
    assert receiver.bodies[0]["message"] == message


async def test_text_that_is_no_unicode_arrives_with_marks(alert: Alerts) -> None:
    """As the name of a control group that is not UTF-8."""
    async with receiving() as receiver:
        await webhook(receiver.url, body=MemoryAlert.as_dict)(alert(b"/cgroup/\xff".decode(errors="surrogateescape")))
    assert receiver.bodies[0]["message"] == "/cgroup/?"


async def test_a_session_of_ones_own_is_used_and_left_open(alert: Alerts) -> None:
    """With its headers, and without its raising for a status."""
    async with (
        receiving(status(503), status(200)) as receiver,
        aiohttp.ClientSession(headers={"X-From": "session"}, raise_for_status=True) as session,
    ):
        await webhook(receiver.url, session=session)(alert())
        assert not session.closed
    assert [request.headers["X-From"] for request in receiver.requests] == ["session", "session"]


# -- trying again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [status(503), status(500), status(429), status(599), hang_up])
async def test_what_may_pass_is_tried_again(alert: Alerts, first: Answer) -> None:
    """A server that is overloaded, broken or gone for a moment gets the same again."""
    async with receiving(first, first, status(200)) as receiver:
        sink = webhook(receiver.url)
        await sink(alert())
    assert len(receiver.bodies) == 3
    assert receiver.bodies[0] == receiver.bodies[2]
    assert sink.statistics() == WebhookStatistics(sent=1, retried=2, failed=0, last_error=None)


async def test_an_answer_that_does_not_come_is_tried_again(alert: Alerts) -> None:
    """An attempt ends by itself, and the next one may do better."""
    async with receiving(hang, status(200)) as receiver:
        sink = webhook(receiver.url, timeout=0.5, attempts=ATTEMPTS)
        await sink(alert())
    assert sink.statistics().sent == 1
    assert sink.statistics().retried >= 1


@pytest.mark.parametrize("code", [400, 401, 403, 404, 408, 410, 413, 422])
async def test_what_will_not_pass_is_not_tried_again(alert: Alerts, code: int) -> None:
    """The alert is at fault, or the URL."""
    async with receiving(status(code), status(200)) as receiver:
        sink = webhook(receiver.url)
        assert await failure(sink, alert()) == f"it answered {code} (attempt 1 of 5)"
    assert len(receiver.requests) == 1
    assert (sink.statistics().sent, sink.statistics().failed) == (0, 1)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(alert: Alerts, code: int) -> None:
    """An alert, and the credentials with it, go to whom they were meant for."""
    async with receiving() as elsewhere, receiving(status(code, Location=elsewhere.url)) as receiver:
        problem = await failure(webhook(receiver.url), alert())
    assert problem == f"it answered {code}, and redirects are not followed (attempt 1 of 5)"
    assert (len(receiver.requests), len(elsewhere.requests)) == (1, 0)


async def test_attempts_are_bounded(alert: Alerts) -> None:
    """The error says what came last, and of how many."""
    async with receiving(status(503)) as receiver:
        sink = webhook(receiver.url, attempts=3)
        assert await failure(sink, alert()) == "it answered 503 (attempt 3 of 3)"
    assert len(receiver.requests) == 3
    assert sink.statistics().retried == 2


async def test_nobody_there_is_tried_again(alert: Alerts, unused_tcp_port: int) -> None:
    """A refused connection, told by the system's word for it."""
    sink = webhook(f"http://127.0.0.1:{unused_tcp_port}{PATH}", attempts=2)
    assert await failure(sink, alert()) == "ClientConnectorError: Connection refused (attempt 2 of 2)"


class Impostor(aiohttp.BaseConnector):
    """Finds somebody else's certificate wherever it connects."""

    async def _create_connection(self, req: aiohttp.ClientRequest, *_: object) -> NoReturn:
        wrong = ssl.SSLCertVerificationError(1, f"certificate verify failed for {HIDDEN}")
        wrong.verify_message = "certificate has expired"
        raise aiohttp.ClientConnectorCertificateError(req.connection_key, wrong)


async def test_a_wrong_certificate_is_not_tried_again(alert: Alerts) -> None:
    """It will be as wrong the next time; OpenSSL's word for it is told."""
    async with aiohttp.ClientSession(connector=Impostor()) as session:
        sink = WebhookSink(f"https://example.org{PATH}", session=session)
        problem = await failure(sink, alert())
    assert problem == "ClientConnectorCertificateError: certificate has expired (attempt 1 of 5)"


async def test_a_session_that_was_closed_is_named(alert: Alerts) -> None:
    """Its owner closed it too early."""
    async with aiohttp.ClientSession() as session:
        sink = WebhookSink("https://example.org/", session=session)
    assert "the session that it was given is closed" in await failure(sink, alert())


async def test_whoever_switches_retries_off_has_none(alert: Alerts) -> None:
    """Stamina's own switch is for a whole program."""
    stamina.set_active(False)
    try:
        async with receiving(status(503), status(200)) as receiver:
            assert await failure(webhook(receiver.url), alert()) == "it answered 503 (attempt 1 of 5)"
    finally:
        stamina.set_active(True)


# -- how long it takes ----------------------------------------------------------------------------------------------


async def test_the_time_between_attempts_grows(alert: Alerts, waits: list[float]) -> None:
    """Doubled each time from half a second to eight, and up to half a second of chance."""
    async with receiving(status(503)) as receiver:
        await failure(webhook(receiver.url, attempts=7), alert())
    assert len(waits) == 6
    for wait, least in zip(waits, [0.5, 1, 2, 4, 8, 8], strict=True):
        assert least <= wait <= min(8, least + 0.5)


@pytest.mark.parametrize("code", [429, 503])
async def test_a_server_says_when_to_come_back(alert: Alerts, waits: list[float], code: int) -> None:
    """``Retry-After`` in seconds stands for the usual wait."""
    async with receiving(status(code, Retry_After="7"), status(200)) as receiver:
        await webhook(receiver.url)(alert())
    assert waits == [7.0]


async def test_a_server_says_when_to_come_back_by_date(alert: Alerts, waits: list[float]) -> None:
    """``Retry-After`` may be a date, also one that has passed."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    async with receiving(status(429, Retry_After=past), status(429, Retry_After=soon), status(200)) as receiver:
        await webhook(receiver.url)(alert())
    assert 0.5 <= waits[0] <= 1.0
    assert 0.5 <= waits[1] <= 20


@pytest.mark.parametrize("text", ["soon", "", "-5", "nan", "inf", "1e3", "Mon, 99 Foo 2026 99:99:99 GMT", "0", "0.1"])
async def test_a_retry_after_that_says_nothing_is_passed_over(alert: Alerts, waits: list[float], text: str) -> None:
    """The usual wait is kept, also where less is asked."""
    async with receiving(status(429, Retry_After=text), status(200)) as receiver:
        await webhook(receiver.url)(alert())
    assert 0.5 <= waits[0] <= 1.0


@pytest.mark.parametrize("text", ["3600", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_nobody_waits_for_long(alert: Alerts, waits: list[float], text: str) -> None:
    """Where the server asks for more time than there is, the alert is given up at once."""
    async with receiving(status(429, Retry_After=text), status(200)) as receiver:
        problem = await failure(webhook(receiver.url), alert())
    assert problem.startswith("it answered 429 and asked to wait ")
    assert waits == []
    assert len(receiver.requests) == 1


async def test_all_of_it_has_an_end(alert: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline cuts whatever is going on, here a wait between attempts."""
    stamina.set_testing(False)
    monkeypatch.setattr("stamina._core._smart_sleep", lambda _seconds: anyio.sleep_forever())
    async with receiving(status(503)) as receiver:
        assert "cut off after 0.5 s" in await failure(webhook(receiver.url, deadline=0.5), alert())


async def test_the_manager_waits_for_as_long_as_it_takes(manager: AlertManager) -> None:
    """Added without a timeout, the sink ends a delivery before the manager does; one that is given counts."""
    sink = WebhookSink("https://example.org/", deadline=40)
    with manager.add_handler(sink):
        (handler,) = manager._handlers._handlers
        assert handler._timeout == sink.handler_timeout == 45
    with manager.add_handler(sink, timeout=3):
        (handler,) = manager._handlers._handlers
        assert handler._timeout == 3


# -- beside an application ------------------------------------------------------------------------------------------


async def test_a_full_queue_drops_the_oldest(manager: AlertManager, alert: Alerts, serving: Serving) -> None:
    """While the endpoint is slow the newest wait; the others are counted."""
    answered = asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        await answered.wait()
        return web.Response()

    async with receiving(slow, status(200)) as receiver:
        manager.add_handler(webhook(receiver.url, timeout=60, deadline=60, body=MemoryAlert.as_dict), max_queue=2)
        async with serving(manager):
            manager.emit(alert("0"))
            await receiver.asked.wait()
            for number in range(1, 6):
                manager.emit(alert(f"{number}"))
            assert manager.statistics().dropped == 3
            answered.set()
            assert await manager.drain(30)
    assert [body["message"] for body in receiver.bodies] == ["0", "4", "5"]
    assert manager.statistics().delivered == 3


async def test_a_failure_is_counted_and_the_next_alert_sent(
    manager: AlertManager, alert: Alerts, serving: Serving
) -> None:
    """One endpoint's trouble is one handler's error."""
    async with receiving(status(404), status(200)) as receiver:
        sink = webhook(receiver.url)
        manager.add_handler(sink)
        with capture_logs() as logs:
            async with serving(manager):
                manager.emit(alert("lost"))
                manager.emit(alert("told"))
                assert await manager.drain(30)
    assert sink.statistics() == WebhookStatistics(
        sent=1, retried=0, failed=1, last_error="it answered 404 (attempt 1 of 5)"
    )
    assert manager.statistics().handler_errors == 1
    (entry,) = logs
    assert entry["handler"] == "WebhookSink(127.0.0.1)"


async def test_an_application_stops_while_the_endpoint_hangs(alert: Alerts) -> None:
    """Not after the attempt's ten minutes; the alert counts as failed."""
    async with receiving(hang) as receiver:
        sink = webhook(receiver.url, timeout=600, deadline=600)
        with anyio.fail_after(30):
            async with MemoryRuntime(MemoryConfig(limit="64GiB", monitoring=False, log_alerts=False)) as memory:
                memory.alerts.add_handler(sink)
                memory.alerts.emit(alert())
                await receiver.asked.wait()
    assert sink.statistics().failed == 1
    assert sink.statistics().last_error == "it was cancelled before there was an answer"


async def test_one_sink_may_serve_several_at_once(alert: Alerts) -> None:
    """It has no state but its counts."""
    async with receiving() as receiver:
        sink = webhook(receiver.url)
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(sink, alert(f"{number}"))
    assert sink.statistics().sent == len(receiver.requests) == 8


async def test_an_error_of_the_bodys_own_is_told(alert: Alerts) -> None:
    """It is the user's function, so the user gets its error; nothing is sent."""

    def broken(_alert: MemoryAlert) -> dict[str, object]:
        raise KeyError("shape")

    sink = WebhookSink("https://example.org/", body=broken)
    with pytest.raises(KeyError, match="shape"):
        await sink(alert())
    assert sink.statistics().last_error == "no JSON could be made of it: KeyError"
    unready = WebhookSink("https://example.org/", body=lambda _alert: {"socket": object()})
    with pytest.raises(TypeError):
        await unready(alert())
    assert unready.statistics().failed == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 2.5},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"deadline": -1},
        {"deadline": float("nan")},
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    """When it is made."""
    with pytest.raises(ConfigError, match="expected"):
        WebhookSink("https://example.org/", **wrong)


def test_on_trio_it_says_why_not(alert: Alerts) -> None:
    """A clear error, and no hang or riddle."""
    with pytest.raises(RuntimeError, match="runs on asyncio only"):
        anyio.run(WebhookSink("https://example.org/"), alert(), backend="trio")


@pytest.mark.parametrize(
    ("module", "lacking", "extra"),
    [
        ("webhook", "aiohttp", "webhook"),
        ("webhook", "stamina", "webhook"),
        ("otel", "opentelemetry", "otel"),
    ],
)
def test_a_missing_extra_is_named(module: str, lacking: str, extra: str) -> None:
    """And what needs no extra works without it."""
    program = f"""
import sys
sys.modules["{lacking}"] = None
import asyncmem
from asyncmem.alerts.sinks import structlog_sink
try:
    import asyncmem.alerts.sinks.{module}
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"needs {lacking}" in done.stdout
    assert f"pip install 'asyncmem[{extra}]'" in done.stdout


# -- secrets --------------------------------------------------------------------------------------------------------


class NoSuchHost(AbstractResolver):
    """A name server that knows nobody, and says so with all that it was asked."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:  # noqa: ARG002
        """Fail."""
        raise OSError(-2, f"no address for {host}, asked for {HIDDEN}")

    async def close(self) -> None:
        """Nothing is open."""


@asynccontextmanager
async def talking(reply: bytes) -> AsyncGenerator[str]:
    """A server that speaks no HTTP; gives its URL."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}"


ANSWERS: dict[str, Answer] = {
    "refused for good": status(404, f"Cannot POST {PATH}"),
    "refused for now": status(503, PATH, Retry_After="0"),
    "asked to wait": status(429, PATH, Retry_After="3600"),
    "sent elsewhere": status(302, Location=f"https://example.org{PATH}"),
    "hung up on": hang_up,
    "left alone": hang,
}
TROUBLES = [*ANSWERS, "not http", "not tls", "no address", "nobody there", "closed session", "cut off"]


async def _sink_in_trouble(trouble: str, stack: AsyncExitStack, port: int, **options: Any) -> WebhookSink:
    if trouble in ANSWERS:
        receiver = await stack.enter_async_context(receiving(ANSWERS[trouble]))
        url = receiver.url
        options |= {"timeout": 0.2} if trouble == "left alone" else {}
    else:
        url = f"http://127.0.0.1:{port}{PATH}"
    match trouble:
        case "not http":
            url = await stack.enter_async_context(talking(f"no {PATH}\r\n\r\n".encode()))
        case "not tls":
            url = (await stack.enter_async_context(talking(b"no\r\n\r\n"))).replace("http:", "https:")
        case "no address":
            connector = aiohttp.TCPConnector(resolver=NoSuchHost())
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            url, options["session"] = f"https://hooks.example.org{PATH}", session
        case "closed session":
            options["session"] = aiohttp.ClientSession()
            await options["session"].close()
        case "cut off":
            receiver = await stack.enter_async_context(receiving(hang))
            url, options["deadline"] = receiver.url, 0.2
        case _:
            pass
    scheme, rest = url.split("://")
    return WebhookSink(f"{scheme}://user{HIDDEN}:pass{HIDDEN}@{rest}?token={HIDDEN}", **options)


def _all_that_shows(error: BaseException) -> str:
    """An error with all that is chained to it, and the locals of the library's own frames."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [f"{frame.name} {frame.locals}" for frame in told.stack if not frame.filename.startswith(__file__)]
    chain = [repr(each) for each in (error.__cause__, error.__context__) if each is not None]
    return "\n".join([str(error), repr(error), repr(vars(error)), *traceback.format_exception(error), *frames, *chain])


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_no_secret_gets_out(
    trouble: str,
    alert: Alerts,
    unused_tcp_port: int,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whatever the trouble is, and whatever the server sends.

    Not by logs (asyncmem's, stamina's, aiohttp's, asyncio's), not by reprs and statistics, not by errors, what is
    chained to them, or the variables of the frames that they came through.
    """
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    asyncio.get_running_loop().slow_callback_duration = (
        600  # it would show the tasks of the server, which knows the URL
    )
    causes: list[Exception] = []
    set_on_retry_hooks([StructlogOnRetryHook, LoggingOnRetryHook, lambda details: causes.append(details.caused_by)])
    body: dict[str, object] = {"routing_key": HIDDEN}
    shown: list[object] = []
    manager = AlertManager()
    with capture_logs() as logs:
        async with AsyncExitStack() as stack:
            sink = await _sink_in_trouble(trouble, stack, unused_tcp_port, attempts=2, body=lambda _alert: body)
            with pytest.raises(AlertDeliveryError) as failed:
                await sink(alert())
            manager.add_handler(sink)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            await tasks.start(manager.run)
            manager.emit(alert())
            assert await manager.drain(30)
            tasks.cancel_scope.cancel()
    assert all(error.__cause__ is None and error.__context__ is None for error in [failed.value, *causes])
    assert sink.statistics().failed == 2
    assert any(entry["event"] == "alert_handler_trouble" for entry in logs)
    records = [repr(record.__dict__) for record in caplog.records]
    shown += [_all_that_shows(error) for error in [failed.value, *causes]]
    shown += [sink, vars(sink), sink.statistics(), manager.statistics(), logs, records]
    shown += [caplog.text, *capfd.readouterr()]
    assert HIDDEN not in repr(shown)


async def test_retries_are_logged_without_secrets(alert: Alerts) -> None:
    """Stamina tells of each as it is set up to; what it tells is what the sink would."""
    set_on_retry_hooks([StructlogOnRetryHook])
    async with receiving(status(503), status(200)) as receiver:
        with capture_logs() as logs:
            await webhook(receiver.url)(alert())
    (entry,) = logs
    assert entry["event"] == "stamina.retry_scheduled"
    assert (entry["args"], entry["kwargs"]) == ((), {})
    assert "127.0.0.1: it answered 503" in entry["caused_by"]


def test_statistics_are_a_frozen_copy() -> None:
    """What was read does not change."""
    statistics = WebhookSink("https://example.org/").statistics()
    with pytest.raises(AttributeError):
        statistics.sent = 1  # type: ignore[misc]
    assert msgspec.json.decode(msgspec.json.encode(statistics)) == {
        "sent": 0,
        "retried": 0,
        "failed": 0,
        "last_error": None,
    }
