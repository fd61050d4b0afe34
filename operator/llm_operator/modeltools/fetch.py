"""`fetch`: a model from a hub onto a volume, once, whole, checked, and continued if it was interrupted."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from llm_operator.modeltools import bounds, inspection, layout, report, transfer, watchdog
from llm_operator.modeltools.hub import COMMIT, Hub, RemoteFile, check_repository, select, unwritable
from llm_operator.modeltools.layout import Marker, SourceKind
from llm_operator.modeltools.report import Progress, ToolError

KINDS: Mapping[str, SourceKind] = {"huggingFace": "hf", "modelScope": "ms"}
FLAT_PARTIAL = ".partial"

Answer = TypeVar("Answer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fetch`; endpoint, token and proxy are the libraries' own variables."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--root", type=Path, metavar="PATH", help="mount of a cache volume, shared by many models")
    where.add_argument("--flat", type=Path, metavar="PATH", help="directory for this model alone, without a lock")
    parser.add_argument("--source", required=True, choices=sorted(KINDS))
    parser.add_argument("--repository", required=True, metavar="ORGANISATION/NAME")
    parser.add_argument(
        "--revision", metavar="REVISION", help="branch, tag or commit; default the hub's default branch"
    )
    parser.add_argument("--stall-seconds", type=_positive, default=60.0, help="without a byte (default 60)")
    parser.add_argument("--attempts", type=int, default=5, help="in a row without progress (default 5)")
    parser.add_argument("--backoff-seconds", type=_positive, default=5.0, help="before the second attempt (default 5)")
    parser.add_argument("--verify-hashes", action="store_true", help="read and check a model that is there already")
    report.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Fetch, and write the result."""
    fetch = Fetch(options, Progress())
    return report.finish(options.result, fetch.run, fetch.leftover)


class _HeldError(Exception):
    """Another process holds a lock that is not worth waiting for."""


@dataclasses.dataclass
class Fetch:
    """One run of the command."""

    options: argparse.Namespace
    progress: Progress
    fetched_bytes: int = 0
    commit: str | None = None
    """What the revision stands for, once the hub has said it."""

    def run(self) -> Mapping[str, object]:
        """The fields of the result.

        Raises:
            ToolError: see the reasons of `report`.
        """
        check_repository(self.options.repository)
        self.progress.show("Resolving", detail=self.options.repository)
        try:
            return self._flat(self.options.flat) if self.options.flat else self._cached(self.options.root)
        except OSError as error:
            raise unwritable(error) or error from error

    def leftover(self) -> Mapping[str, object]:
        """The directory of the cache that is half-done, and the bytes in it; see report.finish."""
        root = self.options.root
        if root is None:
            return {}
        given = self.options.revision or ""
        commit = self.commit or (given if COMMIT.fullmatch(given) else None)
        known = [] if commit is None else [self._directory(root, commit)]
        told = (layout.leftover(root, str(one.relative_to(root))) for one in [*known, *self._begun(root)])
        return next(filter(None, told), {})

    def _cached(self, root: Path) -> Mapping[str, object]:
        if not root.is_dir():
            raise ToolError("ModelPathMissing", f"{root} is not a directory: the cache volume is not mounted there")
        given = self.options.revision
        if given is not None and COMMIT.fullmatch(given):
            # A commit says everything: what is complete needs no hub.
            known = self._complete(self._directory(root, given))
            if known is not None:
                return self._result(root, self._directory(root, given), known)
        report.unfinished(self.options.result, self.leftover())
        hub = transfer.hub_of(self.options.source)
        commit = self.commit = self._patiently(lambda: hub.commit(self.options.repository, given))
        directory = self._directory(root, commit)
        marker = self._complete(directory)
        if marker is None:
            files = self._files(hub, commit)
            with layout.lock(directory, lambda: self.progress.show("Waiting", detail=directory.name)):
                marker = self._complete(directory) or self._into(directory, commit, files)
        return self._result(root, directory, marker)

    def _flat(self, directory: Path) -> Mapping[str, object]:
        given = self.options.revision
        marker = self._complete(directory)
        # The volume is the pod's own: what a restarted pod finds is what it began with, whatever the branch says today.
        if marker is None or (given is not None and COMMIT.fullmatch(given) and given != marker.revision):
            hub = transfer.hub_of(self.options.source)
            commit = self._patiently(lambda: hub.commit(self.options.repository, given))
            files = self._files(hub, commit)
            written = directory / FLAT_PARTIAL
            _take_back(directory, written, files)
            hashes = self._download(written, commit, files)
            marker = layout.publish_into(written, directory, source=self._source(), revision=commit, hashes=hashes)
        return self._result(directory, directory, marker)

    def _into(self, directory: Path, commit: str, files: list[RemoteFile]) -> Marker:
        """Download into a directory of the cache. The lock is held."""
        written = layout.partial(directory)
        if directory.exists() and not written.exists():
            # Damaged: it is resumed like an interrupted download, and every file of it is checked.
            os.rename(directory, written)
            (written / layout.MARKER).unlink(missing_ok=True)
        self._take_over(directory)
        layout.remove(directory)
        self._keep_words(directory)
        hashes = self._download(written, commit, files)
        extra = {"configSha256": hashlib.sha256(inspection.read_config(written)).hexdigest()}
        return layout.publish(written, directory, source=self._source(), revision=commit, hashes=hashes, extra=extra)

    def _begun(self, root: Path) -> list[Path]:
        """Directories that were begun for the same revision; it may have stood for another commit then."""
        asked = self.options.revision or ""
        folder = layout.repository_directory(root, KINDS[self.options.source], self.options.repository)
        begun = [path for path in folder.glob(f"*{layout.PARTIAL}") if transfer.revision_of(path) == asked]
        return sorted(path.with_name(path.name.removesuffix(layout.PARTIAL)) for path in begun)

    def _take_over(self, directory: Path) -> None:
        """Continue what was begun before the branch moved: most files are the same, and nothing else will finish it."""

        def held() -> None:
            raise _HeldError

        written = layout.partial(directory)
        for earlier in self._begun(self.options.root):
            begun = layout.partial(earlier)
            if begun == written:
                continue
            with contextlib.suppress(_HeldError), layout.lock(earlier, held):
                if begun.exists() and not written.exists():
                    transfer.take_over(begun, written)
                layout.remove_partial_files(earlier)
                if not earlier.exists():
                    layout.forget_lock(earlier)

    def _keep_words(self, directory: Path) -> None:
        """From now on a process that is killed has reported if it was, and how far."""
        relative = str(directory.relative_to(self.options.root))
        words = {"directory": relative}
        report.unfinished(self.options.result, words)
        self.progress.told = lambda done: report.unfinished(self.options.result, {**words, "bytes": done})

    def _download(self, written: Path, commit: str, files: list[RemoteFile]) -> dict[str, str]:
        asked = self.options.revision or ""
        job = transfer.Job(self.options.source, self.options.repository, commit, written, tuple(files), revision=asked)
        before = watchdog.Meter(job).bytes()
        hashes = watchdog.download(job, self._patience(), self.progress)
        self.fetched_bytes = job.bytes - before
        self.progress.show("Verifying", total_bytes=job.bytes, detail="writing to the disk")
        for file in files:
            size = file.within(written).stat().st_size
            if file.name not in hashes or size != file.bytes:
                raise ToolError("ToolFailed", f"{file.name} changed while it was fetched", retry=True)
        shutil.rmtree(job.work)
        shutil.rmtree(written / watchdog.HUB_CACHE_TOP, ignore_errors=True)
        for name, path in layout.files_of(written).items():
            if name not in hashes:
                path.unlink()
        # Cut or no safetensors at all: an engine would only find out with a GPU.
        for path in inspection.weight_files(written):
            inspection.tensor_bytes(path)
        return hashes

    def _files(self, hub: Hub, commit: str) -> list[RemoteFile]:
        repository = self.options.repository
        return select(self._patiently(lambda: hub.files(repository, commit)), repository)

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Ask the hub until it answers, or patience ends."""
        patience, failed = self._patience(), 0
        while True:
            try:
                with bounds.asking():
                    return ask()
            except ToolError as error:
                failed += 1
                seconds = patience.wait(failed, error)
                detail = f"{error.reason}: next attempt in {seconds:.0f} s"
            self.progress.show("Resolving", detail=detail, now=True)
            time.sleep(seconds)

    def _patience(self) -> watchdog.Patience:
        return watchdog.Patience(self.options.stall_seconds, self.options.attempts, self.options.backoff_seconds)

    def _directory(self, root: Path, commit: str) -> Path:
        return layout.model_directory(root, KINDS[self.options.source], self.options.repository, commit)

    def _source(self) -> dict[str, object]:
        return {"kind": KINDS[self.options.source], "repository": self.options.repository}

    def _complete(self, directory: Path) -> Marker | None:
        marker = layout.complete(directory, verify_hashes=self.options.verify_hashes)
        return marker if marker is not None and marker.source == self._source() else None

    def _result(self, root: Path, directory: Path, marker: Marker) -> Mapping[str, object]:
        weights = inspection.weight_files(directory)
        return {
            "directory": str(directory.relative_to(root)),
            "bytes": marker.bytes,
            "fetchedBytes": self.fetched_bytes,
            "revision": marker.revision,
            "weightsBytes": sum(inspection.tensor_bytes(path) for path in weights),
            "config": report.encode_config(inspection.read_config(directory)),
        }


def _take_back(directory: Path, written: Path, files: list[RemoteFile]) -> None:
    """Move files back that an interrupted `publish_into` had moved, and drop those of another commit."""
    written.mkdir(parents=True, exist_ok=True)
    (directory / layout.MARKER).unlink(missing_ok=True)
    for file in files:
        moved, back = file.within(directory), file.within(written)
        if moved.is_file() and not back.exists():
            back.parent.mkdir(parents=True, exist_ok=True)
            os.replace(moved, back)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds greater than 0, got {text}")
    return number
