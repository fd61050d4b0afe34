"""The Kustomize component knows every reference of an LLMDeployment; the base is what the chart renders."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cache import ROOT
from devcluster.toolchain import ensure
from devtools import __main__ as generated
from llm_operator.api import KIND, LLMDeployment
from llm_operator.api.crd import crd_yaml

FOLDER = ROOT / "gitops" / "kustomize"
pytestmark = pytest.mark.programs

REFERENCES = {"name", "claimName", "serviceAccountName", "priorityClassName", "runtimeClassName"}
NOT_REFERENCES = {"spec/engine/env/name": "the name of a variable"}
POD_TEMPLATES = ("spec/podTemplate/", "spec/tools/podTemplate/", "spec/webUI/podTemplate/")
"""Their schema leaves most to the API server; the example below shows what is in them."""
IMAGES = {"image", "reference"}


def kustomize(folder: Path) -> list[dict[str, Any]]:
    kubectl = ensure(["kubectl"]) / "kubectl"
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def paths(schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths of a schema's fields in the notation of Kustomize, which does not mark lists."""
    for name, field in schema.get("properties", {}).items():
        yield f"{prefix}/{name}", field
        yield from paths(field, f"{prefix}/{name}")
        yield from paths(field.get("items", {}), f"{prefix}/{name}")


@pytest.fixture(scope="module")
def fields() -> dict[str, dict[str, Any]]:
    schema = yaml.safe_load(crd_yaml())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return dict(paths(schema["properties"]["spec"], "spec"))


@pytest.fixture(scope="module")
def component() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "llmdeployment" / "llmdeployment.yaml").read_text())
    return found


def test_every_reference_of_the_resource_is_configured(
    fields: dict[str, dict[str, Any]], component: dict[str, Any]
) -> None:
    configured = {spec["path"] for target in component["nameReference"] for spec in target["fieldSpecs"]}
    in_schema = {
        path
        for path, field in fields.items()
        if path.rpartition("/")[2] in REFERENCES and "properties" not in field and not path.startswith(POD_TEMPLATES)
    }
    outside = {path for path in configured if not path.startswith(POD_TEMPLATES)}
    assert outside == in_schema - NOT_REFERENCES.keys()


def test_every_image_of_the_resource_is_configured(
    fields: dict[str, dict[str, Any]], component: dict[str, Any]
) -> None:
    images = {path for path, field in fields.items() if path.rpartition("/")[2] in IMAGES and "properties" not in field}
    configured = {spec["path"] for spec in component["images"]}
    assert images <= configured
    assert all(path.startswith(POD_TEMPLATES) for path in configured - images)
    assert [spec["path"] for spec in component["replicas"]] == ["spec/replicas"]


def test_the_example_is_rewritten_as_a_deployment_would_be() -> None:
    objects = {document["kind"]: document for document in kustomize(FOLDER / "example")}
    spec = objects[KIND]["spec"]
    LLMDeployment.parse(objects[KIND])
    assert objects[KIND]["metadata"]["name"] == "prod-qwen"
    assert spec["engine"]["apiKey"]["name"] == objects["Secret"]["metadata"]["name"] != "qwen-key"
    text = spec["weightQuantization"]["calibration"]["text"]
    assert text["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"] != "calibration"
    assert spec["cache"]["claimName"] == objects["PersistentVolumeClaim"]["metadata"]["name"] == "prod-models"
    assert spec["engine"]["image"] == spec["weightQuantization"]["image"] == "registry.example.com/llm/lmdeploy:0.18.0"
    assert spec["replicas"] == 3
    pod = spec["podTemplate"]["spec"]
    assert pod["volumes"][0]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    assert pod["initContainers"][0]["image"] == "registry.example.com/llm/lmdeploy:0.18.0"


def test_the_base_is_what_the_chart_renders() -> None:
    assert generated.main(["--check"]) == 0
    kinds = {document["kind"] for document in kustomize(FOLDER / "operator")}
    assert {"Namespace", "Deployment", "CustomResourceDefinition", "ClusterRole"} <= kinds
