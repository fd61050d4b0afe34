"""`verify`: read a model of the cache from the disk and compare it with what was written, file by file.

Disks and network file systems change bytes silently, and so can anyone who may write to it. What differs is reported,
and the directory no longer counts as complete: the next Job that makes it compares every file again and replaces what
differs. The files themselves are left as they are, because an engine may serve them.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import mmap
import os
import time
from collections.abc import Mapping
from pathlib import Path

from llm_operator.modeltools import layout, paths, report
from llm_operator.modeltools.hub import unwritable
from llm_operator.modeltools.layout import FileFacts
from llm_operator.modeltools.report import Progress, ToolError

NAMED = 3
"""Files that a message names."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `verify`."""
    parser.add_argument("--root", type=Path, required=True, metavar="PATH", help="the volume's mount")
    parser.add_argument("--directory", required=True, metavar="PATH", help="the model, below the root: models/...")
    parser.add_argument(
        "--mib-per-second", type=int, default=100, help="most that is read; 0: as fast as it goes (default 100)"
    )
    report.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Verify, and write the result."""
    return report.finish(options.result, lambda: _verify(options))


def _verify(options: argparse.Namespace) -> Mapping[str, object]:
    directory = layout.inside(options.root, options.directory)
    marker = layout.read_marker(directory)
    if marker is None:
        raise ToolError("WeightsCorrupt", f"{options.directory} has no marker with the hashes of its files")
    progress = Progress()
    pace = _Pace(options.mib_per_second << 20, marker.bytes, progress)
    try:
        found = [_difference(directory, name, facts, pace) for name, facts in marker.files.items()]
    except OSError as error:
        raise unwritable(error) or error from error
    wrong = [text for text in found if text]
    if not wrong:
        return {"bytes": marker.bytes}
    if layout.read_marker(directory) == marker:
        with contextlib.suppress(FileNotFoundError):
            (directory / layout.MARKER).unlink()
    files = "1 file differs" if len(wrong) == 1 else f"{len(wrong):,} files differ"
    shown = "; ".join(wrong[:NAMED])
    raise ToolError("WeightsCorrupt", f"{files} from what was written, of {len(marker.files):,}: {shown}")


def _difference(directory: Path, name: str, facts: FileFacts, pace: _Pace) -> str:
    """What is wrong with a file; empty if nothing is."""
    try:
        path = paths.below(directory, name)
        size = path.stat().st_size
        if size != facts.bytes:
            return f"{name} has {size:,} bytes, and had {facts.bytes:,}"
        found = sha256_of_disk(path, pace)
    except FileNotFoundError:
        return f"{name} is missing"
    except ToolError as error:
        return str(error)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return f"{name} cannot be read ({error.strerror})"
    return "" if found == facts.sha256 else f"the SHA-256 of {name} is {found[:12]}..., and was {facts.sha256[:12]}..."


class _Pace:
    """Reads no faster than it may, so that an engine that loads its weights from the same disk is not held up."""

    def __init__(self, bytes_per_second: int, total: int, progress: Progress) -> None:
        self._rate = bytes_per_second
        self._total = total
        self._progress = progress
        self._begun = time.monotonic()
        self._done = 0

    def read(self, count: int) -> None:
        """Note that so many bytes were read, and wait."""
        self._done += count
        self._progress.show("Verifying", done_bytes=self._done, total_bytes=self._total)
        if self._rate:
            time.sleep(max(self._begun + self._done / self._rate - time.monotonic(), 0))


def sha256_of_disk(path: Path, pace: _Pace) -> str:
    """The hash of a file's bytes on the disk, and not of the page cache, which also keeps its pages."""
    digest = hashlib.sha256()
    number, direct = _opened(path)
    try:
        # Aligned to a page, as O_DIRECT requires.
        with contextlib.closing(mmap.mmap(-1, layout.READ_BYTES)) as piece:
            while True:
                try:
                    count = os.readv(number, [piece])
                except OSError as error:
                    if not direct or error.errno != errno.EINVAL:
                        raise
                    # The file system takes the flag and then no such read.
                    position = os.lseek(number, 0, os.SEEK_CUR)
                    os.close(number)
                    number, direct = os.open(path, os.O_RDONLY | os.O_CLOEXEC), False
                    os.lseek(number, position, os.SEEK_SET)
                    continue
                if not count:
                    return digest.hexdigest()
                with memoryview(piece) as view:
                    digest.update(view[:count])
                if not direct:
                    os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
                pace.read(count)
    finally:
        os.close(number)


def _opened(path: Path) -> tuple[int, bool]:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT), True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC), False
