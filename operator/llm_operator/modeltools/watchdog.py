"""Downloads with an end: a transfer that stands still is killed and continued, and a failure is tried again."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from llm_operator.modeltools import child, layout, transfer
from llm_operator.modeltools.hub import RateLimitedError, RemoteFile
from llm_operator.modeltools.report import Progress, ToolError

POLL_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 900.0
"""Between two attempts; who is asked to wait longer fails, and the next pod comes later."""
START_SECONDS = 30.0
OUTCOME_BYTES = 64 << 10
"""For the process to come up, before it counts as stalled."""
RATE_SECONDS = 10.0
"""The rate is the mean of so much time."""
HUB_CACHE_TOP = ".cache"
HUB_CACHE = Path(HUB_CACHE_TOP, "huggingface")
"""What hf_hub_download keeps below its local_dir."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """When to give up."""

    stall_seconds: float
    """Without a byte, until the transfer is killed."""
    attempts: int
    """In a row, with less than a hundredth of the model transferred."""
    backoff_seconds: float
    """Before the second attempt; doubles with each further one."""

    def wait(self, failed: int, error: ToolError) -> float:
        """Seconds to wait after this many failures; raises the error if waiting is useless."""
        if not error.retry or failed >= self.attempts:
            raise error
        seconds: float = min(self.backoff_seconds * 2 ** (failed - 1), LONGEST_WAIT_SECONDS)
        if isinstance(error, RateLimitedError) and error.retry_after is not None:
            seconds = max(seconds, error.retry_after)
        if seconds > LONGEST_WAIT_SECONDS:
            raise error
        return seconds


class Meter:
    """Bytes of a job on the disk, and how fast they become more."""

    def __init__(self, job: transfer.Job) -> None:
        self._job = job
        self._samples: deque[tuple[float, int]] = deque()
        self._sizes: dict[str, int] = {}
        self.detail: str | None = None
        """The file that grew last."""

    def bytes(self) -> int:
        """What is there now, of whole and of partial files."""
        total = 0
        for file in self._job.files:
            size = self._size(file)
            if size > self._sizes.get(file.name, 0):
                self.detail = file.name
            self._sizes[file.name] = size
            total += size
        return total + self._unnamed()

    def show(self, progress: Progress, done: int, *, now: bool = False) -> None:
        """A progress line; see Progress.show."""
        time_now = time.monotonic()
        self._samples.append((time_now, done))
        while len(self._samples) > 2 and time_now - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()
        seconds, before = time_now - self._samples[0][0], self._samples[0][1]
        rate = max(done - before, 0) / seconds if seconds > 0 else None
        left = (self._job.bytes - done) / rate if rate else None
        progress.show(
            "Fetching",
            done_bytes=min(done, self._job.bytes),
            total_bytes=self._job.bytes,
            bytes_per_second=rate,
            seconds_left=left,
            detail=self.detail,
            now=now,
        )

    def _size(self, file: RemoteFile) -> int:
        for path in (file.within(self._job.folder), *self._job.partial_files(file)):
            with contextlib.suppress(FileNotFoundError):
                return path.stat().st_size
        return 0

    def _unnamed(self) -> int:
        """Xet writes to files with random names, perhaps with holes; their blocks count."""
        total = 0
        for path in (self._job.folder / HUB_CACHE).glob("download/**/*.incomplete"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                total += min(status.st_size, status.st_blocks * 512)
        return total


def download(job: transfer.Job, patience: Patience, progress: Progress) -> dict[str, str]:
    """Download all files of a job; their sha256 by name.

    Raises:
        ToolError: it failed for good, or as often as patience allows.
    """
    meter = Meter(job)
    failed = 0
    done = meter.bytes()
    check_space(job, done)
    while True:
        error = _attempt(job, patience, meter, progress)
        if error is None:
            return transfer.Journal(job).hashes()
        if error.reason == "DiskFull":
            raise _disk_full(job, meter.bytes())
        before, done = done, meter.bytes()
        failed = 1 if done - before >= max(job.bytes // 100, 1) else failed + 1
        seconds = patience.wait(failed, error)
        _pause(seconds, f"{error.reason}: next attempt in {seconds:.0f} s", meter, progress)
        # Xet cannot continue a file; plain HTTP can.
        job = dataclasses.replace(job, xet=False)


def check_space(job: transfer.Job, done: int) -> None:
    """Whether the volume has room for what is missing.

    Raises:
        ToolError: DiskFull.
    """
    job.work.mkdir(parents=True, exist_ok=True)
    if job.bytes - done > _free(job.folder):
        raise _disk_full(job, done)


def _attempt(job: transfer.Job, patience: Patience, meter: Meter, progress: Progress) -> ToolError | None:
    shutil.rmtree(job.folder / HUB_CACHE, ignore_errors=True)
    with contextlib.closing(transfer.Activity()) as activity:
        command = [sys.executable, "-m", transfer.__name__, str(job.write()), str(activity.file)]
        with child.running(
            command, env=_environment(job), stdout=subprocess.PIPE, pass_fds=[activity.file], grace_seconds=2
        ) as process:
            moving = _watched(process, activity, patience, meter, progress)
            if moving and process.returncode == 0:
                return None
            said = process.stdout.read(OUTCOME_BYTES) if moving and process.stdout is not None else b""
        if not moving:
            return ToolError(
                "DownloadStalled",
                f"no byte of {job.repository} arrived for {patience.stall_seconds:.0f} s, and that {patience.attempts} "
                f"times; {meter.bytes()} of {job.bytes} bytes are there and will be continued. Check the network, the "
                "proxy and the hub's status",
                retry=True,
            )
    ended = f"the downloading process ended with code {process.returncode}, without a reason"
    return transfer.read_outcome(said) or ToolError("ToolFailed", ended, retry=True)


def _watched(
    process: subprocess.Popen[bytes],
    activity: transfer.Activity,
    patience: Patience,
    meter: Meter,
    progress: Progress,
) -> bool:
    """Wait for the end; False if nothing moved for too long."""
    seen = (-1, -1)
    moved = time.monotonic()
    while True:
        ended = process.poll() is not None
        done = meter.bytes()
        now = (done, activity.read())
        if now != seen:
            seen, moved = now, time.monotonic()
        meter.show(progress, done, now=ended)
        if ended:
            return True
        begun = now[1] > 0
        if time.monotonic() - moved > (patience.stall_seconds if begun else START_SECONDS + patience.stall_seconds):
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)


def _environment(job: transfer.Job) -> dict[str, str]:
    """The libraries write no lock, no cache and no log outside of the volume; the user's own settings win."""
    settings = {
        "HF_HOME": str(job.work / "home"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MODELSCOPE_DOWNLOAD_FILE_LOCK": "false",
        # Failures are counted, waited for and reported here.
        "MODELSCOPE_DOWNLOAD_MAX_RETRIES": "0",
        "TQDM_DISABLE": "1",
    }
    # Where this package is, whatever started it.
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return settings | os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _pause(seconds: float, detail: str, meter: Meter, progress: Progress) -> None:
    end = time.monotonic() + seconds
    meter.detail = detail
    meter.show(progress, meter.bytes(), now=True)
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 1.0))
        meter.show(progress, meter.bytes())


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _disk_full(job: transfer.Job, done: int) -> ToolError:
    needed, free = max(job.bytes - done, 0), _free(job.folder)
    leftover = layout.size_of(job.folder)
    return ToolError(
        "DiskFull",
        f"{job.repository} needs {needed} more bytes ({job.bytes} in all), the volume has {free} free: enlarge the "
        f"claim, or remove unused models (kubectl llm cache). What is there so far ({leftover} bytes) stays",
    )
