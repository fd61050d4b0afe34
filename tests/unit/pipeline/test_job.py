"""Jobs of the model tools: the tools' own parser takes every rendered command line, and the pods are restricted."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.api.resource import LLMDeployment
from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.model_source import claim_label
from llm_operator.manifests.trust import CONTAINER as TRUST
from llm_operator.modeltools.__main__ import command_line
from llm_operator.pipeline.artifacts import recipe_suffix
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job import model_job
from llm_operator.pipeline.request import JobRequest
from llm_operator.pipeline.volume_job import remove_job
from llm_operator.settings import ToolSettings
from tests.support.strategies import valid_resources

TOOLS = ToolSettings(image="tools:1", quantize_image="lmdeploy:1", environment={"HF_ENDPOINT": "http://hub"})
CLAIM = ClaimFacts("models", "uid", single_node=True, labelled=True)
JSON = dict[str, Any]


def jobs_of(resource: LLMDeployment) -> list[JSON]:
    source = ClaimFacts("source", "uid-2", single_node=False) if resource.spec.model.persistent_volume_claim else None
    in_cache = source is None and resource.spec.model.image is None
    return [
        model_job(
            JobRequest(
                resource,
                artifact,
                TOOLS,
                claim=CLAIM,
                source_claim=source,
                source_directory="models/a/b",
                output_directory=f"models/a/b{recipe_suffix(resource)}--c",
                source_in_cache=in_cache,
            )
        )
        for artifact in artifacts_of(resource)
    ]


def containers(job: JSON) -> list[JSON]:
    spec = job["spec"]["template"]["spec"]
    return [*spec["containers"], *spec.get("initContainers", [])]


@settings(max_examples=300, deadline=None)
@given(valid_resources)
def test_the_tools_take_every_command_line(resource: LLMDeployment) -> None:
    for job in jobs_of(resource):
        for container in containers(job):
            if container["name"] == TRUST:
                continue  # it runs a file of its own, tests/unit/modeltools/test_trust.py
            command_line(container["args"][0]).parse_args(container["args"])


@settings(max_examples=100, deadline=None)
@given(valid_resources)
def test_every_pod_is_restricted_and_has_no_token_of_the_cluster(resource: LLMDeployment) -> None:
    for job in jobs_of(resource):
        pod = job["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(job):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_removal_is_taken_too() -> None:
    job = remove_job("team", CLAIM, "models/a/b", TOOLS, {"nodeSelector": {"a": "b"}})
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"a": "b"}
    words = containers(job)[0]["args"]
    assert str(command_line("remove").parse_args(words).directory) == "models/a/b"


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1, max_size=253))
def test_a_claims_label_is_a_labels_value(name: str) -> None:
    assert len(claim_label(name)) <= 63


def test_long_names_keep_distinct_labels() -> None:
    assert claim_label("a" * 79) != claim_label("a" * 80)


@settings(max_examples=300, deadline=None)
@given(valid_resources)
def test_the_hubs_token_is_for_fetching_alone(resource: LLMDeployment) -> None:
    for job in jobs_of(resource):
        stage = job["metadata"]["labels"]["llm-operator.dev/stage"]
        secrets = [one for container in containers(job) for one in container.get("env", []) if "valueFrom" in one]
        assert not secrets or stage in ("fetch", "inspect"), stage
