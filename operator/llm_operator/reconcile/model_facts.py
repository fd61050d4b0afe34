"""What is known of a model, by config.json and the sizes of its weights: a hub says, or a Job that looked. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.facts import Known, Unknowable
from llm_operator.models import (
    ModelConfigError,
    ModelShape,
    UnknownModelError,
    completed,
    contradiction,
    parse_config_text,
    unknown_with_files,
)

Model = tuple[str, str]
"""Repository and revision; empty: the default branch."""

NOT_ON_A_HUB = {
    "model_scope": "modelScope",
    "persistent_volume_claim": "persistentVolumeClaim",
    "image": "image",
}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What config.json and the sizes of the weights say about a model.

    Attributes:
        shape: the model.
        revision: the commit that was read; None for files that have none.
    """

    shape: ModelShape
    revision: str | None = None


def described(config: str | bytes, beside: str | bytes | None = None) -> ModelShape | UnknownModelError:
    """What config.json describes, or why that is unknown: what its weights take may be known all the same.

    Args:
        config: the content of config.json.
        beside: the content of hf_quant_config.json, None if there is none.

    Raises:
        ModelConfigError: it describes nothing that an engine serves.
    """
    try:
        return parse_config_text(config, beside)
    except UnknownModelError as error:
        return error


def facts_of(
    read: Callable[[], tuple[ModelShape | UnknownModelError, int | None]],
    repository: str = "",
    revision: str | None = None,
) -> Known[ModelFacts] | Unknowable:
    """The facts in config.json, or why there are none.

    Args:
        read: gives what config.json describes and the bytes of all tensors, None if these are not known; may raise
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
    try:
        shape = completed(shape, stored)
    except UnknownModelError as error:
        return Unknowable("ModelUnknown", f"config.json{of}: {error}")
    told = contradiction(shape, stored) if stored is not None else None
    if told is not None:
        return Unknowable("WeightsContradictConfig", f"{begin}{told}")
    return Known(ModelFacts(shape, revision))


def model_of(spec: LLMDeploymentSpec) -> Model | None:
    """The repository and revision of a model on the Hugging Face hub; None for others."""
    source = spec.model.hugging_face
    return (source.repository, source.revision or "") if source is not None else None


def not_inspected(spec: LLMDeploymentSpec) -> Unknowable:
    """Of a model that no hub has, and that nothing reads before its engine does."""
    kind = next((name for field, name in NOT_ON_A_HUB.items() if getattr(spec.model, field)), "model")
    text = (
        f"no plan: config.json of a model from {kind} was not read, so the engine's own defaults stand; "
        "set spec.parallelism, spec.contextLength and spec.kvCache yourself where they matter"
    )
    return Unknowable("ModelNotInspected", text)
