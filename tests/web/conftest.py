"""The page's server in its own environment, and a browser in front of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import chromium
from tests.engines.environments import REPOSITORY, web_interpreter
from tests.waiting import eventually
from tests.web.fake_openai import FakeOpenAI

KEY = "sk-only-the-server-knows-4711"
WATCHED = """
import atexit, json, os, sys
seen = open(os.environ["CONNECTIONS"], "a", buffering=1)
def watch(event, arguments):
    if event == "socket.connect":
        seen.write(json.dumps(str(arguments[1])) + "\\n")
    elif event == "socket.getaddrinfo":
        seen.write(json.dumps(f"{arguments[0]}:{arguments[1]}") + "\\n")
sys.addaudithook(watch)
sys.argv[0] = "chat_page"
from chat_page.__main__ import main
sys.exit(main())
"""
"""The page's server with a record of every address that it looks up or connects to."""


class Server:
    """A page's server."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"
        self.process = process
        self._folder = folder

    def log(self) -> str:
        """What it said."""
        return (self._folder / "log").read_text()

    def connections(self) -> set[str]:
        """Addresses that it looked up or connected to."""
        return {json.loads(line) for line in (self._folder / "connections").read_text().splitlines()}

    def answers(self) -> bool:
        """Whether its readiness probe does."""
        assert self.process.poll() is None, self.log()
        try:
            with urlopen(f"{self.url}readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


Serve = Callable[..., Server]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """A page's server that is ready."""
    port = free_port()
    folder.mkdir(parents=True)
    said = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(REPOSITORY / "images" / "web"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CONNECTIONS": str(folder / "connections"),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(web_interpreter()), "-c", WATCHED, *arguments, "--host", "127.0.0.1", "--port", str(port)],
            env=said | (environment or {}), stdout=log, stderr=subprocess.STDOUT, cwd=folder,
        )  # fmt: skip
    try:
        server = Server(port, process, folder)
        eventually(server.answers, 120, server.log)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts further servers, for as long as the module's tests run."""
    with ExitStack() as stack:

        def start(*arguments: str, environment: dict[str, str] | None = None) -> Server:
            folder = tmp_path_factory.mktemp("page") / "run"
            return stack.enter_context(served(folder, *arguments, environment=environment))

        yield start


@pytest.fixture(scope="module")
def fake_engine() -> Iterator[FakeOpenAI]:
    """The engine's stand-in."""
    fake = FakeOpenAI()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def server(serve: Serve, fake_engine: FakeOpenAI) -> Server:
    """The page in front of it, as the operator starts it."""
    return serve(
        "--api", fake_engine.url, "--model", "tiny", "--engine", "LMDeploy 0.18.0, TurboMind", "--kv-cache", "Int4",
        "--context", "32768", environment={"OPENAI_API_KEY": KEY},
    )  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium without a screen."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def requested() -> list[str]:
    """Every URL that the browser asked for."""
    return []


@pytest.fixture
def tab(browser: Browser, requested: list[str]) -> Iterator[Callable[..., Page]]:
    """Opens tabs, each as a person of its own."""
    with ExitStack() as stack:

        def open_tab(url: str, width: int = 1200, height: int = 800) -> Page:
            context = browser.new_context(viewport={"width": width, "height": height})
            stack.callback(context.close)
            context.set_default_timeout(30_000)
            page = context.new_page()
            page.on("request", lambda request: requested.append(request.url))
            page.goto(url)
            return page

        yield open_tab


@pytest.fixture(autouse=True)
def _as_new(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test finds the fake engine as it was made."""
    if "fake_engine" not in request.fixturenames:
        yield
        return
    fake: FakeOpenAI = request.getfixturevalue("fake_engine")
    before = fake.script, fake.key, fake.refusal
    fake.requests.clear()
    fake.left.clear()
    yield
    fake.script, fake.key, fake.refusal = before
