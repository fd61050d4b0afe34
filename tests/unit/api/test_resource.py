"""Whole objects: what is read, and how what is wrong is told."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings

from llm_operator.api import InvalidResource, LLMDeployment
from tests.support.strategies import mutated, raw_specs, resource, valid_resources, valid_specs

MINIMAL: dict[str, Any] = resource({"model": {"huggingFace": {"repository": "a/b"}}, "engine": {"type": "LMDeploy"}})


def changed(path: str, value: Any) -> dict[str, Any]:
    """The minimal object with one value set; `...` removes it."""
    document = copy.deepcopy(MINIMAL)
    *parents, last = path.split(".")
    holder = document
    for name in parents:
        holder = holder.setdefault(name, {})
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return document


def errors(document: Any) -> dict[str, str]:
    """Field and message of everything that is wrong."""
    with pytest.raises(InvalidResource) as refused:
        LLMDeployment.parse(document)
    return dict(refused.value.errors)


def test_a_scalar_for_an_object_is_told_without_a_class_of_the_code() -> None:
    told = errors(changed("spec.engine.apiKey", "secret"))
    assert told == {"spec.engine.apiKey": "Input should be an object, got 'secret'"}


def test_defaults() -> None:
    spec = LLMDeployment.parse(MINIMAL).spec
    assert (spec.replicas, spec.plan_policy, spec.kv_cache.quantization) == (1, "Enforce", "None")
    assert spec.parallelism.tensor is None
    assert spec.gpu.resource_name == "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("apiVersion", "llm-operator.dev/v2", "apiVersion"),
        ("kind", "Deployment", "kind"),
        ("metadata.name", "Upper", "metadata.name"),
        ("metadata.name", "a" * 53, "metadata.name"),
        ("metadata.name", ..., "metadata.name"),
        ("spec", ..., "spec.model"),
        ("spec.model", {}, "spec.model"),
        ("spec.model.persistentVolumeClaim", {"claimName": "a"}, "spec.model"),
        ("spec.engine.type", "Triton", "spec.engine.type"),
        ("spec.engine.env", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}], "spec.engine.env"),
        ("spec.replicas", -1, "spec.replicas"),
        ("spec.replicas", 1.5, "spec.replicas"),
        ("spec.kvCache.memoryPercent", 100, "spec.kvCache.memoryPercent"),
        ("spec.kvCache.quantization", "int8", "spec.kvCache.quantization"),
        ("spec.kvCache.quantization", "FP8", "spec.kvCache.quantization"),
        ("spec.kvCache.memory", "20Gi", "spec.kvCache.memory"),
        ("spec.gpu.memory", "48GB", "spec.gpu.memory"),
        ("spec.gpu.memory", "0", "spec.gpu.memory"),
        ("spec.contextLength", "4096", "spec.contextLength"),
        ("spec.parallelism.tensor", True, "spec.parallelism.tensor"),
    ],
)
def test_one_wrong_field_is_named(path: str, value: Any, field: str) -> None:
    found = errors(changed(path, value))
    assert any(name.startswith(field) for name in found), found
    assert all(found.values())


@pytest.mark.parametrize("document", [None, [], "text", 3, True])
def test_what_is_no_object_is_told(document: object) -> None:
    assert "expected a mapping" in errors(document)[""]


def test_everything_wrong_is_told_at_once() -> None:
    document = changed("spec.engine.type", "Triton")
    document["kind"], document["metadata"]["name"] = "Pod", "Upper"
    document["spec"] |= {"replicas": -1, "contextLength": 0}
    assert set(errors(document)) == {
        "kind",
        "metadata.name",
        "spec.engine.type",
        "spec.replicas",
        "spec.contextLength",
    }


def test_a_message_has_what_was_given_and_bounds_its_length() -> None:
    assert "got 'Triton'" in errors(changed("spec.engine.type", "Triton"))["spec.engine.type"]
    assert len(errors(changed("spec.engine.type", "x" * 100_000))["spec.engine.type"]) < 1000


def test_whole_numbers_come_as_the_api_server_takes_them() -> None:
    assert LLMDeployment.parse(changed("spec.contextLength", 4096.0)).spec.context_length == 4096
    counts = {"tensor": 2.0, "gpusPerReplica": 2.0}
    document = {**MINIMAL, "status": {"observedGeneration": 1, "conditions": [], "plan": counts}}
    status = LLMDeployment.parse(document).status
    assert status is not None
    assert status.plan is not None
    assert status.plan.tensor == 2


def test_a_status_of_another_version_reads_as_absent() -> None:
    assert LLMDeployment.parse({**MINIMAL, "status": {"conditions": "none"}}).status is None


@settings(deadline=None, max_examples=150)
@given(valid_resources)
def test_what_was_read_is_written_and_read_again(parsed: LLMDeployment) -> None:
    written = resource(parsed.spec.to_json())
    again = LLMDeployment.parse(written)
    assert again.spec == parsed.spec
    assert again.spec.to_json() == written["spec"]


@settings(deadline=None, max_examples=300)
@given(mutated(valid_specs | raw_specs, {}))
def test_whatever_is_wrong_is_told_by_field(spec: Any) -> None:
    try:
        LLMDeployment.parse(resource(spec))
    except InvalidResource as refused:
        told = refused.errors
    else:
        return
    assert told
    assert all(field.startswith("spec") and message for field, message in told), told
