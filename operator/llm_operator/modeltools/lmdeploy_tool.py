"""Running the engine's own command, `lmdeploy`, and telling why it failed."""

from __future__ import annotations

import collections
import dataclasses
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from llm_operator.modeltools import child
from llm_operator.modeltools.report import Reason, ToolError

PROGRAM = "lmdeploy"
FILE_MODE, FOLDER_MODE = 0o664, 0o775
TAIL_LINES = 400
_KILLED = (-9, 137)
_GPU_MEMORY = re.compile(
    r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|cudaErrorMemoryAlloc"
)
_HOST_MEMORY = re.compile(
    r"^MemoryError|not enough memory: you tried to allocate|Cannot allocate memory|std::bad_alloc", re.MULTILINE
)
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b.*")
_RULES: tuple[tuple[str, Reason, str], ...] = (
    (r"No space left on device", "DiskFull", "the volume became full: enlarge the claim, or remove unused models"),
    (
        r"No module named 'datasets'",
        "CalibrationDataMissing",
        "the image lacks the Python package `datasets`, which calibration needs: build images/lmdeploy and name it in "
        "weightQuantization.image, or set calibration.dataset to None",
    ),
    (
        r"No CUDA GPUs are available|Found no NVIDIA driver|Torch not compiled with CUDA enabled",
        "QuantizationFailed",
        "the container has no usable GPU: check the node's device plugin and driver",
    ),
    (
        r"trust_remote_code=True|requires you to execute",
        "RecipeRefused",
        "the model needs code of its repository: read that code, then set model.trustRemoteCode to true",
    ),
    (
        r"are not supported\. The supported model types|turbomind does not support",
        "UnsupportedArchitecture",
        "this version of LMDeploy does not know the model's architecture: serve the model as it is",
    ),
)


@dataclasses.dataclass(frozen=True)
class Ended:
    """How the command ended."""

    code: int
    """Exit code; negative: the signal that ended it."""
    tail: str
    """Its last lines."""

    @property
    def memory(self) -> Reason | None:
        """Which memory it ran out of, if that was the cause."""
        if self.code == 0:
            return None
        if _GPU_MEMORY.search(self.tail):
            return "GPUOutOfMemory"
        if self.code in _KILLED or _HOST_MEMORY.search(self.tail):
            return "HostMemoryExhausted"
        return None

    @property
    def last_error(self) -> str:
        """The line that says why, else the last one."""
        lines = [line.strip() for line in self.tail.splitlines() if line.strip()]
        errors = [line for line in lines if _EXCEPTION.match(line) or "error:" in line]
        return (errors or lines or ["it said nothing"])[-1][:600]


def installed_version() -> str | None:
    """Version of the LMDeploy that this Python has; None if it has none."""
    try:
        return importlib.metadata.version(PROGRAM)
    except importlib.metadata.PackageNotFoundError:
        return None


def run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], on_line: Callable[[str], None]) -> Ended:
    """Run the command to its end; every line that it prints is printed here as well, and handed to `on_line`.

    Raises:
        ToolError: ToolFailed: there is no such command.
    """
    program = shutil.which(command[0], path=env.get("PATH"))
    if program is None:
        raise ToolError(
            "ToolFailed",
            f"this image has no command `{command[0]}` on its PATH: name an image with LMDeploy, such as one built "
            "from images/lmdeploy",
        )
    tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
    with child.running(
        [program, *command[1:]], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it was requested
        for raw in process.stdout:
            # Progress bars write over their line: what was written last is what people would see.
            parts = [part for part in raw.decode(errors="replace").rstrip("\n").split("\r") if part.strip()] or [""]
            tail.append(parts[-1])
            sys.stdout.write(f"{parts[-1]}\n")
            sys.stdout.flush()
            for part in parts:
                on_line(part)
        code = process.wait()
    return Ended(code, "\n".join(tail))


def environment(scratch: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Environment of the command: what it writes on the side goes where any user id may write."""
    given = dict(os.environ)
    home = Path(given.get("HOME", "/"))
    if not os.access(home, os.W_OK):
        given["HOME"] = str(scratch)
    # torch's caches need the user's name, and pods run under ids that have none.
    given.setdefault("USER", "llm")
    return {**given, "PYTHONUNBUFFERED": "1", **extra}


def open_to_readers(directory: Path) -> None:
    """Let every user read what was written: safetensors' files are their owner's alone; engines are another user."""
    for folder, _, names in os.walk(directory):
        os.chmod(folder, FOLDER_MODE)
        for name in names:
            os.chmod(Path(folder, name), FILE_MODE)


def failure(ended: Ended, otherwise: Reason) -> ToolError:
    """What to tell of a command that failed for another reason than memory."""
    for pattern, reason, advice in _RULES:
        if re.search(pattern, ended.tail):
            return ToolError(reason, f"{advice}. It ended with: {ended.last_error}")
    how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
    # A broken GPU or driver is another pod's luck; a Python error comes again.
    again = ended.code < 0 or "CUDA error" in ended.tail
    return ToolError(otherwise, f"`lmdeploy` ended with {how}: {ended.last_error}", retry=again)
