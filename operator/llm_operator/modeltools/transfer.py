"""The process that downloads: `python -m llm_operator.modeltools.transfer JOB ACTIVITY`.

A separate process, because a thread that waits for a byte that never comes cannot be ended. It may be killed at any
time: what it has written is continued by the next one.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import dataclasses
import importlib
import json
import os
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_operator.modeltools import content, paths, writeback
from llm_operator.modeltools.hub import Hub, RateLimitedError, RemoteFile, unwritable
from llm_operator.modeltools.report import ToolError
from llm_operator.modeltools.text import read_file, read_json

WORK = ".llm-operator-transfer"
"""Folder below the one that is written to, for everything that does not belong to the model."""
NOTE = "job.json"
"""In it: what is being downloaded."""
VERIFIED = "verified.jsonl"
WORKERS = 8
"""Files at a time; huggingface_hub's own default."""
MEMORY = "/dev/shm"  # noqa: S108
"""Writable in every container, also where the root file system is not."""
BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclasses.dataclass(frozen=True)
class Job:
    """One model to download."""

    source: str
    """huggingFace or modelScope."""
    repository: str
    commit: str
    folder: Path
    files: tuple[RemoteFile, ...]
    xet: bool = True
    revision: str = ""
    """The requested revision: a branch, tag or commit; empty for the default branch."""

    @property
    def work(self) -> Path:
        """The folder for notes and partial files."""
        return self.folder / WORK

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    def incomplete(self, file: RemoteFile) -> Path:
        """Named by the content: another version of a file does not continue this one."""
        return paths.below(self.work, f"{file.identity}.incomplete", "WeightsCorrupt")

    def partial_files(self, file: RemoteFile) -> tuple[Path, Path]:
        """Where a file may be as long as it is not complete: ours, and modelscope_hub's."""
        return self.incomplete(file), paths.beside(file.within(self.folder), ".incomplete")

    def write(self) -> Path:
        """Write it down for the process that does it."""
        self.work.mkdir(parents=True, exist_ok=True)
        path = self.work / NOTE
        path.write_text(json.dumps(dataclasses.asdict(self) | {"folder": str(self.folder)}))
        return path

    @staticmethod
    def read(path: Path) -> Job:
        """What `write` wrote."""
        fields = read_json(read_file(path))
        files = tuple(RemoteFile.of(file) for file in fields.pop("files"))
        return Job(**fields | {"folder": Path(fields["folder"]), "files": files})


class Journal:
    """Which files are complete and checked, so that no attempt reads them again.

    An entry holds for the boot that it was written in: until then the page cache answers for what is not on the disk.
    Later, or on another node, the file is read and checked once more.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._path = job.work / VERIFIED
        self._boot = BOOT.read_text().strip() if BOOT.exists() else ""
        self._lock = threading.Lock()

    def hashes(self) -> dict[str, str]:
        """sha256 by name of the files that are complete and unchanged."""
        try:
            lines = read_file(self._path).decode(errors="replace").splitlines()
        except (FileNotFoundError, ValueError):
            return {}
        return dict(known for line in lines if (known := self._known(line)) is not None)

    def add(self, file: RemoteFile, sha256: str) -> None:
        """Note that a file is complete and checked."""
        entry = {"name": file.name, "sha256": sha256, "boot": self._boot, **self._state(file.name)}
        with self._lock, self._path.open("a") as journal:
            journal.write(json.dumps(entry) + "\n")

    def _known(self, line: str) -> tuple[str, str] | None:
        try:
            entry = read_json(line)
            name, sha256, boot = entry.pop("name"), entry.pop("sha256"), entry.pop("boot")
            valid = boot == self._boot and entry == self._state(name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ToolError):
            # A line that a killed process left half, or a file that is gone.
            return None
        return (name, sha256) if valid else None

    def _state(self, name: str) -> dict[str, int]:
        status = paths.below(self._job.folder, name).stat()
        return {"bytes": status.st_size, "changed": status.st_mtime_ns}


class Activity:
    """A number that grows while the process works, for the one that watches it; in memory, for the disk may be full."""

    def __init__(self, file: int | None = None) -> None:
        """Take the file descriptor that was inherited, or make one."""
        self.file = os.memfd_create("activity", 0) if file is None else file
        self._lock = threading.Lock()
        self._count = 0

    def alive(self, count: int) -> None:
        """Count what was worked on, in bytes."""
        with self._lock:
            self._count += count
            os.pwrite(self.file, self._count.to_bytes(8, "little"), 0)

    def read(self) -> int:
        """What another process counted."""
        return int.from_bytes(os.pread(self.file, 8, 0), "little")

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.file)


class Downloads:
    """The work of this process; also the context of the hubs' `fetch` (see hub.Transfer)."""

    def __init__(self, job: Job, hub: Hub, activity: Activity) -> None:
        self._job = job
        self._hub = hub
        self._journal = Journal(job)
        self.alive = activity.alive
        self.repository = job.repository
        self.commit = job.commit
        self.folder = job.folder
        self.xet = job.xet
        self.incomplete = job.incomplete

    def run(self) -> None:
        """Download what is missing, the largest files first.

        Raises:
            ToolError: a file failed. Where trying again may help, the files that were in transfer are finished first.
        """
        self.alive(1)
        known = self._journal.hashes()
        missing = sorted((file for file in self._job.files if file.name not in known), key=lambda file: -file.bytes)
        with writeback.early([(file.within(self._job.folder), *self._job.partial_files(file)) for file in missing]):
            self._all(missing)

    def _all(self, missing: Sequence[RemoteFile]) -> None:
        pool = concurrent.futures.ThreadPoolExecutor(WORKERS)
        tasks = [pool.submit(self._one, file) for file in missing]
        failure: ToolError | None = None
        for task in concurrent.futures.as_completed(tasks):
            try:
                task.result()
            except concurrent.futures.CancelledError:
                continue
            except ToolError as error:
                if not error.retry:
                    raise
                failure = failure or error
                for other in tasks:
                    other.cancel()
        if failure is not None:
            raise failure

    def _one(self, file: RemoteFile) -> None:
        error: content.CorruptError | None = None
        for _ in range(2):
            try:
                self._journal.add(file, self._present(file) or self._hub.fetch(file, self))
                return
            except content.CorruptError as found:
                error = found
                for path in (*self._job.partial_files(file), file.within(self.folder)):
                    path.unlink(missing_ok=True)
        raise ToolError(
            "WeightsCorrupt",
            f"{error}. It was downloaded twice: the copy of {self.repository} at the hub is damaged, or something "
            "between changes it. Try another revision or a mirror (HF_ENDPOINT)",
        )

    def _present(self, file: RemoteFile) -> str | None:
        """The hash of a file that an earlier attempt completed, and that is in no journal that holds."""
        path = file.within(self.folder)
        return content.verify(path, file, self.alive) if path.is_file() else None


def revision_of(folder: Path) -> str | None:
    """The revision that was requested when a download into this folder began; None if it was not noted."""
    try:
        revision = read_json(read_file(folder / WORK / NOTE))["revision"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return revision if isinstance(revision, str) else None


def take_over(begun: Path, folder: Path) -> None:
    """Go on elsewhere with the files of another commit: each one is checked before it counts."""
    (begun / WORK / VERIFIED).unlink(missing_ok=True)
    os.rename(begun, folder)


def hub_of(source: str) -> Hub:
    """The client of a source; its library is imported only now."""
    if source == "modelScope" and "MODELSCOPE_HOME" not in os.environ:
        # modelscope_hub notes an id of its installation in a home that a container with a read-only root has not.
        home = tempfile.mkdtemp(prefix="modelscope-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
        atexit.register(shutil.rmtree, home, ignore_errors=True)
        os.environ["MODELSCOPE_HOME"] = os.environ["MODELSCOPE_CACHE"] = home
    module, name = {"huggingFace": ("huggingface", "HuggingFace"), "modelScope": ("modelscope", "ModelScope")}[source]
    hub: Hub = getattr(importlib.import_module(f"llm_operator.modeltools.{module}"), name)()
    return hub


def read_outcome(said: bytes) -> ToolError | None:
    """What the process said on its standard output, or None if it was killed before it could."""
    try:
        fields: Mapping[str, Any] = read_json(said)
    except ValueError:
        return None
    if fields["reason"] == "HubRateLimited":
        return RateLimitedError(fields["message"], fields["retryAfter"])
    return ToolError(fields["reason"], fields["message"], retry=fields["retry"])


def main() -> None:
    """Do the job; the exit code is 0, or 1 with an outcome."""
    # Standard output is the outcome's alone: whatever a library prints goes to standard error.
    outcome = os.dup(1)
    os.dup2(2, 1)
    job, activity = Job.read(Path(sys.argv[1])), Activity(int(sys.argv[2]))
    try:
        os.umask(0o002)
        Downloads(job, hub_of(job.source), activity).run()
    except ToolError as error:
        failure = error
    except Exception as error:
        traceback.print_exc()
        failure = unwritable(error) or ToolError("ToolFailed", f"{type(error).__name__}: {error}", retry=True)
    else:
        return
    fields = {"reason": failure.reason, "message": str(failure), "retry": failure.retry}
    os.write(outcome, json.dumps(fields | {"retryAfter": getattr(failure, "retry_after", None)}).encode())
    # Without waiting for the other threads, which may wait for the network: what they wrote is continued later.
    os._exit(1)


if __name__ == "__main__":
    main()
