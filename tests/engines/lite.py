"""Running the model tools with the real LMDeploy on the CPU, or with a fake one: what the tests of them share."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engines.environments import HERE, REPOSITORY, lite_interpreter, sources
from tests.faulty_hub import FaultyHub

OPERATOR = REPOSITORY / "operator"
IMAGE_COMMAND = REPOSITORY / "images" / "lmdeploy-cpu-test" / "lmdeploy_cpu.py"
CONVERT_COMMAND = REPOSITORY / "images" / "lmdeploy-cpu-test" / "convert" / "lmdeploy_convert_cpu.py"
FAKE_COMMAND = HERE / "fake_lmdeploy.py"
TIMEOUT_SECONDS = 200


@dataclass(frozen=True)
class Ended:
    """How a tool ended."""

    code: int
    result: dict[str, Any]
    """Empty where it left none."""
    progress: list[dict[str, Any]]
    output: str


class Tools:
    """The tools' command line beside one `lmdeploy`."""

    def __init__(self, folder: Path, command: Path, *, extra_path: str = "", name: str = "") -> None:
        """Put a `lmdeploy` that runs `command` into a folder of its own, as the image does."""
        self._folder = folder / (name or command.stem)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._extra_path = extra_path
        script = self._folder / "lmdeploy"
        path = f"PYTHONPATH={extra_path} " if extra_path else ""
        script.write_text(f'#!/bin/sh\n{path}exec {lite_interpreter()} {command} "$@"\n')
        script.chmod(0o755)

    def start(self, *words: str, **variables: str) -> tuple[subprocess.Popen[str], Path]:
        """Start a tool; the process, and the file of its result."""
        result = self._folder / "result.json"
        result.unlink(missing_ok=True)
        process = subprocess.Popen(
            [lite_interpreter(), "-m", "llm_operator.modeltools", *words, "--result", result],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment(**variables),
            text=True,
            start_new_session=True,
        )
        return process, result

    def environment(self, **variables: str) -> dict[str, str]:
        """A pod's environment: nothing of this machine's own caches."""
        path = os.pathsep.join((str(self._folder), str(lite_interpreter().parent), "/usr/bin", "/bin"))
        home = str(self._folder / "home")
        Path(home).mkdir(exist_ok=True)
        own = {"PATH": path, "PYTHONPATH": str(OPERATOR), "HOME": home, "OMP_NUM_THREADS": "1"}
        return {**own, "PYTHONDONTWRITEBYTECODE": "1", "HF_ENDPOINT": "http://127.0.0.1:9", **variables}

    def run(self, *words: str, **variables: str) -> Ended:
        """Run a tool to its end."""
        process, result = self.start(*words, **variables)
        return finished(process, result)


def finished(process: subprocess.Popen[str], result: Path) -> Ended:
    """Wait for the end of a tool."""
    try:
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    told = json.loads(result.read_text()) if result.exists() else {}
    assert len(json.dumps(told).encode()) <= 4096
    return Ended(process.returncode, told, list(_progress(output)), output)


def _progress(output: str) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            body = json.loads(line)
            if isinstance(body, dict) and "progress" in body:
                yield body["progress"]


def run_script(
    script: Path, *words: str | Path, pythonpath: str = str(OPERATOR), cwd: Path | None = None, **variables: str
) -> str:
    """Run a script with the packages of `lmdeploy lite`; what it prints."""
    own = {"PYTHONPATH": pythonpath, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [lite_interpreter(), script, *words],
        cwd=cwd,
        env={**os.environ, **own, **variables},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def datasets_hub(folder: Path, texts: Sequence[str]) -> Iterator[FaultyHub]:
    """A stub of the hub with the data sets that LMDeploy names, made of these texts."""
    (folder / "texts.json").write_text(json.dumps(texts))
    run_script(HERE / "workers" / "make_datasets.py", folder / "hub", folder / "texts.json")
    with FaultyHub(folder / "hub") as hub:
        yield hub


def config_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of a result."""
    config: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(result["config"])))
    return config


def calls(state: Path) -> list[Sequence[str]]:
    """The fake's command lines so far."""
    return [json.loads(path.read_text()) for path in sorted(state.glob("call-*.json"))]


def old_lmdeploy(folder: Path) -> Tools:
    """The tools beside LMDeploy 0.9.2.post1, the last one with `convert`."""
    path = str(sources("lmdeploy", "0.9.2.post1"))
    return Tools(folder, CONVERT_COMMAND, extra_path=path)
