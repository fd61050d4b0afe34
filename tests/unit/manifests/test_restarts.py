"""What `kubectl llm explain FIELD` says of restarts is what the hash of a pod's inputs does."""

from __future__ import annotations

from typing import Any

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.common import KEPT_OUT, inputs_hash, reaches_pods

SPEC: dict[str, Any] = {
    "model": {"huggingFace": {"repository": "org/model"}},
    "engine": {"type": "LMDeploy"},
    "cache": {"size": "1Gi"},
    "weightQuantization": {"method": "AWQ"},
}
CHANGES: list[tuple[str, Any]] = [
    ("replicas", 3), ("planPolicy", "Warn"), ("webUI", {}), ("cache.size", "2Gi"), ("cache.storageClassName", "fast"),
    ("cache.retentionPolicy", "Retain"), ("weightQuantization.quality", {"evaluate": False}),
    ("kvCache", {"quantization": "Int8"}), ("contextLength", 4096), ("gpu", {"memory": "40Gi"}),
    ("drainTimeoutSeconds", 7), ("engine.env", [{"name": "A", "value": "b"}]), ("model.huggingFace.revision", "main"),
    ("weightQuantization.calibration", {"samples": 7}),
]  # fmt: skip


def hashed(spec: dict[str, Any]) -> str:
    body = {"apiVersion": "llm-operator.dev/v1alpha1", "kind": "LLMDeployment", "metadata": {"name": "a"}, "spec": spec}
    return inputs_hash(LLMDeployment.parse(body))


def changed(path: list[str], value: Any, spec: dict[str, Any]) -> dict[str, Any]:
    name, *rest = path
    return {**spec, name: changed(rest, value, spec.get(name, {})) if rest else value}


@pytest.mark.parametrize(("field", "value"), CHANGES)
def test_a_field_reaches_pods_if_and_only_if_its_change_changes_the_hash(field: str, value: Any) -> None:
    path = field.split(".")
    assert (hashed(changed(path, value, SPEC)) != hashed(SPEC)) == reaches_pods(path)


def test_every_field_that_is_kept_out_exists() -> None:
    from llm_operator.api.schema import structural  # noqa: PLC0415
    from llm_operator.api.spec import LLMDeploymentSpec  # noqa: PLC0415

    for path in KEPT_OUT:
        schema = structural(LLMDeploymentSpec)
        for name in path:
            schema = schema["properties"][name]
