"""What the two hubs have in common: a model as a list of files, and the choice of those that an engine loads."""

from __future__ import annotations

import dataclasses
import errno
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from llm_operator.modeltools import paths
from llm_operator.modeltools.layout import SourceKind
from llm_operator.modeltools.report import Reason, ToolError

CONFIG = "config.json"
SAFETENSORS = "*.safetensors"
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
MOST_BYTES = 1 << 62
"""Of one file."""
MOST_FILES = 100_000
"""Of a repository; those of large models have some hundred."""
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")

# Weights in other formats, which are of no use beside safetensors, and what only the hub itself reads.
OTHER_WEIGHTS = (
    "*.bin", "*.bin.index.json", "*.pth", "*.pt", "*.ckpt", "*.gguf", "*.ggml", "*.h5", "*.msgpack", "*.onnx",
    "*.onnx_data", "*.ot", "*.tflite", "*.mlmodel", "*.nemo", "*.params.index.json",
)  # fmt: skip
NEVER = (".gitattributes", ".gitignore", "original/*", ".llm-operator*")
# Mistral's own format, which its repositories hold beside the same weights as model-*.safetensors.
CONSOLIDATED = ("consolidated*.safetensors", "consolidated.safetensors.index.json")


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file as a hub lists it."""

    name: str
    """Path within the repository, with forward slashes."""
    bytes: int
    sha256: str | None = None
    """Of the content, where the hub knows it (files in LFS or Xet)."""
    blob: str | None = None
    """Otherwise git's object id: sha1 of "blob <size>\\0" and the content."""
    xet: bool = False
    """Whether Hugging Face offers it by its Xet protocol."""

    def __post_init__(self) -> None:
        """Refuse names that lead elsewhere, and hashes of another shape: they become names of files.

        Raises:
            ToolError: WeightsCorrupt, HubUnreachable.
        """
        paths.parts_of(self.name, "WeightsCorrupt")
        if not isinstance(self.bytes, int) or not 0 <= self.bytes < MOST_BYTES:
            raise ToolError("WeightsCorrupt", f"the hub lists {self.name!r} with {str(self.bytes)[:40]} bytes")
        for value, shape in ((self.sha256, SHA256), (self.blob, COMMIT)):
            if value is not None and not (isinstance(value, str) and shape.fullmatch(value)):
                text = f"the hub gives {self.name[:200]!r} the hash {str(value)[:80]!r}; expected hexadecimal digits"
                raise ToolError("HubUnreachable", text, retry=True)

    @property
    def identity(self) -> str:
        """Identifies the content, if the hub reports it."""
        return self.sha256 or self.blob or f"unknown-{re.sub(r'[^A-Za-z0-9.-]', '_', self.name)}"

    def within(self, folder: Path) -> Path:
        """Where it goes below a folder.

        Raises:
            ToolError: WeightsCorrupt: a symbolic link on the way leads elsewhere.
        """
        return paths.below(folder, self.name, "WeightsCorrupt")

    @staticmethod
    def of(fields: Mapping[str, Any]) -> RemoteFile:
        """From dataclasses.asdict."""
        return RemoteFile(**fields)


class RateLimitedError(ToolError):
    """The hub asks to wait."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        """Take the message and for how many seconds to wait, where the hub said so."""
        super().__init__("HubRateLimited", message, retry=True)
        self.retry_after = retry_after


class Hub(Protocol):
    """A source of models. Every method raises ToolError and nothing else for what a hub or a network does."""

    kind: SourceKind

    def commit(self, repository: str, revision: str | None) -> str:
        """The commit that a branch or tag stands for now; the default branch where it is None."""

    def files(self, repository: str, commit: str) -> list[RemoteFile]:
        """All files of a commit."""

    def fetch(self, file: RemoteFile, target: Transfer) -> str:
        """Download one file, continuing what is there, and check it against the hub; its sha256."""


class Transfer(Protocol):
    """Context and callbacks of Hub.fetch."""

    repository: str
    commit: str
    folder: Path
    """Where the files go, by their names."""
    xet: bool
    """Whether the Xet protocol may be used."""

    def incomplete(self, file: RemoteFile) -> Path:
        """Where the beginning of a file is kept until it is whole; the same one in every attempt."""

    def alive(self, count: int) -> None:
        """Tell that so many bytes were worked on, though the disk does not show it."""


def check_repository(repository: str) -> None:
    """Refuse what is not a valid repository name.

    Raises:
        ToolError: ModelNotFound.
    """
    if not REPOSITORY.fullmatch(repository) or ".." in repository:
        raise ToolError(
            "ModelNotFound", f"{repository!r} is not a valid repository name: expected, for example, organisation/model"
        )


def listing(files: Iterable[RemoteFile], repository: str) -> list[RemoteFile]:
    """All files of a commit, each in its own place.

    Raises:
        ToolError: WeightsCorrupt: there are too many, one is listed twice, or one is also the folder of another.
    """
    found: dict[str, RemoteFile] = {}
    for file in files:
        if file.name in found:
            raise ToolError(
                "WeightsCorrupt", f"the hub lists {file.name!r} of {repository} twice: try another revision"
            )
        found[file.name] = file
        if len(found) > MOST_FILES:
            raise ToolError("WeightsCorrupt", f"the hub lists more than {MOST_FILES:,} files of {repository}")
    for name in found:
        ends = (place for place, letter in enumerate(name) if letter == "/")
        folder = next((name[:end] for end in ends if name[:end] in found), None)
        if folder is not None:
            text = f"the hub lists {folder!r} of {repository} as a file and as a folder: try another revision"
            raise ToolError("WeightsCorrupt", text)
    return list(found.values())


def select(files: Sequence[RemoteFile], repository: str) -> list[RemoteFile]:
    """The files that an engine loads: safetensors, and everything that is not a weight.

    Raises:
        ToolError: ModelConfigMissing, WeightsMissing: an engine could not load what is there.
    """
    names = [file.name for file in files]
    weights = fnmatch.filter(names, SAFETENSORS)
    if not weights:
        raise ToolError("WeightsMissing", _no_safetensors(names, repository))
    if CONFIG not in names:
        raise ToolError(
            "ModelConfigMissing",
            f"{repository} has no config.json at its top, so no engine knows what its weights are: name a repository "
            "in the layout of Hugging Face's transformers",
        )
    refused = [*OTHER_WEIGHTS, *NEVER]
    if any(not fnmatch.fnmatch(name, CONSOLIDATED[0]) for name in weights):
        refused += CONSOLIDATED
    return [file for file in files if not any(fnmatch.fnmatch(file.name, pattern) for pattern in refused)]


def first_line(error: BaseException) -> str:
    """What an error of a library says, short enough for a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def refused_repository(reason: Reason, text: str, error: BaseException) -> ToolError:
    """A final failure with what the hub said."""
    return ToolError(reason, f"{text} (the hub said: {first_line(error)})")


def unreachable(endpoint: str, error: BaseException) -> ToolError:
    """The hub did not answer, or not with sense."""
    return ToolError(
        "HubUnreachable",
        f"the hub at {endpoint} cannot be reached: {type(error).__name__}: {first_line(error)}; check the endpoint, "
        "the proxy and the network policies",
        retry=True,
    )


def unwritable(error: BaseException) -> ToolError | None:
    """A failure of the volume, or None if the error is none."""
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ToolError("DiskFull", "the volume became full")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return ToolError(
            "ToolFailed",
            f"{error.filename}: {error.strerror}: check that the volume is mounted writable, and the pod's fsGroup",
        )
    return None


def _no_safetensors(names: Sequence[str], repository: str) -> str:
    pickled = [name for name in names if fnmatch.fnmatch(name, "*.bin") or fnmatch.fnmatch(name, "*.p*t*")]
    gguf = fnmatch.filter(names, "*.gguf")
    if pickled:
        return (
            f"{repository} has its weights only as {pickled[0]}: loading that runs code from the file (pickle), so it "
            "is not fetched. Name a revision or a repository with safetensors, or convert it once "
            "(transformers: save_pretrained) and serve it from a claim"
        )
    if gguf:
        return (
            f"{repository} has its weights only as {gguf[0]}, the format of llama.cpp: name the repository it was "
            "made from, or one with safetensors"
        )
    return f"{repository} has no weights: no *.safetensors among its {len(names)} files"
