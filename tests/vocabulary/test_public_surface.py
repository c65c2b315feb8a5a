"""What `import asyncmem` gives, and that it does nothing else."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from typing import Any

import pytest

import asyncmem

MODULES = sorted(module.name for module in pkgutil.walk_packages(asyncmem.__path__, "asyncmem."))
HEAVY = ["torch", "pandas", "pyarrow", "scipy", "aiohttp", "pydantic", "numpy", "cyclopts", "trio"]
HEAVY += ["stamina", "tenacity", "opentelemetry", "yarl"]


def fresh(program: str, **environment: str) -> Any:
    """Run a program in an interpreter of its own; returns the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_names_are_sorted_and_there_once() -> None:
    """So that a diff shows what is new."""
    assert asyncmem.__all__ == sorted(set(asyncmem.__all__))


@pytest.mark.parametrize("name", ["asyncmem", *MODULES])
def test_every_public_name_resolves_and_is_described(name: str) -> None:
    """In each module: itself, and each class and function that it names as its own or hands on."""
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert inspect.getdoc(value), public
            assert not value.__doc__ or not value.__doc__.startswith(f"{public}("), f"{public}: a made-up docstring"


def test_what_the_package_gives_is_its_own() -> None:
    """Nothing of a dependency passes for a part of asyncmem."""
    for public in asyncmem.__all__:
        assert getattr(asyncmem, public).__module__.startswith("asyncmem."), public


def test_importing_loads_nothing_heavy() -> None:
    """A guard for small containers is small."""
    program = f"""
import json, sys
import asyncmem
print(json.dumps([name for name in {HEAVY} if name in sys.modules]))
"""
    assert fresh(program) == []


def test_importing_starts_and_opens_nothing() -> None:
    """No thread, no file descriptor, no child process, no signal handler."""
    program = """
import json, os, signal, threading
import anyio, msgspec, psutil, structlog
def state():
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        return [
            len(os.listdir("/proc/self/task")),
            threading.active_count(),
            sorted(os.listdir("/proc/self/fd")),
            children.read(),
            [str(signal.getsignal(number)) for number in signal.valid_signals()],
        ]
before = state()
import asyncmem
print(json.dumps([before, state()]))
"""
    before, after = fresh(program)
    assert after == before
    assert before[:2] == [1, 1]


def test_importing_reads_no_setting() -> None:
    """Not one variable of asyncmem's is asked for, and a wrong one does no harm until settings are loaded."""
    program = """
import json, os
class Recording(dict):
    def __getitem__(self, key):
        asked.append(key)
        return super().__getitem__(key)
    def __contains__(self, key):
        asked.append(key)
        return super().__contains__(key)
    def get(self, key, default=None):
        asked.append(key)
        return super().get(key, default)
asked = []
os.environ = Recording(os.environ)
import asyncmem
during_import = [key for key in asked if key.startswith("ASYNCMEM_")]
os.environ["ASYNCMEM_LIMIT"]
recorded = asked[-1]
try:
    asyncmem.MemoryConfig.load()
except asyncmem.ConfigError as error:
    refused = str(error)
print(json.dumps([during_import, recorded, refused]))
"""
    during_import, recorded, refused = fresh(program, ASYNCMEM_LIMIT="lots")
    assert (during_import, recorded) == ([], "ASYNCMEM_LIMIT")
    assert "got 'lots'" in refused
