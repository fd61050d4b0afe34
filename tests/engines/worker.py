"""A long-lived process in an engine's environment that parses command lines: thousands cost one import."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.engines.environments import HERE, interpreter, sources

START_TIMEOUT_SECONDS = 180.0
REPLY_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Reply:
    """What the engine's own code said; `error` is None where it accepted the command line."""

    result: Any
    error: str | None


class Worker:
    """One engine version's parser. Close it, or use it as a context manager."""

    def __init__(self, engine: str, version: str) -> None:
        self.engine, self.version = engine, version
        folder = sources(engine, version)
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("VLLM_", "LMDEPLOY_", "PYTHON"))
        }
        environment |= {"PYTHONPATH": str(folder) if folder else "", "PYTHONDONTWRITEBYTECODE": ""}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [interpreter(engine), "-W", "ignore", HERE / "workers" / f"{engine}_worker.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
            cwd=tempfile.gettempdir(),
        )
        self._ready = False

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, op: str, argv: Sequence[str] = ()) -> Reply:
        """Let the engine judge argv (what follows `lmdeploy serve api_server` or `vllm serve`).

        Raises:
            RuntimeError: the worker died, hung, or has a bug; its last words are in the message.
        """
        if not self._ready:
            self._line(START_TIMEOUT_SECONDS)
            self._ready = True
        assert self._process.stdin is not None
        print(json.dumps({"op": op, "argv": list(argv)}), file=self._process.stdin, flush=True)
        answer = self._line(REPLY_TIMEOUT_SECONDS)
        if answer.get("unexpected"):
            raise RuntimeError(f"{self.engine} {self.version}, {op} {list(argv)}: {answer['error']}")
        return Reply(answer.get("result"), answer.get("error"))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _line(self, timeout: float) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None
        # One reply is one line and requests never overlap, so nothing waits in the text layer's buffer.
        readable, _, _ = select.select([stdout], [], [], timeout)
        line = stdout.readline() if readable else ""
        if not line:
            self._log.seek(0)
            state = "ended" if readable else f"said nothing for {timeout:.0f} s"
            raise RuntimeError(f"the worker of {self.engine} {self.version} {state}: {self._log.read()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer
