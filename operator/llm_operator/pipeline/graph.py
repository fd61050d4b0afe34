"""The graph of artifacts: what Jobs make for an object, from what, and where its engine finds it. Pure.

A node is one artifact. The nodes of a branch follow each other: each continues with what the one before it made. What
the last one of the branch `model` made is the model that is served. Branches do not wait for each other, and what the
others made is mounted beside the model: an adapter or a draft model is a node of a separate branch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from llm_operator.api.model import ModelSpec
from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.model_source import digest_of, from_hub
from llm_operator.manifests.model_volume import Prepared
from llm_operator.pipeline.artifacts import (
    Artifact,
    converted_artifact,
    fetched_artifact,
    fetched_directory,
    inspected_artifact,
    made_directory,
    quantized_artifact,
    recipe_suffix,
)
from llm_operator.pipeline.quality import quantization_status_of
from llm_operator.pipeline.result import Result
from llm_operator.planning.outcome import PlanOutcome

MODEL = "model"
"""The branch whose end is served."""


def _own_model(resource: LLMDeployment) -> ModelSpec:
    return resource.spec.model


def _repository(resource: LLMDeployment, artifact: Artifact, before: str) -> str:
    return ""


def _commits(artifact: Artifact, output: str) -> re.Pattern[str]:
    return fetched_directory(artifact.about)


def _made(artifact: Artifact, output: str) -> re.Pattern[str]:
    return made_directory(output)


def _accepted(plan: PlanOutcome) -> tuple[str, ...]:
    return ()


def _as_it_was(prepared: Prepared, before: Prepared, result: Result) -> Prepared:
    return prepared


@dataclass(frozen=True, slots=True)
class Node:
    """One artifact, as it is made for any object that needs it.

    Attributes:
        artifact: what is to be made for an object; None: the object does not need it.
        doing: reason of its condition while it is made.
        done: and when it is there.
        branch: see above; of another one than `model` it is also the name under which the engine's pod has it.
        before_plan: the plan waits for it, and nothing is mounted; pipeline/prepare.inspecting() judges it.
        model: what is fetched, for a node that fetches.
        output: directory of the cache to be made: from the object, the artifact and the directory made before it; a
            node that fetches names none, since only the hub knows the commit.
        makes: directories that a Job of it may report, from the artifact and the output.
        problems: why the plan says that it cannot be made.
        prepared: what is kept of its result beside directory, size and revision: from what is prepared now, what was
            prepared before it, and the result.
    """

    artifact: Callable[[LLMDeployment], Artifact | None]
    doing: str
    done: str
    branch: str = MODEL
    before_plan: bool = False
    model: Callable[[LLMDeployment], ModelSpec] = _own_model
    output: Callable[[LLMDeployment, Artifact, str], str] = _repository
    makes: Callable[[Artifact, str], re.Pattern[str]] = _commits
    problems: Callable[[PlanOutcome], tuple[str, ...]] = _accepted
    prepared: Callable[[Prepared, Prepared, Result], Prepared] = _as_it_was


def output_directory(resource: LLMDeployment, directory: str) -> str:
    """Directory of the cache beside which a result is put; the recipe's suffix follows."""
    if from_hub(resource) or directory.startswith("models/"):
        return directory
    model = resource.spec.model
    if model.persistent_volume_claim is not None:
        return f"models/claim--{model.persistent_volume_claim.claim_name}/{digest_of(directory)}"
    reference = model.image.reference if model.image is not None else ""
    return f"models/image--{digest_of(reference)}/{digest_of(directory)}"


def _quantized_output(resource: LLMDeployment, artifact: Artifact, before: str) -> str:
    return output_directory(resource, before) + recipe_suffix(resource)


def _quantized(prepared: Prepared, before: Prepared, result: Result) -> Prepared:
    revision = before.revision or result.revision
    return replace(prepared, revision=revision, format="AWQ", quantization=quantization_status_of(result))


def _recipe_problems(plan: PlanOutcome) -> tuple[str, ...]:
    return plan.quantization_problems


def _converted_output(resource: LLMDeployment, artifact: Artifact, before: str) -> str:
    return f"{output_directory(resource, before)}--turbomind-{artifact.digest[:8]}"


NODES: dict[str, Node] = {
    "inspect": Node(inspected_artifact, "Inspecting", "Inspected", before_plan=True),
    "fetch": Node(fetched_artifact, "Fetching", "Cached"),
    "quantize": Node(
        quantized_artifact,
        "Quantizing",
        "Quantized",
        output=_quantized_output,
        makes=_made,
        problems=_recipe_problems,
        prepared=_quantized,
    ),
    "convert": Node(converted_artifact, "Converting", "Converted", output=_converted_output, makes=_made),
}
"""By name; nodes of a branch in the order in which they are made."""


def branches() -> Mapping[str, tuple[Node, ...]]:
    """The nodes that follow a plan, by branch; the model's is the first."""
    found: dict[str, list[Node]] = {MODEL: []}
    for node in NODES.values():
        if not node.before_plan:
            found.setdefault(node.branch, []).append(node)
    return {branch: tuple(nodes) for branch, nodes in found.items()}


def artifacts_of(resource: LLMDeployment) -> tuple[Artifact, ...]:
    """Everything that an object needs made, in order."""
    found = (node.artifact(resource) for node in NODES.values())
    return tuple(artifact for artifact in found if artifact is not None)
