"""Directories on a model volume: their names, and how one comes into being, is trusted and goes away.

    models/<source>--<organisation>--<name>/<commit>/          a directory, complete or not there at all
    models/<source>--<organisation>--<name>/<commit>.partial/  one that is being written
    models/<source>--<organisation>--<name>/<commit>.lock      held by who writes it
    models/<source>--<organisation>--<name>/<commit>.removed-1 one that is being deleted

What is made from a model stands beside it, with the recipe in its name: <commit>--awq-w4-g128-<hash>.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from llm_operator.modeltools import paths
from llm_operator.modeltools.report import ToolError
from llm_operator.modeltools.text import read_file, read_json

MODELS = "models"
PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
"""Name of one directory that a hub's word becomes."""
MARKER = ".llm-operator.json"
MARKER_VERSION = 1
PARTIAL = ".partial"
LOCK = ".lock"
LOCK_POLL_SECONDS = 0.5
READ_BYTES = 4 << 20

SourceKind = Literal["hf", "ms"]


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """What the marker keeps of one file."""

    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Marker:
    """The content of a directory, written when it was complete."""

    source: Mapping[str, object]
    """Where it came from, for example {"kind": "hf", "repository": "org/name"}."""
    revision: str
    """The commit."""
    files: Mapping[str, FileFacts]
    """By path within the directory, with forward slashes."""
    extra: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """Further facts, for example a recipe; at the marker's top level in the file."""

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files.values())


def model_directory(root: Path, kind: SourceKind, repository: str, revision: str) -> Path:
    """Where a model of a hub belongs.

    Raises:
        ToolError: ModelPathMissing: repository or revision would lead to another directory.
    """
    folder = repository_directory(root, kind, repository)
    if not PART.fullmatch(revision):
        raise ToolError("ModelPathMissing", f"{revision[:200]!r} is not the name of one directory")
    return paths.below(folder, revision)


def repository_directory(root: Path, kind: SourceKind, repository: str) -> Path:
    """Where all revisions of a model of a hub belong.

    Raises:
        ToolError: ModelPathMissing: the repository would lead to another directory.
    """
    name = f"{kind}--{repository.replace('/', '--')}"
    if not PART.fullmatch(name):
        raise ToolError("ModelPathMissing", f"{name[:200]!r} is not the name of one directory")
    return paths.below(root, f"{MODELS}/{name}")


def partial(directory: Path) -> Path:
    """Where a directory is written before it is complete."""
    return paths.beside(directory, PARTIAL)


def inside(root: Path, relative: str) -> Path:
    """The existing directory of that path below the root, symbolic links followed.

    Raises:
        ToolError: ModelPathMissing: it is not there, no directory, or leads out of the root.
    """
    path = _within(root, relative) if paths.normal(relative) else root.resolve()
    if not path.is_dir():
        found = sorted(entry.name for entry in path.parent.iterdir())[:10] if path.parent.is_dir() else []
        beside = f"; beside it there is: {', '.join(found)}" if found else ""
        kind = "no directory but a file" if path.exists() else "not on the volume"
        raise ToolError(
            "ModelPathMissing", f"the path {relative!r} is {kind}: give the directory that holds config.json{beside}"
        )
    return path


def below(root: Path, relative: str) -> Path:
    """The path of a directory to be written below the root, which need not exist yet.

    Raises:
        ToolError: ModelPathMissing: it leads out of the root.
    """
    return _within(root, relative)


def _within(root: Path, relative: str) -> Path:
    """The path below the root, symbolic links followed; what follows ".." is none."""
    try:
        return paths.below(root, paths.normal(relative)).resolve()
    except ToolError as error:
        raise ToolError(
            "ModelPathMissing",
            f"the path {relative[:200]!r} leads out of the volume: give a path of a directory below its top, without "
            f"'..' and symbolic links that leave it ({error})",
        ) from None


def read_marker(directory: Path) -> Marker | None:
    """The marker, or None if there is none that this version understands."""
    try:
        content = read_json(read_file(directory / MARKER))
        if content.pop("version") != MARKER_VERSION:
            return None
        files = {name: FileFacts(int(file["bytes"]), str(file["sha256"])) for name, file in content["files"].items()}
        source, revision = content["source"], content["revision"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(source, dict) or not isinstance(revision, str):
        return None
    extra = {name: value for name, value in content.items() if name not in ("files", "source", "revision")}
    return Marker(source, revision, files, extra)


def complete(directory: Path, *, verify_hashes: bool = False) -> Marker | None:
    """The marker of a directory that holds what the marker says, else None.

    Sizes are compared, which takes milliseconds; hashes, which take a read of everything, on request.
    """
    marker = read_marker(directory)
    if marker is None:
        return None
    for name, facts in marker.files.items():
        try:
            path = paths.below(directory, name)
            if not path.is_file() or path.stat().st_size != facts.bytes:
                return None
            if verify_hashes and sha256(path) != facts.sha256:
                return None
        except (OSError, ToolError):
            return None
    return marker


def files_of(directory: Path) -> dict[str, Path]:
    """The regular files below a directory by relative path, without the marker."""
    found = {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*")) if path.is_file()}
    found.pop(MARKER, None)
    return found


def partial_files(directory: Path) -> list[Path]:
    """What is there of a directory that was never finished: the one that is written, and notes beside it."""
    return sorted(directory.parent.glob(f"{partial(directory).name}*"))


def leftover(root: Path, relative: str) -> dict[str, object]:
    """What a failed command reports of a directory that it left incomplete, and the bytes there; empty without one.

    Raises:
        ToolError: ModelPathMissing: it leads out of the root.
    """
    directory = below(root, relative)
    found = partial_files(directory)
    if not found:
        return {}
    return {"directory": str(directory.relative_to(root.resolve())), "bytes": sum(map(size_of, found))}


def size_of(directory: Path) -> int:
    """Bytes of the files below a directory, or of the one file that it is."""
    total = directory.lstat().st_size if directory.is_file() else 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def sha256(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """The hash of a file; `advance` is called with the bytes of every piece read."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            if advance is not None:
                advance(len(piece))
    return digest.hexdigest()


@contextlib.contextmanager
def lock(directory: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the right to write, replace or remove a directory; `waiting` is called while another process holds it.

    Raises:
        ToolError: ToolFailed: the volume's file system keeps no locks.
    """
    path = paths.beside(directory, LOCK)
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
        except FileNotFoundError:
            # The last model of the folder was removed in between, and the folder with it.
            continue
        try:
            while not _locked(number, path):
                if waiting is not None:
                    waiting()
                time.sleep(LOCK_POLL_SECONDS)
            # Who removed the directory also removed the lock file: then this is a lock of nothing.
            if _same_file(number, path):
                yield
                return
        finally:
            os.close(number)


def publish(
    written: Path,
    directory: Path,
    *,
    source: Mapping[str, object],
    revision: str,
    hashes: Mapping[str, str] | None = None,
    extra: Mapping[str, object] | None = None,
) -> Marker:
    """Make a finished directory visible under its final name: files to disk, marker, rename. The lock is held.

    Args:
        written: Where it was written, normally `partial(directory)`; on the same file system.
        directory: Its final name, which must be free.
        source: Where it came from; goes into the marker.
        revision: The commit.
        hashes: sha256 of files by relative path, as far as known; the others are read and hashed.
        extra: Further facts for the marker.
    """
    known = hashes or {}
    files = {}
    for name, path in files_of(written).items():
        files[name] = FileFacts(path.stat().st_size, known.get(name) or sha256(path))
        _sync(path)
    marker = Marker(source, revision, files, extra or {})
    _write_marker(written, marker)
    for folder in sorted({path.parent for path in files_of(written).values()} | {written}):
        _sync(folder)
    if written != directory:
        os.rename(written, directory)
        _sync(directory.parent)
    return marker


def publish_into(
    written: Path, directory: Path, *, source: Mapping[str, object], revision: str, hashes: Mapping[str, str]
) -> Marker:
    """Like `publish`, for a directory that cannot be renamed because it is a mount: the marker comes last."""
    marker = publish(written, written, source=source, revision=revision, hashes=hashes)
    for entry in sorted(written.iterdir(), key=lambda entry: entry.name == MARKER):
        target = paths.below(directory, entry.name)
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(entry, target)
    _sync(directory)
    written.rmdir()
    return marker


def remove(directory: Path) -> int:
    """Remove a directory and what was left of earlier removals; the bytes freed. The lock is held.

    It disappears under its name at once; a removal that is interrupted is continued by the next one.
    """
    if directory.exists():
        removed = f"{directory.name}.removed-"
        taken = {path.name for path in directory.parent.glob(f"{removed}*")}
        number = next(number for number in range(1, len(taken) + 2) if f"{removed}{number}" not in taken)
        os.rename(directory, paths.beside(directory, f".removed-{number}"))
    return _delete(_removed(directory))


def remove_partial_files(directory: Path) -> int:
    """Remove what is there of a directory that was never finished; the bytes freed. The lock is held."""
    return _delete([*partial_files(directory), *_removed(directory)])


def _removed(directory: Path) -> Iterable[Path]:
    """What an interrupted removal left."""
    return directory.parent.glob(f"{directory.name}.removed-*")


def _delete(paths: Iterable[Path]) -> int:
    freed = 0
    for path in paths:
        freed += size_of(path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return freed


def forget_lock(directory: Path) -> None:
    """Remove the lock file of a directory that is gone. The lock is held; who waits for it notices."""
    paths.beside(directory, LOCK).unlink(missing_ok=True)


def _locked(number: int, path: Path) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise ToolError(
            "ToolFailed",
            f"the volume's file system keeps no locks ({path}: {error.strerror}), so two Jobs could write the same "
            "model at once: use a storage class whose file system supports flock, for example ext4, xfs or NFS 4",
        ) from error
    return True


def _same_file(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), os.stat(path))
    except FileNotFoundError:
        return False


def _write_marker(directory: Path, marker: Marker) -> None:
    content: dict[str, Any] = {
        "version": MARKER_VERSION,
        "source": dict(marker.source),
        "revision": marker.revision,
        **marker.extra,
        "files": {name: dataclasses.asdict(facts) for name, facts in marker.files.items()},
    }
    path = directory / MARKER
    path.write_text(json.dumps(content, indent=1))
    _sync(path)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
