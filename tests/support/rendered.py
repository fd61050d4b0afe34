"""Everything that is applied for one object, without a cluster: its children and the Jobs of the model tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from llm_operator.api import KIND
from llm_operator.api.resource import LLMDeployment
from llm_operator.engines import KVAllocation, RenderRequest, render
from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.claim import cache_volume_claim
from llm_operator.manifests.deployment import deployment, pod_template
from llm_operator.manifests.model_source import cache_claim, source_claim
from llm_operator.manifests.model_volume import Prepared, model_path
from llm_operator.manifests.pod_disruption_budget import pod_disruption_budget
from llm_operator.manifests.revision import content_of, revision
from llm_operator.manifests.service import service
from llm_operator.pipeline.artifacts import recipe_suffix
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job import model_job
from llm_operator.pipeline.request import JobRequest
from llm_operator.settings import ToolSettings

JSON = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
PUBLIC = ROOT / "tests" / "unit" / "manifests" / "objects"
OBJECTS = (*sorted((ROOT / "examples").glob("*.yaml")), *sorted(PUBLIC.glob("*.yaml")))
TOOLS = ToolSettings(image="tools:1", quantize_image="lmdeploy:1", environment={"HF_ENDPOINT": "http://hub"})


def manifests() -> dict[str, JSON]:
    """Every LLMDeployment of the examples and of public users' manifests, by file and name."""
    found = {}
    for path in OBJECTS:
        for document in yaml.safe_load_all(path.read_text()):
            if document and document.get("kind") == KIND:
                found[f"{path.stem}.{document['metadata']['name']}"] = document
    return found


def parsed_manifest(name: str) -> LLMDeployment:
    """One of `manifests`, parsed."""
    return LLMDeployment.parse(manifests()[name])


def prepared_of(resource: LLMDeployment) -> Prepared:
    """What the stages would have brought about."""
    claim = cache_claim(resource)
    if claim is None:
        return Prepared()
    return Prepared(claim, f"models/org/model{recipe_suffix(resource)}--0123456789", single_node=True)


def jobs_of(resource: LLMDeployment, tools: ToolSettings = TOOLS) -> list[JSON]:
    """The Jobs of all stages."""
    name = cache_claim(resource) or source_claim(resource)
    claim = ClaimFacts(name, "uid-of-claim", single_node=True, labelled=True) if name else None
    return [
        model_job(
            JobRequest(
                resource,
                artifact,
                tools,
                claim=claim,
                source_directory="models/org/model--0123456789",
                output_directory=f"models/org/model{recipe_suffix(resource)}--0123456789",
                memory_bytes=30 << 30,
            )
        )
        for artifact in artifacts_of(resource)
    ]


def children_of(resource: LLMDeployment, tools: ToolSettings = TOOLS) -> list[JSON]:
    """Deployment, Service, budget and claim."""
    prepared = prepared_of(resource)
    run = render(
        RenderRequest(
            resource.metadata.name,
            resource.metadata.namespace,
            resource.spec,
            tensor=resource.spec.parallelism.tensor or 1,
            kv=KVAllocation(ratio_percent=80, kv_cache_memory_bytes=8 << 30),
            model_path=model_path(resource, prepared, tools),
        )
    )
    template = pod_template(resource, run, prepared, tools)
    bodies = (
        deployment(resource, template, revision_of(resource, template)["metadata"]["name"]),
        service(resource),
        pod_disruption_budget(resource),
        cache_volume_claim(resource),
    )
    return [body for body in bodies if body is not None]


def revision_of(resource: LLMDeployment, template: JSON) -> JSON:
    """The first revision, without a plan."""
    return revision(resource, 1, content_of(template, None))
