"""Both distributions build, and work in a clean environment away from the source."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(1800)

GUARDED_APP = """
import asyncio, aiohttp
from aiohttp import web
from asyncmem.middleware.aiohttp import RUNTIME, setup

async def hello(request):
    return web.Response(text="hello")

async def main():
    app = web.Application()
    app.router.add_get("/", hello)
    setup(app)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
        print(response.status, await response.text(), app[RUNTIME].statistics().admission.admitted)
    await runner.cleanup()

asyncio.run(main())
"""

HEAVY = ["torch", "pandas", "pyarrow", "scipy", "aiohttp", "pydantic", "cyclopts", "rich", "numpy", "stamina", "yarl"]


class Environment:
    """A virtual environment without the source in sight."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._away = directory / "away"
        venv.create(directory / "venv", with_pip=True)
        self._away.mkdir()

    def run(self, program: str, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; it must end with the expected code."""
        done = subprocess.run(
            [self._directory / "venv" / "bin" / program, *arguments],
            cwd=self._away,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    def install(self, *requirements: str) -> None:
        """Install with the versions that the tests run with."""
        self.run("pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), *requirements)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, each built from its own source distribution, so that those are whole too."""
    out = tmp_path_factory.mktemp("wheels")
    for source in (ROOT, ROOT / "services"):
        subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source], check=True, capture_output=True
        )
    return {path.name.split("-")[0]: path for path in out.glob("*.whl")}


def test_both_work_away_from_the_source(wheels: dict[str, Path], tmp_path: Path) -> None:
    """Import, command line and a guarded app; then the services on top."""
    environment = Environment(tmp_path)

    environment.install(str(wheels["asyncmem"]))
    found = environment.run(
        "python",
        "-c",
        f"import asyncmem, sys, json; print(json.dumps([asyncmem.__file__, [m for m in {HEAVY} if m in sys.modules]]))",
    )
    where, heavy = json.loads(found.stdout)
    assert "site-packages" in where
    assert heavy == []
    assert (Path(where).parent / "py.typed").exists()
    hint = environment.run("asyncmem", "doctor", expect=2)
    assert "pip install 'asyncmem[cli]'" in hint.stderr
    assert "Traceback" not in hint.stderr

    for extra in ("webhook", "otel"):  # as the modules are called
        lacking = environment.run("python", "-c", f"import asyncmem.alerts.sinks.{extra}", expect=1)
        assert f"pip install 'asyncmem[{extra}]'" in lacking.stderr

    environment.install(f"{wheels['asyncmem']}[aiohttp,cli,webhook,otel]")
    environment.run("python", "-c", "import asyncmem.alerts.sinks.webhook, asyncmem.alerts.sinks.otel")
    report = json.loads(environment.run("asyncmem", "doctor", "--json").stdout)
    assert report["limit"] > report["capacity"] > 0
    assert environment.run("python", "-c", GUARDED_APP).stdout == "200 hello 1\n"
    assert "serve" not in environment.run("asyncmem", "--help").stdout

    environment.install(str(wheels["asyncmem"]), str(wheels["asyncmem_services"]))
    assert "--model" in environment.run("asyncmem", "serve", "--help").stdout
    vector = environment.run(
        "python",
        "-c",
        "import asyncio\n"
        "from asyncmem_services.embedding import EmbeddingService\n"
        "async def main():\n"
        "    async with EmbeddingService() as service:\n"
        "        print((await service.embed_text('hello')).shape)\n"
        "asyncio.run(main())\n",
    )
    assert vector.stdout.splitlines()[-1] == "(384,)"


@pytest.mark.parametrize("name", ["asyncmem", "asyncmem_services"])
def test_a_wheel_holds_its_package_and_nothing_else(wheels: dict[str, Path], name: str) -> None:
    """No tests, no examples, and no top-level module with a name that others could want."""
    with zipfile.ZipFile(wheels[name]) as archive:
        tops = {member.split("/")[0] for member in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {name}
