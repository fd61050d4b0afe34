"""Bytes go to the disk while more of them arrive, so that little is left to write when the last one is there.

Otherwise the kernel keeps up to a fifth of the memory back, and a download ends with minutes of waiting for the disk.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

INTERVAL_SECONDS = 0.5
LEAST_BYTES = 32 << 20
"""What a file must have grown by: small files are written at the end."""


@contextlib.contextmanager
def early(files: Sequence[tuple[Path, ...]]) -> Iterator[None]:
    """Write files to the disk as they grow, in a separate thread; each file by the paths that it has in turn."""
    ended = threading.Event()
    # A daemon, never waited for: it may be in the middle of a write that takes long.
    threading.Thread(target=_run, args=(files, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _run(files: Sequence[tuple[Path, ...]], ended: threading.Event) -> None:
    written = [0] * len(files)
    while not ended.wait(INTERVAL_SECONDS):
        for number, paths in enumerate(files):
            if not ended.is_set():
                written[number] = _write(paths, written[number])


def _write(paths: tuple[Path, ...], before: int) -> int:
    """Write what there is more than before; the bytes written of the file."""
    for path in paths:
        # Moved, or removed: an error of the disk comes again when the finished file is written.
        with contextlib.suppress(OSError), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size - before >= LEAST_BYTES:
                os.fdatasync(file.fileno())
                return size
            return before
    return before
