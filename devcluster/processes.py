"""Child processes that never outlive the one that started them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# The kernel's own promise: the child is killed when its parent ends, also when that was by SIGKILL.
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


class ComponentError(Exception):
    """A component ended or did not get ready; the message holds the end of its log."""


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


class Component:
    """One running program with its log."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.name = Path(command[0]).name
        self.command = tuple(command)
        self.log = log
        with log.open("ab") as target:
            self.process = subprocess.Popen(
                [*DIE_WITH_PARENT, *command],
                stdout=target,
                stderr=target,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
            )

    def wait_until(self, ready: Callable[[], bool], seconds: float = 90) -> None:
        """Wait until the component is ready.

        Raises:
            ComponentError: it ended, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None:
                raise ComponentError(f"{self.name} ended with code {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ComponentError(f"{self.name} is not ready after {seconds:.0f} s:\n{self.tail()}")
            time.sleep(0.1)

    def tail(self, lines: int = 15) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End it at once; these hold nothing that is worth a slow goodbye."""
        self.process.kill()
        self.process.wait()
