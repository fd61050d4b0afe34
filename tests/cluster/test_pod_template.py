"""podTemplate against the real API server: its table of fields, dry runs, Pod Security, and the docs."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.client import ApiError
from devcluster.control_plane import ControlPlane
from devcluster.pod_schema import TARGET, text
from llm_operator.api import KIND
from llm_operator.api.crd import custom_resource_definition
from llm_operator.manifests.common import container_of
from tests.cluster.helpers import Space, Spaces, operator_fixture, space_fixture
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

DOCS = Path(__file__).resolve().parents[2] / "docs" / "pods.md"
TOOLS = ("--no-leader-elect", "--no-gpu-inventory", "--model-tools-image", "tools:1")
SPACES, TOOLS_SPACES = Spaces("pod-template", 20), Spaces("tools-template", 5)


@pytest.fixture(scope="module")
def plane(cluster_control_plane: ControlPlane) -> ControlPlane:
    return cluster_control_plane


operator = operator_fixture(SPACES)
space = space_fixture(SPACES)
with_tools = operator_fixture(TOOLS_SPACES, *TOOLS)
"""An operator that makes Jobs; nobody runs them."""


@pytest.fixture
def tools_space(plane: ControlPlane) -> Space:
    space = TOOLS_SPACES.next(plane)
    body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    meta = {"name": "models", "labels": {"llm-operator.dev/cache": "true"}}
    space.create({"metadata": meta, "spec": body}, "PersistentVolumeClaim")
    return space


def test_the_table_is_what_the_api_server_serves(control_plane: ControlPlane) -> None:
    served = text(control_plane.request("GET", "/openapi/v2"))
    assert json.loads(served) == json.loads(TARGET.read_text()), "run `python -m devcluster.pod_schema`"


def stalled(space: Space, name: str) -> tuple[str, str]:
    def reason() -> bool:
        return space.condition(name, "Stalled")[0] == "True"

    eventually(reason, why=lambda: f"{name} stalls: {space.condition(name, 'Ready')}")
    return space.condition(name, "Stalled")[1:]


RULE = {"action": "Restart", "exitCodes": {"operator": "In", "values": [1, 1]}}


@pytest.mark.parametrize(
    ("sidecar", "path"),
    [
        ({"name": "Not_A_Name", "image": "a"}, "spec.podTemplate.spec.containers[0].name"),
        # A set with an entry twice: the API server answers an apply of it with 500.
        ({"name": "a", "image": "a", "restartPolicyRules": [RULE]}, "spec.podTemplate.spec.containers"),
    ],
)
def test_what_the_api_server_refuses_is_told_in_words_of_the_overlay(
    operator: OperatorUnderTest, space: Space, sidecar: dict[str, Any], path: str
) -> None:
    space.create(llm("bad", podTemplate={"spec": {"containers": [sidecar]}}))
    reason, message = stalled(space, "bad")
    assert reason == "PodTemplateRefused"
    assert path in message, message
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


def test_what_the_operator_owns_is_refused_at_admission(plane: ControlPlane, space: Space) -> None:
    """By the API server alone: no operator runs in this test."""
    owned = {"spec": {"nodeSelector": {"a": "b"}, "containers": [{"name": "engine", "args": ["--port=1"]}]}}
    for spec, path in (
        ({"podTemplate": owned}, "spec.podTemplate"),
        ({"tools": {"podTemplate": {"spec": {"restartPolicy": "Never"}}}}, "spec.tools.podTemplate"),
        (
            {"webUI": {"podTemplate": {"metadata": {"labels": {"llm-operator.dev/chat": "x"}}}}},
            "spec.webUI.podTemplate",
        ),
    ):
        with pytest.raises(ApiError, match=path):
            space.create(llm("owned", **spec))
    with pytest.raises(ApiError) as refused:
        space.create(llm("owned", podTemplate=owned))
    assert "spec.podTemplate.spec.nodeSelector" in str(refused.value)
    assert "use spec.nodeSelector" in str(refused.value)
    assert "spec.podTemplate.spec.containers[0].args" in str(refused.value)


def test_kubectl_explains_every_field(plane: ControlPlane) -> None:
    def explained(*words: str) -> str:
        command = [str(plane.kubectl), "--kubeconfig", str(plane.kubeconfig), "explain", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    eventually(lambda: "FIELDS:" in explained("llmdeployment.spec"))
    tree = explained("llmdeployment.spec", "--recursive").partition("FIELDS:")[2]
    shown = [line.split("\t")[0] for line in tree.splitlines() if "\t<" in line]
    version = custom_resource_definition()["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert shown == list(indented(schema))
    pod = explained("llmdeployment.spec.podTemplate.spec")
    assert "see `kubectl explain pod.spec`" in " ".join(pod.split())
    assert "Not here: use spec.nodeSelector." in pod
    assert "Jinja for VLLM, JSON for LMDeploy" in explained("llmdeployment.spec.model.chatTemplate")


def indented(schema: dict[str, Any], depth: int = 1) -> Iterator[str]:
    """The names of all fields as `kubectl explain --recursive` shows them, two spaces for each level."""
    for name, field in sorted(schema.get("properties", {}).items()):
        assert field.get("description"), name
        yield f"{'  ' * depth}{name}"
        yield from indented(field.get("items", field), depth + 1)


def test_cel_sees_nothing_that_the_schema_does_not_declare(plane: ControlPlane) -> None:
    """Why names of volumes and variables are judged by the operator: a rule over them cannot be installed."""
    rule = {"rule": "!has(self.volumes)", "message": "no"}
    body = copy.deepcopy(custom_resource_definition())
    properties = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    properties["podTemplate"]["properties"]["spec"]["x-kubernetes-validations"].append(rule)
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/llmdeployments.llm-operator.dev"
    live = plane.request("GET", path)
    with pytest.raises(ApiError, match="undefined field 'volumes'"):
        plane.request("PUT", f"{path}?dryRun=All", {**live, "spec": body["spec"]})


def test_the_jobs_have_the_overlay_of_the_tools(with_tools: OperatorUnderTest, tools_space: Space) -> None:
    space = tools_space
    overlay = {
        "metadata": {"labels": {"cost-center": "platform"}},
        "spec": {"volumes": [{"name": "own", "emptyDir": {}}], "schedulerName": "default-scheduler"},
    }
    space.create(llm("fetched", cache={"claimName": "models"}, tools={"podTemplate": overlay}))
    eventually(lambda: space.names("Job"), why=lambda: f"a Job is made: {space.condition('fetched', 'Ready')}")
    (name,) = space.names("Job")
    job = space.get("Job", name)
    assert job is not None
    template = job["spec"]["template"]
    assert template["metadata"]["labels"]["cost-center"] == "platform"
    assert {"own", "model"} <= {volume["name"] for volume in template["spec"]["volumes"]}


def test_a_refused_overlay_of_the_tools_makes_no_job(with_tools: OperatorUnderTest, tools_space: Space) -> None:
    space = tools_space
    overlay = {"spec": {"dnsPolicy": "Sometimes"}}
    space.create(llm("refused", cache={"claimName": "models"}, tools={"podTemplate": overlay}))
    reason, message = stalled(space, "refused")
    assert reason == "PodTemplateRefused"
    assert "spec.tools.podTemplate.spec.dnsPolicy" in message
    assert space.names("Job") == set()


def test_the_page_has_an_overlay_of_its_own_and_a_refused_one_touches_nothing(
    operator: OperatorUnderTest, space: Space
) -> None:
    overlay = {"spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}], "nodeSelector": {"type": "virtual"}}}
    space.create(llm("paged", webUI={}))
    eventually(lambda: space.condition("paged", "WebUIReady")[0] == "True" and space.is_ready("paged"))
    engine, page = space.get("Deployment", "paged"), space.get("Deployment", "paged-chat")
    bad = {"containers": [{"name": "chat", "securityContext": {"runAsUser": -1}}]}
    space.patch("paged", {"spec": {"webUI": {"podTemplate": {"spec": bad}}}})
    eventually(lambda: space.condition("paged", "WebUIReady")[1] == "PodTemplateRefused")
    assert "spec.webUI.podTemplate.spec.containers[0].securityContext" in space.condition("paged", "WebUIReady")[2]
    assert space.is_ready("paged")
    for before, name in ((engine, "paged"), (page, "paged-chat")):
        after = space.get("Deployment", name)
        assert before is not None
        assert after is not None
        assert after["spec"] == before["spec"]
    space.patch("paged", {"spec": {"webUI": {"podTemplate": {"spec": {**overlay["spec"], "containers": None}}}}})

    def rolled() -> bool:
        live = space.get("Deployment", "paged-chat")
        return live is not None and live["spec"]["template"]["spec"].get("nodeSelector") == {"type": "virtual"}

    eventually(rolled, why=lambda: str(space.condition("paged", "WebUIReady")))
    assert space.get("Deployment", "paged")["spec"] == engine["spec"]  # type: ignore[index]


def examples() -> list[dict[str, Any]]:
    """Every object of the page."""
    blocks = [part.split("```")[0] for part in DOCS.read_text().split("```yaml\n")[1:]]
    return [body for block in blocks for body in yaml.safe_load_all(block) if body and body.get("kind") == KIND]


def test_every_feature_of_the_page_has_an_example() -> None:
    sections = DOCS.read_text().split("\n## ")
    without = [text.splitlines()[0] for text in sections if "```yaml\n" not in text and "```console\n" not in text]
    assert without == ["What is refused", "What restarts what"]


@pytest.mark.parametrize("document", examples(), ids=lambda body: str(body["metadata"]["name"]))
def test_an_example_of_the_docs_is_served(operator: OperatorUnderTest, space: Space, document: dict[str, Any]) -> None:
    name = document["metadata"]["name"]
    space.create(document)
    eventually(lambda: space.is_ready(name), why=lambda: f"{name}: {space.condition(name, 'Ready')}")
    live = space.get("Deployment", name)
    assert live is not None
    template = live["spec"]["template"]
    pod, engine = template["spec"], container_of(template, "engine")
    if name == "with-names":
        assert {"qwen2.5-0.5b", "default"} <= set(engine["args"])
    if name == "with-template":
        assert "templates" in [volume.get("configMap", {}).get("name") for volume in pod["volumes"]]
        assert any(word.endswith("/template.jinja") for word in engine["args"]), engine["args"]
    if name == "with-ca":
        assert "trust" in [container["name"] for container in pod["initContainers"]]
        assert "SSL_CERT_FILE" in [variable["name"] for variable in engine["env"]]
    if name == "with-page-template":
        eventually(lambda: space.condition(name, "WebUIReady")[0] == "True")
        page = space.get("Deployment", f"{name}-chat")
        assert page is not None
        assert page["spec"]["template"]["metadata"]["labels"]["cost-center"] == "support"
        assert page["spec"]["template"]["spec"]["tolerations"] == [{"key": "web", "operator": "Exists"}]
    if name == "with-pod-template":
        assert template["metadata"]["labels"]["cost-center"] == "research"
        assert [container["name"] for container in template["spec"]["containers"]] == ["engine", "log-shipper"]
    if name == "with-service":
        service = space.get("Service", name)
        assert service is not None
        assert service["spec"]["type"] == "LoadBalancer"
        assert service["spec"]["ports"][0]["port"] == 8000
        assert service["metadata"]["annotations"]["networking.gke.io/load-balancer-type"] == "Internal"


def test_a_null_is_stored_and_removes_what_the_operator_sets(operator: OperatorUnderTest, space: Space) -> None:
    """As a platform needs it that chooses the user of pods itself."""
    space.create(llm("no-user", podTemplate={"spec": {"securityContext": {"runAsUser": None, "runAsGroup": None}}}))
    eventually(lambda: space.is_ready("no-user"), why=lambda: f"no-user: {space.condition('no-user', 'Ready')}")
    live = space.get("Deployment", "no-user")
    assert live is not None
    assert "runAsUser" not in live["spec"]["template"]["spec"]["securityContext"]
    space.patch("no-user", {"spec": {"podTemplate": {"spec": {"volumes": [{"name": "shm", "$patch": "delete"}]}}}})
    reason, message = stalled(space, "no-user")
    assert reason == "ConflictingPodTemplate"
    assert "spec.podTemplate.spec.volumes[0].name" in message
    after = space.get("Deployment", "no-user")
    assert after is not None
    assert after["spec"] == live["spec"]
