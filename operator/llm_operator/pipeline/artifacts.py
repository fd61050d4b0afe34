"""What the stages before serving make, and how it is named: the same model and recipe always have the same name. Pure.

An artifact is made by one Job, whose name is a hash of everything that decides the result. Objects that need the
same artifact share the Job and the directory on the claim.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from llm_operator.api.model import ModelSpec
from llm_operator.api.resource import LLMDeployment
from llm_operator.engines.registry import QUANTIZER
from llm_operator.manifests.common import JSON
from llm_operator.manifests.model_source import cache_claim, digest_of, from_hub, source_words

_COMMIT = re.compile(r"[0-9a-f]{40}")

Stage = Literal["inspect", "fetch", "quantize", "convert", "remove", "verify"]

LABEL_ARTIFACT = "llm-operator.dev/artifact"

LABEL_CACHE = "llm-operator.dev/cache"
"""On a claim that the operator did not make: "true" lets its Jobs write models to it."""

ANNOTATION_RESULT = "llm-operator.dev/result"
"""On a finished Job: the result in its termination message, kept when its pod is gone."""

ANNOTATION_SOURCE = "llm-operator.dev/source"
"""On a Job: what it was made from, for people and `kubectl llm cache`."""

ANNOTATION_LEFTOVER = "llm-operator.dev/incomplete"
"""On a Job without a result: the partial output that its pods, or an earlier Job of its name, left on the claim."""

ANNOTATION_MADE_FOR = "llm-operator.dev/made-for"
"""On a Job: the object whose placement, pull secrets and overlay it has; others may wait for it too."""

ANNOTATION_JOB_TEMPLATE = "llm-operator.dev/job-template"
"""On a Job: hash of the pod template that it was made with, before anyone else changed it."""

ANNOTATION_UNUSED_SINCE = "llm-operator.dev/unused-since"

ANNOTATION_REMOVE = "llm-operator.dev/remove"
"""On a finished Job: "true" asks the operator to remove what it made or left, as soon as nothing uses it."""

ANNOTATION_VERIFIED = "llm-operator.dev/verified-at"
"""On a finished Job: when what it made was last read from the disk and compared with its hashes (RFC 3339)."""

ANNOTATION_DAMAGED = "llm-operator.dev/damaged"
"""On a finished Job: what differed then; absent if nothing did."""

QUANTIZE_VERSION = QUANTIZER.options.newest
"""LMDeploy whose `lite auto_awq` quantizes, whichever engine serves the result."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One thing that a Job makes.

    Attributes:
        stage: the command of the model tools.
        digest: hash of what decides the result; ten hexadecimal digits.
        about: the same in plain words, for people.
    """

    stage: Stage
    digest: str
    about: JSON

    @property
    def job_name(self) -> str:
        """Name of the Job that makes it."""
        return f"llm-{self.stage}-{self.digest}"


def removal_name(claim: str, directory: str) -> str:
    """Name of the Job that removes a directory from a claim, even if several Jobs made it under several names."""
    return f"llm-remove-{digest_of(claim, directory)}"


def verification_name(claim: str, directory: str) -> str:
    """Name of the Job that compares a directory of a claim with its hashes, for any Job that made it."""
    return f"llm-verify-{digest_of(claim, directory)}"


def source_artifact(resource: LLMDeployment) -> Artifact | None:
    """The fetched or inspected model; None if the engine's pod fetches it for itself."""
    return fetched_artifact(resource) or inspected_artifact(resource)


def inspected_artifact(resource: LLMDeployment) -> Artifact | None:
    """What is read of a model on a claim or in an image; None for a model of a hub."""
    if from_hub(resource):
        return None
    about = source_words(resource.spec.model)
    # An image is mounted by the kubelet with the object's own pull secrets, so it is inspected for each object.
    holder = resource.metadata.uid if about["kind"] == "image" else ""
    return Artifact("inspect", digest_of("inspect", about, holder), about)


def fetched_artifact(resource: LLMDeployment, model: ModelSpec | None = None) -> Artifact | None:
    """A model of a hub in the object's cache; None if the object has no cache, or the model is of no hub.

    Credentials count: a user who may not read a gated repository must not get it because another one could.

    Args:
        resource: the object.
        model: another model than the one that it serves.
    """
    fetched = model or resource.spec.model
    claim = cache_claim(resource)
    if claim is None or (fetched.hugging_face is None and fetched.model_scope is None):
        return None
    about, credentials = source_words(fetched), fetched.credentials
    parts = ("fetch", about, claim, credentials.to_json() if credentials else None)
    return Artifact("fetch", digest_of(*parts), {**about, "claimName": claim})


def quantized_artifact(resource: LLMDeployment) -> Artifact | None:
    """The quantized model; None if the weights are served as they are."""
    recipe = resource.spec.weight_quantization
    source = source_artifact(resource) if recipe is not None else None
    if recipe is None or source is None:
        return None
    # What does not change the weights is left out: another limit of the gate, another size of the Job.
    said = recipe.model_dump(mode="json", by_alias=True, exclude={"resources"})
    parts = ("quantize", source.digest, said, cache_claim(resource), QUANTIZE_VERSION)
    words = f"{recipe.method} W{recipe.bits} g{recipe.group_size} {recipe.calibration.dataset}"
    # For a model on a claim, that claim is named, and not the cache's: the Job belongs to that one anyway.
    about = {"claimName": cache_claim(resource), **source.about, "recipe": words}
    return Artifact("quantize", digest_of(*parts), about)


def converted_artifact(resource: LLMDeployment) -> Artifact | None:
    """The TurboMind workspace; None if the object has no conversion."""
    if resource.spec.engine.conversion != "TurboMind":
        return None
    source = quantized_artifact(resource) or source_artifact(resource)
    if source is None:
        return None
    tensor = resource.spec.parallelism.tensor or 1
    parts = ("convert", source.digest, tensor, resource.spec.engine.version, cache_claim(resource))
    words = f"TurboMind workspace, tensor parallelism {tensor}"
    return Artifact("convert", digest_of(*parts), {**source.about, "conversion": words})


def fetched_directory(about: JSON) -> re.Pattern[str]:
    """The directories that a model of a hub may be fetched into: of this repository, and of a commit."""
    kind = {"huggingFace": "hf", "modelScope": "ms"}.get(about["kind"], "none")
    revision = str(about.get("revision") or "")
    # Whatever length a hub's commits have: names of branches are none.
    commit = revision if _COMMIT.fullmatch(revision) else "[0-9a-f]{1,64}"
    return re.compile(f"models/{kind}--{re.escape(str(about.get('repository', '')).replace('/', '--'))}/{commit}")


def made_directory(output: str) -> re.Pattern[str]:
    """The directories that may be made of a model: in its own folder, of one of its commits, and of the same kind.

    Args:
        output: the directory that a Job made now would make. An earlier one may have made it of an earlier commit.
    """
    folder, _, name = output.rpartition("/")
    original, _, recipe = name.partition("--")
    kind = recipe.rpartition("--")[2].partition("-")[0]
    commit = f"(?:{re.escape(original)}|{_COMMIT.pattern})"
    return re.compile(f"{re.escape(folder)}/{commit}--(?:[A-Za-z0-9-]+--)?{re.escape(kind)}(?:-[A-Za-z0-9-]+)?")


def recipe_suffix(resource: LLMDeployment) -> str:
    """End of a quantized model's directory: recipe and tool, so that other recipes lie beside it."""
    recipe = resource.spec.weight_quantization
    if recipe is None:
        return ""
    calibration = recipe.calibration.model_dump(mode="json", by_alias=True)
    hashed = digest_of(recipe.method, recipe.bits, recipe.group_size, calibration, QUANTIZE_VERSION)[:8]
    return f"--awq-w{recipe.bits}-g{recipe.group_size}-{hashed}"
