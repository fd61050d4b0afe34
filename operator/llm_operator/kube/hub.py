"""What is known of a model on a hub, whoever reads it: hub_files.py does, for the operator in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from huggingface_hub import constants

from llm_operator.facts import Known, Pending, Unknowable
from llm_operator.models import (
    ModelConfigError,
    ModelShape,
    UnknownModelError,
    contradiction,
    parse_config_text,
    unknown_with_files,
)

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


def host() -> str:
    """The hub's host name, with its port where it has one."""
    return urlsplit(constants.ENDPOINT).netloc or constants.ENDPOINT


def unreachable(said: str) -> Pending:
    """The hub did not answer, or not with what a hub says."""
    text = f"the hub {host()} cannot be reached: {said}; check the network, HTTPS_PROXY or HF_ENDPOINT"
    return Pending("HubUnreachable", text, failed=True)


def described(config: str | bytes) -> ModelShape | UnknownModelError:
    """What config.json describes, or why that is unknown: what its weights take may be known all the same.

    Raises:
        ModelConfigError: it describes nothing that an engine serves.
    """
    try:
        return parse_config_text(config)
    except UnknownModelError as error:
        return error


def facts_of(
    read: Callable[[], tuple[ModelShape | UnknownModelError, int | None]],
    repository: str = "",
    revision: str | None = None,
) -> Known[ModelFacts] | Unknowable:
    """The facts in config.json, or why there are none.

    Args:
        read: gives what config.json describes and the bytes of all tensors, None where these are not known; may raise
            ModelConfigError.
        repository: for the message; empty for files of a volume.
        revision: the commit that is read.
    """
    of, begin = (f" of {repository}", f"{repository}: ") if repository else ("", "")
    try:
        shape, stored = read()
    except ModelConfigError as error:
        return Unknowable("ModelUnsupported", f"{begin}{error}")
    if isinstance(shape, UnknownModelError):
        return Unknowable("ModelUnknown", f"config.json{of}: {unknown_with_files(str(shape), stored)}")
    told = contradiction(shape, stored) if stored is not None else None
    if told is not None:
        return Unknowable("WeightsContradictConfig", f"{begin}{told}")
    return Known(ModelFacts(shape, revision))
