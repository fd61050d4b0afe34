"""Running another program so that it never outlives the tool that started it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
"""prctl(2), linux/prctl.h."""


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    pass_fds: Collection[int] = (),
    grace_seconds: float = 10,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program in a separate process group; it is ended when the block is left, whatever the reason.

    It is also killed by the kernel when this process dies without a chance to clean up.
    """
    parent = os.getpid()
    library = ctypes.CDLL(None)

    def die_with_parent() -> None:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    # preexec_fn is unsafe beside threads only; the tools have none when they start a program.
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        end(process, grace_seconds)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def end(process: subprocess.Popen[bytes], grace_seconds: float = 10) -> None:
    """End a program that `running` started, with everything in its process group."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # The group of the same number as its leader, which started a session; none is left where all have ended.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
