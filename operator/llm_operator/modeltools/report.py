"""How a tool talks to the operator: progress on standard output, one result in a file, an exit code.

The operator reads the last line of the log that parses as progress, and the result from the container's termination
message, of which the kubelet keeps 4096 bytes (MaxContainerTerminationMessageLength in kubelet 1.31's
pkg/kubelet/container/runtime.go).
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn, TextIO

from llm_operator.modeltools.text import read_json

Stage = Literal[
    "Resolving",
    "Waiting",
    "Fetching",
    "Verifying",
    "Inspecting",
    "Calibrating",
    "Quantizing",
    "Evaluating",
    "Converting",
    "Removing",
]
Reason = Literal[
    "ModelNotFound",
    "RevisionNotFound",
    "ModelGated",
    "ModelAccessDenied",
    "HubRateLimited",
    "HubUnreachable",
    "CABundleUnusable",
    "DownloadStalled",
    "DiskFull",
    "WeightsMissing",
    "ModelConfigMissing",
    "ModelPathMissing",
    "WeightsCorrupt",
    "UnsupportedArchitecture",
    "RecipeRefused",
    "CalibrationDataMissing",
    "GPUOutOfMemory",
    "HostMemoryExhausted",
    "QuantizationFailed",
    "ConversionFailed",
    "QualityTooLow",
    "Interrupted",
    "ToolFailed",
]

DONE = 0
FINAL_FAILURE = 3
"""Nothing changes by trying again."""
RETRY_FAILURE = 4
"""Another pod may succeed."""
TERMINATED = 128 + signal.SIGTERM

RESULT_FILE = "/dev/termination-log"
RESULT_BYTES = 4096
PROGRESS_SECONDS = 2.0
"""Least time between two lines of one stage."""


class ToolError(Exception):
    """A foreseeable failure, reported to the user as it is."""

    def __init__(self, reason: Reason, message: str, *, retry: bool = False) -> None:
        """Take the reason, a text (what was wrong, what was expected, what to do) and whether another try may help."""
        super().__init__(message)
        self.reason: Reason = reason
        self.retry = retry


class Progress:
    """Writes progress lines: at most one every two seconds, and one at every change of stage."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.told: Callable[[int], None] | None = None
        """Called with the bytes of every line that has them."""
        self._stream = stream or sys.stdout
        self._clock = clock
        self._stage: Stage | None = None
        self._written = float("-inf")

    def show(  # noqa: PLR0913
        self,
        stage: Stage,
        *,
        percent: float | None = None,
        done_bytes: int | None = None,
        total_bytes: int | None = None,
        bytes_per_second: float | None = None,
        seconds_left: float | None = None,
        detail: str | None = None,
        now: bool = False,
    ) -> None:
        """Tell how far a stage is; unknown numbers are left out.

        A line is skipped where the last one of the same stage is younger than PROGRESS_SECONDS, unless `now` is set.
        Without `percent` it follows from the bytes.
        """
        time_now = self._clock()
        if stage == self._stage and not now and time_now - self._written < PROGRESS_SECONDS:
            return
        if percent is None and done_bytes is not None and total_bytes:
            percent = min(100 * done_bytes // total_bytes, 100)
        numbers = {
            "percent": percent,
            "bytes": done_bytes,
            "totalBytes": total_bytes,
            "bytesPerSecond": bytes_per_second,
            "secondsLeft": seconds_left,
        }
        line: dict[str, object] = {"stage": stage}
        line |= {name: int(number) for name, number in numbers.items() if number is not None}
        if detail:
            line["detail"] = detail[:200]
        self._stage, self._written = stage, time_now
        self._stream.write(json.dumps({"progress": line}) + "\n")
        self._stream.flush()
        if self.told is not None and done_bytes is not None:
            self.told(done_bytes)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every command has."""
    parser.add_argument("--result", default=RESULT_FILE, metavar="FILE", help="where the result is written")


def finish(
    result_file: str,
    work: Callable[[], Mapping[str, object]],
    leftover: Callable[[], Mapping[str, object]] = dict,
) -> int:
    """Do the work of a command, write its result and give the exit code.

    SIGTERM is raised inside of the work as SystemExit(143), so that its `finally` blocks end what it started.

    Args:
        result_file: where the result is written.
        work: returns the fields of a success, or raises ToolError.
        leftover: asked after a failure: which directory is half-done, and the bytes in it; empty if nothing is. A
            result says it too, and without it a command that was ended writes no result.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        fields = work()
    except ToolError as error:
        return _failed(result_file, error, leftover)
    except SystemExit as request:
        unfinished(result_file, _known(leftover))
        return int(request.code or 0)
    except Exception as error:
        traceback.print_exc()
        failure = ToolError("ToolFailed", f"{type(error).__name__}: {error}", retry=True)
        return _failed(result_file, failure, leftover)
    write_result(result_file, {"ok": True, **fields})
    return DONE


def unfinished(result_file: str, leftover: Mapping[str, object]) -> None:
    """Say what is being written, for the case that no other words follow: a process may be killed without notice.

    Nothing is written if nothing is left.
    """
    if leftover:
        text = "the tool was ended before it was done; the next one begins with what is there"
        write_result(result_file, {"ok": False, "reason": "Interrupted", "message": text, "retry": True, **leftover})


def write_result(result_file: str, fields: Mapping[str, object]) -> None:
    """Write a result, cut to RESULT_BYTES: `config` is left out first, then the longest texts are shortened.

    In place and not by renaming: the termination log is a file that the kubelet mounts.
    """
    text = _fitting(dict(fields))
    try:
        Path(result_file).write_bytes(text)
    except OSError as error:
        sys.stderr.write(f"the result could not be written to {result_file} ({error.strerror}): {text.decode()}\n")


def encode_config(config: bytes) -> str:
    """config.json as base64 of gzip of its compact form."""
    compact = json.dumps(read_json(config), separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(gzip.compress(compact.encode(), mtime=0)).decode()


def _failed(result_file: str, error: ToolError, leftover: Callable[[], Mapping[str, object]]) -> int:
    sys.stderr.write(f"{error.reason}: {error}\n")
    fields = {"ok": False, "reason": error.reason, "message": str(error), "retry": error.retry}
    write_result(result_file, {**fields, **_known(leftover)})
    return RETRY_FAILURE if error.retry else FINAL_FAILURE


def _known(leftover: Callable[[], Mapping[str, object]]) -> Mapping[str, object]:
    # The failure is reported even if a volume does not answer.
    try:
        return leftover()
    except (OSError, ToolError):
        return {}


def _fitting(fields: dict[str, object]) -> bytes:
    text = _encoded(fields)
    if len(text) > RESULT_BYTES:
        fields.pop("config", None)
        text = _encoded(fields)
    while len(text) > RESULT_BYTES:
        name = max(fields, key=lambda field: len(_encoded(fields[field])))
        value = fields[name]
        if not isinstance(value, str):
            del fields[name]
        else:
            # A character takes up to 12 bytes (an escaped pair): halving what is too much comes to an end soon enough.
            fields[name] = value[: max(len(value) - max((len(text) - RESULT_BYTES) // 2, 8), 0)] + "..."
        text = _encoded(fields)
    return text


def _encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    # Once: a second SIGTERM must not tear the clean-up that the first one began.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(TERMINATED)
