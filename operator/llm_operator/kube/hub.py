"""What a model's hub says about it, config.json and the size of the weights: one blocking read."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
    """What is known of a model.

    shape: None where nothing could be learned; then reason and message say why. pending: facts are on their way.
    """

    shape: ModelShape | None = None
    revision: str | None = None
    pending: bool = False
    reason: str = ""
    message: str = ""


def fetch_facts(repository: str, revision: str | None) -> ModelFacts:
    """Read config.json and the size of the weights from the hub; blocking. Never raises: the facts say what went wrong.

    The hub's endpoint, a proxy and the offline mode are huggingface_hub's own settings (HF_ENDPOINT, HTTPS_PROXY,
    HF_HUB_OFFLINE). Gated repositories cannot be read, because the operator reads no Secrets.
    """
    try:
        return _read(repository, revision)
    except Exception as error:  # the client raises its transport's own errors for a hub that is away
        log.debug("%s could not be read from the hub", repository, exc_info=True)
        reason, text = next((told for kind, *told in _FAILURES if isinstance(error, kind)), _UNREACHABLE)
        message = text.format(repository=repository, revision=revision, said=_first_line(error), hub=constants.ENDPOINT)
        return ModelFacts(reason=reason, message=message)


_UNREACHABLE = ("HubUnreachable", "the hub {hub} cannot be reached: {said}")
# The first that an error is an instance of; the client's errors are subclasses of each other.
_FAILURES = (
    (HFValidationError, "ModelNotFound", "{repository!r} is no name of a repository: expected such as org/model"),
    (
        GatedRepoError,
        "ModelGated",
        "{repository} is gated: the operator reads no token, so the engine finds out; the plan stays Unknown",
    ),
    (
        RepositoryNotFoundError,
        "ModelNotFound",
        "{repository} does not exist on the hub, or is private: check spec.model and its credentials",
    ),
    (RevisionNotFoundError, "RevisionNotFound", "{repository} has no revision {revision!r}"),
    ((LocalEntryNotFoundError, OfflineModeIsEnabled), *_UNREACHABLE),
    (EntryNotFoundError, "ModelUnsupported", "{repository} has no config.json"),
    (HfHubHTTPError, "HubError", "the hub refused: {said}"),
)


def _read(repository: str, revision: str | None) -> ModelFacts:
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

        return dataclasses.replace(facts_of(read, repository), revision=info.sha)


def facts_of(read: Callable[[], tuple[ModelShape, int | None]], repository: str = "") -> ModelFacts:
    """The facts in config.json, or why there are none.

    Args:
        read: gives the shape that config.json tells and the bytes of all tensors, None where these are not known; may
            raise ModelConfigError.
        repository: for the message; empty for files of a volume.
    """
    of, begin = (f" of {repository}", f"{repository}: ") if repository else ("", "")
    try:
        shape, stored = read()
    except UnknownModelError as error:
        return ModelFacts(reason="ModelUnknown", message=f"config.json{of}: {error}")
    except ModelConfigError as error:
        return ModelFacts(reason="ModelUnsupported", message=f"{begin}{error}")
    told = contradiction(shape, stored) if stored is not None else None
    if told is not None:
        return ModelFacts(reason="WeightsContradictConfig", message=f"{begin}{told}")
    return ModelFacts(shape=shape)


def _download(repository: str, name: str, revision: str | None, folder: str) -> bytes:
    return Path(hf_hub_download(repository, name, revision=revision, local_dir=folder)).read_bytes()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
