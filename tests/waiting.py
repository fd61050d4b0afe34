"""Waiting for what happens elsewhere, in a process or in a cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(what: Callable[[], T], seconds: float = 60, why: str | Callable[[], str] = "", every: float = 0.1) -> T:
    """Wait until something is true, and return it.

    Args:
        what: looks; it is asked at least once, and once more when the time is over.
        seconds: until it fails, with the value that was seen last.
        why: what is waited for; where it is a function, it is asked when the time is over.
        every: seconds between two looks.
    """
    deadline = time.monotonic() + seconds
    while not (value := what()):
        if time.monotonic() > deadline:
            text = why if isinstance(why, str) else why()
            raise AssertionError(f"not within {seconds:.0f} s: {text or what} (last: {value!r})")
        time.sleep(every)
    return value


async def until(seen: Callable[[], bool]) -> None:
    """Let other tasks of this loop run until something is so."""
    for _ in range(500):
        if seen():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")
