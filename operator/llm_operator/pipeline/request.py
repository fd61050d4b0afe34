"""What the Job of one artifact is made from. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from llm_operator.api.model import ModelSpec
from llm_operator.api.resource import LLMDeployment
from llm_operator.live.claims import ClaimFacts
from llm_operator.pipeline.artifacts import (
    Artifact,
)
from llm_operator.settings import ToolSettings


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One Job to be made.

    Attributes:
        resource: the first object that needs it; placement and pull secrets are its own.
        artifact: what it makes.
        tools: the operator's settings.
        claim: claim that it writes to, or reads from when it only inspects; None for an image.
        source_claim: further claim that holds the original, when that is another one.
        source_directory: directory of the original on its volume.
        output_directory: directory to be made.
        memory_bytes: host memory that it will need; None: not known.
        source_in_cache: the original lies on `claim` itself.
        model: what a Job that fetches fetches; None: the model that the object serves.
        leftover: partial output of an earlier Job of this name, as its annotation; empty if none is known.
    """

    resource: LLMDeployment
    artifact: Artifact
    tools: ToolSettings
    claim: ClaimFacts | None = None
    source_claim: ClaimFacts | None = None
    source_directory: str = ""
    output_directory: str = ""
    memory_bytes: int | None = None
    source_in_cache: bool = True
    leftover: str = ""
    model: ModelSpec | None = None
