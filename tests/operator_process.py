"""The operator as a process of its own, watched from outside: its CPU, its memory, its writes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

WRITES = re.compile(r'^rest_client_requests_total\{code="(\d+)",method="(PATCH|POST|DELETE|PUT)"\} ([0-9.e+]+)$', re.M)
BUSY = re.compile(r"^(?:workqueue_depth|controller_runtime_active_workers)\{[^}]*\} ([0-9.e+]+)$", re.M)
DONE = re.compile(r"^controller_runtime_reconcile_total\{[^}]*\} ([0-9.e+]+)$", re.M)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


RUNNING: list[OperatorUnderTest] = []
"""The processes that run now, for the report of a test that fails beside them."""
LAST_LOG_BYTES = 16_384


@dataclass(frozen=True)
class Usage:
    """CPU seconds and peak resident memory of a process."""

    cpu_seconds: float
    peak_mib: float


class OperatorUnderTest:
    """`llm-operator` against one kubeconfig, from start to SIGTERM."""

    def __init__(
        self,
        kubeconfig: Path,
        *namespaces: str,
        arguments: tuple[str, ...] = (),
        log: Path | None = None,
        hub: str | None = None,
        program: str = "llm_operator",
    ) -> None:
        self._health, self._metrics = free_port(), free_port()
        self.namespaces = namespaces
        """What it serves; empty: all."""
        where = [part for name in namespaces for part in ("--namespace", name)] or ["--all-namespaces"]
        self._command = [
            sys.executable, "-m", program, *where,
            # A look of half a minute later would write the condition Healthy into the middle of another test.
            "--engine-look-seconds", "1",
            "--health-port", str(self._health), "--metrics-port", str(self._metrics), "--bind-address", "127.0.0.1",
            *(arguments or ("--no-leader-elect", "--no-gpu-inventory")),
            # Without a kubelet no Job of the model tools would ever end.
            *(() if any(word == "--model-tools-image" for word in arguments) else ("--model-tools-image", "")),
        ]  # fmt: skip
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "NO_PROXY": "*"}
        self._environment |= {"HF_HUB_OFFLINE": "1"} if hub is None else {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub}
        self._environment.pop("KUBERNETES_SERVICE_HOST", None)
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with (self._log or Path(os.devnull)).open("ab") as target:
            self.process = subprocess.Popen(self._command, env=self._environment, stdout=target, stderr=target)
        RUNNING.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        RUNNING.remove(self)
        self.stop()

    def log_end(self) -> str:
        """The last LAST_LOG_BYTES of its log, from the beginning of a line; empty where it keeps none."""
        if self._log is None or not self._log.exists():
            return ""
        with self._log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST_LOG_BYTES))
            text = file.read().decode(errors="replace")
        return text if size <= LAST_LOG_BYTES else text.partition("\n")[2]

    def stop(self, seconds: float = 20) -> int:
        """SIGTERM, and the exit code; killed when that takes too long."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def kill(self) -> None:
        """As a node's failure would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def get(self, path: str, port: int | None = None) -> tuple[int, str]:
        """GET from the process's own HTTP; (0, reason) while it does not listen."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self._health}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def metrics_port(self) -> int:
        """Where it listens for scrapers."""
        return self._metrics

    def metrics(self) -> str:
        """The exposition text."""
        return self.get("/metrics", self._metrics)[1]

    def wait_ready(self, seconds: float = 60) -> None:
        """Until /readyz says ok."""
        deadline = time.monotonic() + seconds
        while (answer := self.get("/readyz"))[0] != 200:
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the operator is not ready: {answer}, exit code {self.process.poll()}")
            time.sleep(0.1)

    def wait_idle(self, quiet_seconds: float = 1.5, seconds: float = 300) -> None:
        """Until nothing waits, nothing is worked on and no reconciliation ended for a while."""
        deadline, since, last = time.monotonic() + seconds, time.monotonic(), -1.0
        while time.monotonic() < deadline:
            text = self.metrics()
            done, busy = sum(map(float, DONE.findall(text))), sum(map(float, BUSY.findall(text)))
            if busy or done != last:
                since, last = time.monotonic(), done
            elif time.monotonic() - since > quiet_seconds:
                return
            time.sleep(0.2)
        raise RuntimeError(f"the operator is not idle after {seconds} s")

    def writes(self) -> int:
        """Write requests to the API server so far."""
        return int(sum(float(count) for _, _, count in WRITES.findall(self.metrics())))

    def usage(self) -> Usage:
        """What the process has used so far."""
        assert self.process is not None
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks = int(stat[11]) + int(stat[12])
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert peak is not None
        return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(peak[1]) / 1024)
