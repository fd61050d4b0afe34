"""A file that is hashed while it is written, so that nothing is read a second time to be checked."""

from __future__ import annotations

import hashlib
import io
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_operator.modeltools.hub import RemoteFile
from llm_operator.modeltools.layout import READ_BYTES

QUEUE_PIECES = 16


class CorruptError(Exception):
    """The content is not what the hub lists."""


class HashedFile(io.RawIOBase):
    """A file to append to, hashed by a separate thread while the next piece arrives.

    hashlib leaves the interpreter to others while it works, so that with two cores hashing costs no time. What is
    already in the file is read and hashed first.
    """

    def __init__(self, path: Path, file: RemoteFile, alive: Callable[[int], None]) -> None:
        """Open or create the file; `alive` is called with the bytes of every piece hashed."""
        super().__init__()
        self._alive = alive
        self._file = file
        path.parent.mkdir(parents=True, exist_ok=True)
        self._raw = open(path, "a+b", buffering=0)  # noqa: SIM115
        self._pieces: queue.Queue[bytes | None] = queue.Queue(QUEUE_PIECES)
        self._hasher: threading.Thread | None = None
        self.size = self._raw.seek(0, io.SEEK_END)
        self._begin()

    def write(self, piece: Any) -> int:
        """Append a piece, all of it."""
        left = memoryview(piece)
        while left:
            left = left[self._raw.write(left) :]
        self.size += len(piece)
        self._pieces.put(piece)
        return len(piece)

    def tell(self) -> int:
        """Where the next piece goes."""
        return self._raw.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go there, to truncate the file."""
        return self._raw.seek(offset, whence)

    def truncate(self, size: int | None = None) -> int:
        """Forget what follows; huggingface_hub's http_get does it where a server ignores the requested range."""
        self._drain()
        self.size = self._raw.truncate(size)
        self._begin()
        return self.size

    def close(self) -> None:
        """Close the file; what is not hashed yet is no longer needed."""
        if not self.closed:
            self._drain()
            self._raw.close()
        super().close()

    def verified(self) -> str:
        """The sha256 of a complete file.

        Raises:
            CorruptError: it is not what the hub lists.
        """
        self._drain()
        file = self._file
        if self.size != file.bytes:
            raise CorruptError(f"{file.name} has {self.size} bytes, the hub lists {file.bytes}")
        sha256 = self._sha256.hexdigest()
        check(file, sha256, self._blob.hexdigest())
        return sha256

    def _begin(self) -> None:
        # A digest per purpose: the marker keeps sha256; of small files the hub knows git's object id only.
        self._sha256 = hashlib.sha256()
        self._blob = hashlib.sha1(b"blob %d\0" % self._file.bytes, usedforsecurity=False)
        self._raw.seek(0)
        while piece := self._raw.read(READ_BYTES):
            self._update(piece)
        self._hasher = threading.Thread(target=self._hash, daemon=True)
        self._hasher.start()

    def _hash(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._update(piece)

    def _update(self, piece: bytes) -> None:
        self._sha256.update(piece)
        if self._file.sha256 is None:
            self._blob.update(piece)
        self._alive(len(piece))

    def _drain(self) -> None:
        if self._hasher is not None:
            self._pieces.put(None)
            self._hasher.join()
            self._hasher = None


def check(file: RemoteFile, sha256: str, blob: str) -> None:
    """Compare with what the hub knows.

    Raises:
        CorruptError: the hub lists another content.
    """
    if file.sha256 is not None and sha256 != file.sha256:
        raise CorruptError(f"the sha256 of {file.name} is {sha256}, the hub lists {file.sha256}")
    if file.sha256 is None and file.blob is not None and blob != file.blob:
        raise CorruptError(f"git's object id of {file.name} is {blob}, the hub lists {file.blob}")


def verify(path: Path, file: RemoteFile, alive: Callable[[int], None]) -> str:
    """Read and check a file that is complete already; its sha256.

    Raises:
        CorruptError: it is not what the hub lists.
    """
    with HashedFile(path, file, alive) as content:
        return content.verified()
