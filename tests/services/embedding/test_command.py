from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

MODULE = [sys.executable, "-m", "asyncmem_services.embedding"]
Cgroup = Any  # tests/conftest.py: MemoryCgroup


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run([*MODULE, *arguments], capture_output=True, text=True, timeout=60, check=False)


def lines_until(process: subprocess.Popen[str], pattern: str) -> list[str]:
    """What a process writes to stdout, up to the line that fits a pattern."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return lines
    raise AssertionError(f"the process ended after {lines}")


def get(address: str, path: str) -> tuple[int, dict[str, Any]]:
    """Ask once, without a client's patience."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are killed when the test ends."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        with process:
            process.kill()


def start(processes: list[subprocess.Popen[str]], *arguments: str) -> subprocess.Popen[str]:
    """Start the service on a free port."""
    command = [*MODULE, "--port", "0", "--log-format", "json", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    processes.append(process)
    return process


def listening_on(process: subprocess.Popen[str]) -> str:
    """The address, from the log, before the model is loaded."""
    assert process.stderr is not None
    for line in process.stderr:
        event = json.loads(line)
        if event["event"] == "embedding.listening":
            return str(event["url"]).removeprefix("http://")
    raise AssertionError("the process ended before it listened")


def test_the_service_as_people_run_it(started: list[subprocess.Popen[str]]) -> None:
    """It is alive at once, ready later, prints a command that works as printed, and ends with 0 on SIGTERM."""
    process = start(started, "--limit", "16GiB")
    address = listening_on(process)
    assert get(address, "/livez") == (200, {"status": "ok"})
    status, body = get(address, "/readyz")
    # That the model comes later is in the log; a test that stands still meanwhile finds it there.
    assert (status, body["status"]) in {(503, "unavailable"), (200, "ok")}
    lines = lines_until(process, r"^  curl ")
    assert lines[0] == f"ready: http://{address} serves all-MiniLM-L6-v2 (384 dimensions)\n"
    assert lines[1].startswith("memory limit: 16 GiB, from ")
    assert get(address, "/readyz") == (200, {"status": "ok"})

    answer = subprocess.run(shlex.split(lines[-1]), capture_output=True, check=True, timeout=30).stdout
    assert len(json.loads(answer)["data"][0]["embedding"]) == 384
    with openai.OpenAI(base_url=f"http://{address}/v1", api_key="none") as api:
        created = api.embeddings.create(model="all-MiniLM-L6-v2", input=["hello", "world"])
    assert [len(item.embedding) for item in created.data] == [384, 384]

    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output == ""
    events = [json.loads(line)["event"] for line in errors.splitlines()]  # nothing but events clutters the log
    assert "embedding.model_load_done" in events
    own = [event for event in events if event.startswith("embedding.")]  # alerts that are resolved come among them
    assert own[-2:] == ["embedding.stopping", "embedding.stopped"]
    assert "Traceback" not in errors


def test_interrupted_while_it_loads(started: list[subprocess.Popen[str]]) -> None:
    """Ctrl-C before it is ready ends it with 0 and without a traceback."""
    process = start(started)
    listening_on(process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0
    assert output == "" or output.startswith("ready: "), "nothing, unless this test stood still until it was ready"
    assert "Traceback" not in errors


def test_taken_port() -> None:
    """A port that is taken is told at once, with exit code 4, before anything is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--port", str(port))
    assert result.returncode == 4
    assert result.stderr == (
        f"asyncmem serve: cannot listen on 127.0.0.1 port {port}: address already in use; see --host and --port\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "FOLDER"], 3, "holds no model (found nothing); expected modules.json or config.json"),
        (["--model", "./no/such/folder"], 3, "nothing exists at './no/such/folder'"),
        (["--limit", "lots"], 2, "limit: got 'lots'"),
        (["--batch-size", "0"], 2, "batch_size: got 0; expected a whole number"),
        (["--port", "70000"], 2, "port: got 70000; expected 0 to 65535"),
        (["--port", "http"], 2, '"http"'),
        (["--log-format", "xml"], 2, '"xml"'),
        (["--frobnicate"], 2, "--frobnicate"),
        (["--host", "256.0.0.1"], 4, "cannot listen on 256.0.0.1 port 8080"),
    ],
)
def test_wrong_arguments_give_one_clear_line(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    """Each kind of mistake has its exit code and one line that says what was wrong."""
    result = run(*[str(tmp_path) if argument == "FOLDER" else argument for argument in arguments])
    assert result.returncode == code
    assert result.stdout == ""
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_help_names_the_exit_codes() -> None:
    """Whoever reads --help learns what the exit codes mean."""
    result = run("--help")
    assert result.returncode == 0
    assert "3 not a model" in " ".join(result.stdout.split())


def test_setting_from_the_environment_is_checked_too() -> None:
    """A wrong variable is told like a wrong argument."""
    environment = os.environ | {"ASYNCMEM_LIMIT": "-1"}
    result = subprocess.run(MODULE, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert result.returncode == 2
    assert "ASYNCMEM_LIMIT" in result.stderr


def test_a_model_that_cannot_fit_is_refused_and_not_killed_for(memory_cgroup: Cgroup) -> None:
    """In a container that is too small the process stays up and says what is missing."""
    memory_cgroup.limit = 256 * 2**20
    process = memory_cgroup.popen(
        [*MODULE, "--port", "0", "--log-format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    address = listening_on(process)
    deadline = time.monotonic() + 120
    while "no memory" not in (reason := get(address, "/readyz")[1].get("reason", "")):
        assert time.monotonic() < deadline, reason
        time.sleep(0.05)
    assert "320 MiB" in reason
    assert memory_cgroup.oom_kills == 0
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
