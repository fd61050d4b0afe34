"""The chat page as its image starts it: the Dockerfile's entry point and variables, the documentation's arguments."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from urllib.request import urlopen

from devcluster.cache import ROOT
from tests.engines.environments import web_interpreter
from tests.support.docker import Dockerfile, docker_commands
from tests.waiting import eventually
from tests.web.conftest import free_port
from tests.web.fake_openai import FakeOpenAI

RUNS = [command for command in docker_commands() if command.verb == "run"]
FILE = Dockerfile(ROOT / "images/web/Dockerfile")


def test_what_docker_run_starts_answers_with_the_engines_page(tmp_path: Path) -> None:
    """Without docker: its environment, its entry point, its arguments; only the addresses are this machine's."""
    (arguments,) = {tuple(command.options.arguments[:1]) for command in RUNS}
    assert arguments == ("--api",)
    fake, port = FakeOpenAI(model="served-model"), free_port()
    program, *words = FILE.entrypoint
    assert program == "python3"
    environment = FILE.environment | {
        "PATH": os.defpath, "HOME": str(tmp_path),
        "GRADIO_TEMP_DIR": str(tmp_path / "gradio"), "PYTHONPATH": str(ROOT / "images/web"),
    }  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [web_interpreter(), *words, *arguments, fake.url, "--port", str(port)],
            env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path,
        )  # fmt: skip

    def said() -> str:
        assert process.poll() is None, (tmp_path / "log").read_text()
        return (tmp_path / "log").read_text()

    try:
        line = f"the page of {fake.url}/v1 is at http://localhost:{port}/\n"
        eventually(lambda: line in said(), 60, said)
        eventually(lambda: said() and _answers(port), 60, said)
        with urlopen(f"http://127.0.0.1:{port}/config", timeout=30) as answer:
            assert "conversation" in json.dumps(json.load(answer))
        assert [path.name for path in tmp_path.iterdir() if path.name not in ("log", "gradio")] == []
    finally:
        process.terminate()
        process.wait(30)
        fake.close()


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.read() == b"ok\n")
    except OSError:
        return False
