"""podTemplate against the real API server: its table of fields, dry runs, Pod Security, and the docs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.control_plane import ControlPlane
from devcluster.pod_schema import TARGET, text
from llm_operator.api import KIND
from tests.cluster.helpers import Space, llm
from tests.operator_process import OperatorUnderTest
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

DOCS = Path(__file__).resolve().parents[2] / "docs" / "pods.md"
numbers = itertools.count()


@pytest.fixture(scope="module")
def plane(cluster_control_plane: ControlPlane) -> ControlPlane:
    cluster_control_plane.fake_gpu_node("pod-template-1", gpus=64)
    return cluster_control_plane


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorUnderTest]:
    log = tmp_path_factory.mktemp("operator") / "log"
    with OperatorUnderTest(plane.kubeconfig, log=log) as process:
        process.wait_ready()
        yield process
    assert "Traceback" not in log.read_text()


@pytest.fixture
def space(plane: ControlPlane) -> Space:
    return Space(plane, f"pod-template-{next(numbers)}")


def test_the_table_is_what_the_api_server_serves(control_plane: ControlPlane) -> None:
    served = text(control_plane.request("GET", "/openapi/v2"))
    assert json.loads(served) == json.loads(TARGET.read_text()), "run `python -m devcluster.pod_schema`"


def stalled(space: Space, name: str) -> tuple[str, str]:
    def reason() -> bool:
        return space.condition(name, "Stalled")[0] == "True"

    eventually(reason, why=lambda: f"{name} stalls: {space.condition(name, 'Ready')}")
    return space.condition(name, "Stalled")[1:]


def test_what_the_api_server_refuses_is_told_in_words_of_the_overlay(operator: OperatorUnderTest, space: Space) -> None:
    sidecar = {"containers": [{"name": "Not_A_Name", "image": "a"}]}
    space.create(llm("bad", podTemplate={"spec": sidecar}))
    reason, message = stalled(space, "bad")
    assert reason == "PodTemplateRefused"
    assert "spec.podTemplate.spec.containers[0].name" in message, message
    assert space.get("Deployment", "bad") is None
    assert space.get("Service", "bad") is None


def test_what_pod_security_refuses_leaves_what_serves(operator: OperatorUnderTest, space: Space) -> None:
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    space.plane.request("PATCH", f"/api/v1/namespaces/{space.name}", label, "application/merge-patch+json")
    space.create(llm("demo"))
    eventually(lambda: space.is_ready("demo"), why=lambda: f"demo: {space.condition('demo', 'Ready')}")
    before = space.get("Deployment", "demo")
    privileged: dict[str, Any] = {"name": "engine", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}
    space.patch("demo", {"spec": {"podTemplate": {"spec": {"containers": [privileged]}}}})
    reason, message = stalled(space, "demo")
    assert reason == "PodTemplateRefused"
    assert "violates PodSecurity" in message, message
    after = space.get("Deployment", "demo")
    assert before is not None
    assert after is not None
    assert after["spec"] == before["spec"]
    assert space.condition("demo", "Available")[0] == "True"


def test_the_example_of_the_docs_is_served(operator: OperatorUnderTest, space: Space) -> None:
    block = DOCS.read_text().split("```yaml\n")[1].split("```")[0]
    document = yaml.safe_load(block)
    assert document["kind"] == KIND
    name = document["metadata"]["name"]
    document["spec"]["model"] = {"huggingFace": {"repository": "tiny/model"}}
    space.create(document)
    eventually(lambda: space.is_ready(name), why=lambda: f"{name}: {space.condition(name, 'Ready')}")
    live = space.get("Deployment", name)
    assert live is not None
    template = live["spec"]["template"]
    assert template["metadata"]["labels"]["cost-center"] == "research"
    assert [container["name"] for container in template["spec"]["containers"]] == ["engine", "log-shipper"]
