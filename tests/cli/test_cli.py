"""The command line as a process: what comes on stdout, what on stderr, and the exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asyncmem.units import MIB

if TYPE_CHECKING:
    from tests.conftest import MemoryCgroup

MODULE = [sys.executable, "-m", "asyncmem.cli"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, with variables added to the environment."""
    return subprocess.run(
        [*MODULE, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def in_terminal(*arguments: str, **environment: str) -> str:
    """What one command writes to a terminal that can show colours."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*MODULE, *arguments], env=os.environ | {"TERM": "xterm-256color"} | environment, stdout=theirs, stdin=theirs
    ) as process:
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 65536):
                written += chunk
        except OSError:  # how Linux says that nobody holds the other end any more
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0
    return written.decode()


def test_doctor_names_the_limit_that_is_set() -> None:
    """And says that the kernel does not enforce it."""
    done = run("doctor", ASYNCMEM_LIMIT="512MiB")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^limit +512 MiB +from the settings; the kernel does not enforce it$", done.stdout, re.MULTILINE)
    assert re.search(r"^\* 512 MiB +configured +set to 536870912$", done.stdout, re.MULTILINE)
    assert "/proc/meminfo" in done.stdout


def test_doctor_finds_the_limit_of_a_real_cgroup(memory_cgroup: MemoryCgroup) -> None:
    """With the file it was read from, as text and as JSON."""
    memory_cgroup.limit = 256 * MIB
    file = f"{memory_cgroup.path}/memory.limit_in_bytes"
    done = memory_cgroup.run([*MODULE, "doctor"])
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"^limit +256 MiB +from {re.escape(file)}$", done.stdout, re.MULTILINE)
    assert re.search(rf"^\* 256 MiB +cgroup v1 +{re.escape(file)}$", done.stdout, re.MULTILINE)

    report = json.loads(memory_cgroup.run([*MODULE, "doctor", "--json"]).stdout)
    assert (report["limit"], report["source"], report["kind"], report["enforced"]) == (256 * MIB, file, "cgroup", True)
    assert report["capacity"] == 256 * MIB - report["guard_band"] == 224 * MIB
    assert 0 < report["used"] < 100 * MIB
    assert report["free"] == report["capacity"] - report["used"]
    assert file in [bound["source"] for bound in report["bounds"]]
    [finding] = [finding for finding in report["findings"] if finding["path"] == file]
    assert (finding["outcome"], finding["value"]) == ("limit", 256 * MIB)


def test_doctor_says_which_of_two_limits_binds(memory_cgroup: MemoryCgroup) -> None:
    """The lower one that is set, though the kernel's is there too."""
    memory_cgroup.limit = 512 * MIB
    done = memory_cgroup.run([*MODULE, "doctor", "--json"], env=os.environ | {"ASYNCMEM_LIMIT": "50%"})
    report = json.loads(done.stdout)
    assert (report["limit"], report["kind"], report["enforced"]) == (256 * MIB, "configured", False)
    assert {bound["limit"] for bound in report["bounds"]} == {256 * MIB, 512 * MIB}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ASYNCMEM_LIMIT": "lots"}, "limit (ASYNCMEM_LIMIT): got 'lots'"),
        ({"ASYNCMEM_LIMT": "1GiB"}, "did you mean ASYNCMEM_LIMIT"),
        ({"ASYNCMEM_CONFIG": "/nowhere/at/all.toml"}, "'/nowhere/at/all.toml': cannot be read"),
    ],
)
@pytest.mark.parametrize("command", ["doctor", "settings"])
def test_a_wrong_setting_is_one_line_and_exit_code_2(command: str, variables: dict[str, str], said: str) -> None:
    """On stderr, without a traceback; nothing on stdout."""
    done = run(command, **variables)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("asyncmem: ")
    assert said in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], 'Unknown command "frobnicate"'),
        (["doctor", "--jsno"], "Did you mean --json?"),
        (["healthcheck", "--timeout", "soon"], 'unable to convert "soon"'),
        (["settings", "--json", "--markdown"], "Mutually exclusive"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    """In the same form as a wrong setting."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("asyncmem: ")
    assert said in line


def test_version_is_the_distributions() -> None:
    """From the script that is installed beside the interpreter."""
    script = Path(sys.executable).parent / "asyncmem"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == version("asyncmem")


def test_without_arguments_the_commands_are_listed() -> None:
    """Of both distributions, with exit code 0."""
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("doctor", "healthcheck", "settings", "serve"):
        assert re.search(rf"^│ {command} ", done.stdout, re.MULTILINE)
    assert "Commands of asyncmem-services" in done.stdout


def test_help_does_not_load_the_commands_of_others() -> None:
    """A service may import gigabytes; being listed must not."""
    program = """
import sys
from asyncmem.cli.app import run
assert run(["--help"]) == 0
loaded = [name for name in ("torch", "asyncmem_services", "aiohttp", "numpy") if name in sys.modules]
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "serve" in done.stdout


def install(site: Path, name: str, code: str, *commands: str) -> str:
    """Put a distribution with one module of its name into a directory; returns the value of PYTHONPATH for it."""
    information = site / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("\n".join(["[asyncmem.commands]", *commands]) + "\n")
    (site / f"{name}.py").write_text(code)
    return str(site)


def test_a_distribution_adds_commands_and_replaces_none(tmp_path: Path) -> None:
    """Its function's result is the exit code; a name that is taken stays whose it was."""
    code = "def hello(name: str) -> int:\n    '''Greet.'''\n    print('hello', name)\n    return 7\n"
    path = install(tmp_path, "greeter", code, "hello = greeter:hello", "doctor = greeter:hello", "gone = absent:gone")
    done = run("hello", "world", PYTHONPATH=path)
    assert (done.returncode, done.stdout, done.stderr) == (7, "hello world\n", "")
    assert run("doctor", "--json", PYTHONPATH=path).returncode == 0
    listed = run("--help", PYTHONPATH=path).stdout
    assert "Commands of greeter" in listed
    assert "gone" in listed


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_a_missing_extra_is_told(missing: str) -> None:
    """With the command that installs it, and exit code 2."""
    program = f"import sys; sys.modules[{missing!r}] = None; from asyncmem.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"asyncmem: the command line needs {missing}; install it with: pip install 'asyncmem[cli]'\n"
    )


def test_colours_are_for_terminals_that_want_them() -> None:
    """None in a pipe, and none where NO_COLOR is set."""
    green = "\x1b[32m"
    assert green in in_terminal("doctor")
    assert green not in in_terminal("doctor", NO_COLOR="1")
    assert "\x1b" not in run("doctor").stdout


def test_doctor_writes_the_same_lines_at_every_width() -> None:
    """A path is never cut nor wrapped, so that it can be copied and searched for."""
    narrow, wide = (
        [
            re.sub(r" +[\d.]+ [KMGT]?i?B", " *", line)  # the figures change by themselves
            for line in in_terminal("doctor", NO_COLOR="1", COLUMNS=width).splitlines()
        ]
        for width in ("80", "200")
    )
    assert narrow == wide


def test_settings_fit_a_narrow_terminal() -> None:
    """Eighty columns hold every variable's whole name."""
    from asyncmem.config import describe  # noqa: PLC0415 - only this test needs it

    shown = run("settings", COLUMNS="80").stdout
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("ASYNCMEM_")] == [
        setting.variable for setting in describe()
    ]


def test_healthcheck_exits_1_where_nothing_listens(free_tcp_port: int) -> None:
    """With one line that names the URL; what a container's probe sees."""
    url = f"http://127.0.0.1:{free_tcp_port}/readyz"
    done = run("healthcheck", url)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"not reachable: {url} (")
    assert "refused" in line
