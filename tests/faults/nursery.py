"""Starts operator processes by forking one that has imported everything: a start takes 50 ms instead of two seconds."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from devcluster.processes import DIE_WITH_PARENT

ROOT = Path(__file__).resolve().parents[2]


class Child:
    """One operator process."""

    def __init__(self, number: int, ended: Callable[[int], None]) -> None:
        self.number = number
        self.pid = 0
        self.started = threading.Event()
        self.over = threading.Event()
        self.code: int | None = None
        self.ended = ended
        """Called with the exit code, in the nursery's thread."""

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, if the process still is there."""
        if self.code is None and self.pid:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def peak_mib(self) -> float:
        """Most resident memory so far; 0 once the process is gone."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0)


class Nursery:
    """Starts operators."""

    def __init__(self, log: Path) -> None:
        environment = {**os.environ, "NO_PROXY": "*", "HF_HUB_OFFLINE": "1"}
        environment.pop("KUBERNETES_SERVICE_HOST", None)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*DIE_WITH_PARENT, sys.executable, "-m", "tests.faults.nursery_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env=environment,
                text=True,
                bufsize=1,
            )
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._children: dict[int, Child] = {}
        self._reader = threading.Thread(target=self._read, name="nursery", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._reader.join(10)
        self._process.stdout.close()

    def start(self, argv: Sequence[str], environment: dict[str, str], log: Path, ended: Callable[[int], None]) -> Child:
        """Start an operator, and wait until it has a process."""
        with self._lock:
            child = Child(next(self._numbers), ended)
            self._children[child.number] = child
            order = {"id": child.number, "argv": list(argv), "env": environment, "log": str(log)}
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order) + "\n")
        if not child.started.wait(60):
            raise RuntimeError("the nursery does not start processes any more")
        return child

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told: dict[str, Any] = json.loads(line)
            child = self._children[told["id"]]
            if "pid" in told:
                child.pid = told["pid"]
                child.started.set()
            else:
                child.code = told["code"]
                child.over.set()
                del self._children[child.number]
                child.ended(told["code"])
