"""Where everything built is kept: outside of the tree, in folders named by what went into them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""


def cache_dir() -> Path:
    """LLM_OPERATOR_CACHE, else llm-operator in the user's cache directory; made when missing."""
    given = os.environ.get("LLM_OPERATOR_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(given) if given else base / "llm-operator"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class NoRoomError(Exception):
    """The disk is too full for what comes next; the message says how much is needed, where, and what to do."""


def need_room(needed: int, what: str) -> None:
    """Check that the cache's disk has room, before anything is built.

    Args:
        needed: bytes.
        what: what they are for.

    Raises:
        NoRoomError: fewer are free.
    """
    folder = cache_dir()
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NoRoomError(
            f"{what} needs {needed / 1e9:.1f} GB in {folder}, and its disk has {free / 1e9:.1f} GB free: free some, or "
            "name a folder on another disk with LLM_OPERATOR_CACHE"
        )


def content_key(*parts: bytes | str) -> str:
    """Sixteen hexadecimal digits that change with any of the parts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock of this machine's cache; a second run waits and says so."""
    path = cache_dir() / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another run is at it ({name}): waiting", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Steps:
    """Progress of several steps: which of how many, how long it took, how long it took last time."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._index = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce a step, time it, and remember the time for the next run."""
        self._index += 1
        times = cache_dir() / "times.json"
        known: dict[str, float] = _read_times(times)
        key = f"{self._title}/{name}"
        last = f", {known[key]:.0f} s last time" if key in known else ""
        print(f"[{self._index}/{self._total}] {self._title}: {name}{last} ...", flush=True)
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        print(f"[{self._index}/{self._total}] {self._title}: {name} done in {seconds:.1f} s", flush=True)
        times.write_text(json.dumps({**_read_times(times), key: round(seconds, 1)}))


def _read_times(path: Path) -> dict[str, float]:
    try:
        known: dict[str, float] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known
