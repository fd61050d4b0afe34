"""What a model's hub says about it, config.json and the size of the weights: one blocking read."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants, hf_hub_download, model_info, parse_safetensors_file_metadata
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from llm_operator.facts import Fact, Known, Pending, Unknowable
from llm_operator.models import (
    ModelConfigError,
    ModelShape,
    UnknownModelError,
    contradiction,
    parse_config_text,
    read_index,
)

log = logging.getLogger("llm_operator.models")

FETCH_TIMEOUT_SECONDS = 20.0
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What config.json and the sizes of the weights say about a model.

    Attributes:
        shape: the model.
        revision: the commit that was read; None for files that have none.
    """

    shape: ModelShape
    revision: str | None = None


def fetch_facts(repository: str, revision: str | None) -> Fact[ModelFacts]:
    """Read config.json and the size of the weights from the hub; blocking. Never raises: the fact says what went wrong.

    The hub's endpoint, a proxy and the offline mode are huggingface_hub's own settings (HF_ENDPOINT, HTTPS_PROXY,
    HF_HUB_OFFLINE). Gated repositories cannot be read, because the operator reads no Secrets.
    """
    try:
        return _read(repository, revision)
    except Exception as error:  # the client raises its transport's own errors for a hub that is away
        log.debug("%s could not be read from the hub", repository, exc_info=True)
        words = {"repository": repository, "revision": revision, "said": _first_line(error), "host": host()}
        if isinstance(error, LocalEntryNotFoundError):
            return unreachable(_first_line(error))
        for kind, reason, text in _FAILURES:
            if isinstance(error, kind):
                return Unknowable(reason, text.format(**words))
        if isinstance(error, HfHubHTTPError):
            return Pending("HubError", "the hub {host} refused: {said}".format(**words), failed=True)
        return unreachable(_first_line(error))


def host() -> str:
    """The hub's host name, with its port where it has one."""
    return urlsplit(constants.ENDPOINT).netloc or constants.ENDPOINT


def unreachable(said: str) -> Pending:
    """The hub did not answer, or not with what a hub says."""
    text = f"the hub {host()} cannot be reached: {said}; check the network, HTTPS_PROXY or HF_ENDPOINT"
    return Pending("HubUnreachable", text, failed=True)


# The first that an error is an instance of; the client's errors are subclasses of each other.
_FAILURES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
    (HFValidationError, "ModelNotFound", "{repository!r} is not a valid repository name, such as org/model"),
    (
        GatedRepoError,
        "ModelGated",
        "{repository} is gated on {host}: the operator reads no token, so the engine finds out; the plan stays Unknown",
    ),
    (
        RepositoryNotFoundError,
        "ModelNotFound",
        "{repository} does not exist on the hub {host}, or is private: check spec.model and its credentials",
    ),
    (RevisionNotFoundError, "RevisionNotFound", "{repository} has no revision {revision!r} on the hub {host}"),
    (
        OfflineModeIsEnabled,
        "HubUnreachable",
        "the hub cannot be reached: HF_HUB_OFFLINE is set; the engine's own defaults stand",
    ),
    (EntryNotFoundError, "ModelUnsupported", "{repository} has no config.json on the hub {host}"),
)


def _read(repository: str, revision: str | None) -> Fact[ModelFacts]:
    """The facts of one repository. Raises the hub client's errors."""
    info = model_info(repository, revision=revision, timeout=FETCH_TIMEOUT_SECONDS)
    files = frozenset(sibling.rfilename for sibling in info.siblings or ())
    commit = info.sha or revision
    with tempfile.TemporaryDirectory(prefix="llm-operator-") as folder:

        def read() -> tuple[ModelShape, int | None]:
            shape = parse_config_text(_download(repository, CONFIG, commit, folder))
            if INDEX in files:
                return shape, read_index(_download(repository, INDEX, commit, folder)).total_bytes
            if SINGLE not in files:
                return shape, None
            header = parse_safetensors_file_metadata(repository, SINGLE, revision=commit, timeout=FETCH_TIMEOUT_SECONDS)
            return shape, max((tensor.data_offsets[1] for tensor in header.tensors.values()), default=None)

        return facts_of(read, repository, info.sha)


def facts_of(
    read: Callable[[], tuple[ModelShape, int | None]], repository: str = "", revision: str | None = None
) -> Known[ModelFacts] | Unknowable:
    """The facts in config.json, or why there are none.

    Args:
        read: gives the shape that config.json tells and the bytes of all tensors, None where these are not known; may
            raise ModelConfigError.
        repository: for the message; empty for files of a volume.
        revision: the commit that is read.
    """
    of, begin = (f" of {repository}", f"{repository}: ") if repository else ("", "")
    try:
        shape, stored = read()
    except UnknownModelError as error:
        return Unknowable("ModelUnknown", f"config.json{of}: {error}")
    except ModelConfigError as error:
        return Unknowable("ModelUnsupported", f"{begin}{error}")
    told = contradiction(shape, stored) if stored is not None else None
    if told is not None:
        return Unknowable("WeightsContradictConfig", f"{begin}{told}")
    return Known(ModelFacts(shape, revision))


def _download(repository: str, name: str, revision: str | None, folder: str) -> bytes:
    return Path(hf_hub_download(repository, name, revision=revision, local_dir=folder)).read_bytes()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
