"""Bounds of what a hub's client takes for a question, whatever the hub answers: its memory and its time.

The clients read an answer whole and follow pages for as long as the hub names another one (huggingface_hub 2.4.0,
utils/_pagination.py), so that a hub alone would decide when a question ends.
"""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from llm_operator.modeltools.report import ToolError

MEMORY_BYTES = 512 << 20
"""Beside what the process has: a list of 100,000 files takes some 200 MiB."""
SECONDS = 900.0
AGAIN_SECONDS = 5.0
"""A client that takes the end of its time for a failure of the network receives the error again."""


@contextlib.contextmanager
def asking(memory_bytes: int | None = None, seconds: float | None = None) -> Iterator[None]:
    """One question to a hub; in the main thread.

    Args:
        memory_bytes: default MEMORY_BYTES.
        seconds: default SECONDS.

    Raises:
        ToolError: WeightsCorrupt: the answer takes more memory; HubUnreachable: it takes longer.
    """

    def late(_number: int, _frame: FrameType | None) -> NoReturn:
        text = f"the hub did not come to an end of its answer within {seconds or SECONDS:,.0f} s"
        raise ToolError("HubUnreachable", text, retry=True)

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _address_space() + (memory_bytes or MEMORY_BYTES)
    known = [most, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
    before = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (min(known), hard))
    signal.setitimer(signal.ITIMER_REAL, seconds or SECONDS, AGAIN_SECONDS)
    try:
        yield
    except MemoryError:
        text = "what the hub answers takes more memory to read than any model's list of files: name another repository"
        raise ToolError("WeightsCorrupt", text) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def _address_space() -> int:
    """Bytes of this process's address space, which the limit counts."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
