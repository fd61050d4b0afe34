"""The chart's ValidatingAdmissionPolicies on a real API server: who is kept from what, and what passes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.control_plane import ControlPlane
from devcluster.toolchain import ensure
from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.network_policy import policies_of
from llm_operator.settings import NetworkSettings
from tests.cluster.helpers import JSON
from tests.support.chart import NAMESPACE, Helm
from tests.support.objects import llm
from tests.support.rendered import TOOLS, children_of, jobs_of, revision_of
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

CRD = Path(__file__).resolve().parents[2] / "crds" / "llm-operator.dev_llmdeployments.yaml"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:llm-llm-operator"
VALUES: JSON = {
    "admissionPolicies": {
        "objects": {
            "enabled": True,
            "namespaceSelector": {"matchLabels": {"tenants": "true"}},
            "images": ["docker.io/vllm/vllm-openai", "registry.example/ml/", "local/exact:1", "plain"],
            "priorityClasses": ["batch"],
            "serviceAccounts": [],
            "tolerations": ["nvidia.com/gpu"],
            "runtimeClasses": ["nvidia"],
            "storageClasses": ["fast"],
            "serviceTypes": ["NodePort"],
            "serviceMetadata": ["team", "networking.example.com/"],
            "otherNamespaces": False,
            "drainTimeoutSeconds": 600,
        },
        "operator": {"enabled": True},
    }
}


UNCONFINED = ({"type": "spc_t"}, {"user": "system_u"}, {"role": "system_r"})
POWERFUL = ("ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "DAC_READ_SEARCH", "BPF", "NET_ADMIN", "SYSLOG")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own: policies hold for the whole cluster."""
    with ControlPlane.start(tmp_path_factory.mktemp("admission")) as plane:
        plane.install_crd(CRD)
        for name, labels in (("tenant", {"tenants": "true"}), ("free", {}), (NAMESPACE, {})):
            plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        objects = [
            entry
            for entry in Helm(ensure(["helm"]) / "helm").template(VALUES)
            if entry["kind"].startswith("ValidatingAdmissionPolicy")
        ]
        assert len(objects) == 4
        plane.run_kubectl("apply", "--validate=strict", "-f", "-", stdin=yaml.safe_dump_all(objects))
        # The API server looks at new policies after a moment.
        evil = llm("tried", engine={"type": "VLLM", "image": "evil:1"})
        for tried in (("tenant", "tenant", evil), (OPERATOR, "kube-system", children("x")[1])):
            eventually(partial(refused, plane, *tried), 60, f"the policy of {tried[0]} holds")
        yield plane


def refused(plane: ControlPlane, who: str, namespace: str, body: JSON) -> bool:
    words = ["--as", who, "--as-group", "system:masters", "-n", namespace, "create", "--dry-run=server", "-f", "-"]
    body = {**body, "metadata": {**body["metadata"], "namespace": namespace}}
    return "denied request" in plane.run_kubectl(*words, stdin=json.dumps(body), check=False)


def send(plane: ControlPlane, who: str, namespace: str, body: JSON, verb: str = "create") -> tuple[bool, str]:
    """Whether a user of all rights gets something through, and what is said; nothing is kept where it is created."""
    words = ["--as", who, "--as-group", "system:masters", "-n", namespace, verb, "-f", "-"]
    dry = ["--dry-run=server"] if verb == "create" else []
    said = plane.run_kubectl(*words, *dry, stdin=json.dumps(body), check=False)
    done = " created (server dry run)" in said if verb == "create" else f" {verb}d" in said
    assert done or "denied request" in said, said
    return done, said


def tenant(plane: ControlPlane, namespace: str = "tenant", **spec: Any) -> tuple[bool, str]:
    return send(plane, "tenant", namespace, llm("tried", **spec))


def operator(plane: ControlPlane, namespace: str, body: JSON, verb: str = "create") -> tuple[bool, str]:
    return send(plane, OPERATOR, namespace, {**body, "metadata": {**body["metadata"], "namespace": namespace}}, verb)


def parsed(name: str, **spec: Any) -> LLMDeployment:
    document = llm(
        name, **{"cache": {"size": "10Gi"}, "engine": {"type": "LMDeploy"}, "weightQuantization": {}, **spec}
    )
    document["metadata"] |= {"uid": "00000000-0000-4000-8000-000000000000", "namespace": "free"}
    return LLMDeployment.parse(document)


def children(name: str, **spec: Any) -> list[JSON]:
    """What the operator makes for an object: Deployment, Service, budget, claim and Jobs."""
    of = parsed(name, replicas=2, **spec)
    bodies = children_of(of)
    return [*bodies, *jobs_of(of), revision_of(of, bodies[0]["spec"]["template"])]


def policies(name: str) -> list[JSON]:
    """The NetworkPolicies of an object, of all its roles."""
    of = parsed(name, webUI={})
    template = children_of(of)[0]["spec"]["template"]
    tools = replace(TOOLS, network=NetworkSettings(enabled=True))
    found = policies_of(of, template, tools, jobs=True)
    assert set(found) == {"engine", "chat", "jobs"}
    return [body for body in found.values() if body is not None]


EXTERNAL_NAME = "external-dns.alpha.kubernetes.io/hostname"
EPHEMERAL: JSON = {
    "volumeClaimTemplate": {
        "spec": {
            "storageClassName": "slow",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        }
    }
}
# The API server still takes the class from it, before the field.
BY_ANNOTATION: JSON = {
    "metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "slow"}},
    "spec": {**EPHEMERAL["volumeClaimTemplate"]["spec"], "storageClassName": "fast"},
}
ALLOWED: list[JSON] = [
    {},
    {"engine": {"type": "VLLM", "image": "docker.io/vllm/vllm-openai:v0.33.0"}},
    {"engine": {"type": "VLLM", "image": "docker.io/vllm/vllm-openai@sha256:" + "0" * 64}},
    {"engine": {"type": "VLLM", "image": "registry.example/ml/any/depth:1"}},
    {"webUI": {"image": "local/exact:1"}},
    {"webUI": {"image": "plain:1"}},
    {"webUI": {"podTemplate": {"spec": {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}}}},
    {"priorityClassName": "batch"},
    {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]},
    {"podTemplate": {"spec": {"containers": [{"name": "side", "image": "registry.example/ml/side:1"}]}}},
    {"podTemplate": {"metadata": {"labels": {"a": "b"}}}},
    {"tools": {"podTemplate": {"spec": {"priorityClassName": "batch"}}}},
    {"runtimeClassName": "nvidia"},
    {"cache": {"size": "1Gi"}},
    {"cache": {"size": "1Gi", "storageClassName": "fast"}},
    {"service": {"type": "ClusterIP"}, "webUI": {"service": {"type": "NodePort"}}},
    {"service": {"annotations": {"networking.example.com/zone": "a"}, "labels": {"team": "a"}}},
    {"network": {"from": [{"podSelector": {"matchLabels": {"app": "gateway"}}}, {"podSelector": {}}]}},
    {"drainTimeoutSeconds": 600},
]
DENIED: list[tuple[JSON, str]] = [
    ({"engine": {"type": "VLLM", "image": "docker.io/vllm/vllm-openai-evil:1"}}, "every image"),
    ({"engine": {"type": "VLLM", "image": "registry.example/mlevil:1"}}, "every image"),
    ({"engine": {"type": "VLLM", "image": "local/exact:12"}}, "every image"),
    ({"webUI": {"image": "evil:1"}}, "every image"),
    ({"webUI": {"image": "docker.io/vllm/vllm-openai:1/evil:2"}}, "every image"),
    ({"engine": {"type": "VLLM", "image": "plain:5000/evil:1"}}, "every image"),
    ({"model": {"image": {"reference": "evil:1"}}}, "every image"),
    ({"cache": {"size": "1Gi"}, "weightQuantization": {"image": "evil:1"}}, "every image"),
    ({"podTemplate": {"spec": {"containers": [{"name": "side", "image": "evil:1"}]}}}, "every image"),
    ({"podTemplate": {"spec": {"initContainers": [{"name": "side", "image": "evil:1"}]}}}, "every image"),
    ({"tools": {"podTemplate": {"spec": {"containers": [{"name": "side", "image": "evil:1"}]}}}}, "every image"),
    ({"webUI": {"podTemplate": {"spec": {"containers": [{"name": "side", "image": "evil:1"}]}}}}, "every image"),
    ({"podTemplate": {"spec": {"volumes": [{"name": "v", "image": {"reference": "evil:1"}}]}}}, "every image"),
    ({"priorityClassName": "urgent"}, "priorityClassName must be one of [batch]"),
    ({"tools": {"podTemplate": {"spec": {"priorityClassName": "urgent"}}}}, "priorityClassName must be one of [batch]"),
    ({"serviceAccountName": "powerful"}, "serviceAccountName must be one of []"),
    ({"tools": {"podTemplate": {"spec": {"serviceAccountName": "powerful"}}}}, "serviceAccountName must be one of []"),
    ({"tolerations": [{"operator": "Exists"}]}, "every toleration"),
    ({"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]}, "every toleration"),
    ({"webUI": {"podTemplate": {"spec": {"tolerations": [{"operator": "Exists"}]}}}}, "every toleration"),
    ({"runtimeClassName": "other"}, "runtimeClassName must be one of [nvidia]"),
    ({"webUI": {"podTemplate": {"spec": {"runtimeClassName": "x"}}}}, "runtimeClassName must be one of [nvidia]"),
    ({"cache": {"size": "1Gi", "storageClassName": "slow"}}, "storageClassName must be one of [fast]"),
    (
        {"podTemplate": {"spec": {"volumes": [{"name": "v", "ephemeral": EPHEMERAL}]}}},
        "storageClassName must be one of",
    ),
    (
        {"podTemplate": {"spec": {"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": BY_ANNOTATION}}]}}},
        "storageClassName must be one of",
    ),
    ({"service": {"type": "LoadBalancer"}}, "must be one of [NodePort], or ClusterIP"),
    ({"webUI": {"service": {"type": "LoadBalancer"}}}, "must be one of [NodePort], or ClusterIP"),
    ({"service": {"annotations": {EXTERNAL_NAME: "bank.example.com"}}}, "annotations and labels of a Service"),
    ({"webUI": {"service": {"annotations": {EXTERNAL_NAME: "a"}}}}, "annotations and labels of a Service"),
    ({"service": {"labels": {"teams": "a"}}}, "annotations and labels of a Service"),
    ({"webUI": {"service": {"labels": {"networking.example.com": "a"}}}}, "annotations and labels of a Service"),
    ({"network": {"from": [{"namespaceSelector": {}}]}}, "network.from names pods of this namespace only"),
    ({"network": {"from": [{"podSelector": {}}, {"podSelector": {}, "namespaceSelector": {}}]}}, "network.from names"),
    ({"network": {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}}, "network.from names pods of this namespace only"),
    ({"drainTimeoutSeconds": 601}, "must be at most 600"),
    ({"webUI": {"podTemplate": {"spec": {"terminationGracePeriodSeconds": 86400}}}}, "must be at most 600"),
]


@pytest.mark.parametrize("spec", ALLOWED, ids=str)
def test_what_the_lists_name_is_admitted(plane: ControlPlane, spec: JSON) -> None:
    admitted, said = tenant(plane, **spec)
    assert admitted, said


@pytest.mark.parametrize(("spec", "why"), DENIED, ids=str)
def test_what_they_do_not_name_is_refused(plane: ControlPlane, spec: JSON, why: str) -> None:
    admitted, said = tenant(plane, **spec)
    assert not admitted
    assert why in said
    assert tenant(plane, "free", **spec)[0], "other namespaces are not concerned"


def test_an_object_from_before_can_still_be_labelled_and_deleted(plane: ControlPlane) -> None:
    binding = "validatingadmissionpolicybinding/llm-llm-operator.llm-system.objects"
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "before"}})
    plane.run_kubectl("-n", "before", "create", "-f", "-", stdin=json.dumps(llm("old", priorityClassName="urgent")))
    plane.run_kubectl("label", "namespace", "before", "tenants=true")
    eventually(lambda: not tenant(plane, "before", priorityClassName="urgent")[0], why=f"{binding} selects it")
    plane.run_kubectl("-n", "before", "label", "llmdep", "old", "a=b")
    patch = json.dumps({"spec": {"replicas": 2}})
    said = plane.run_kubectl("-n", "before", "patch", "llmdep", "old", "--type=merge", "-p", patch, check=False)
    assert "priorityClassName must be one of [batch]" in said
    plane.run_kubectl("-n", "before", "delete", "llmdep", "old")


def test_the_operators_own_children_pass(plane: ControlPlane) -> None:
    bodies = children("whole")
    kinds = {body["kind"] for body in bodies}
    assert kinds == {
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "PersistentVolumeClaim",
        "Job",
        "ControllerRevision",
    }
    for body in bodies:
        admitted, said = operator(plane, "free", body)
        assert admitted, said


def changed(body: JSON, **template: Any) -> JSON:
    copy: JSON = json.loads(json.dumps(body))
    copy["spec"]["template"]["spec"] |= template
    return copy


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", NAMESPACE])
def test_the_operator_writes_nothing_into_the_clusters_namespaces_and_its_own(
    plane: ControlPlane, namespace: str
) -> None:
    for body in children("elsewhere"):
        admitted, said = operator(plane, namespace, body)
        assert not admitted
        assert "neither to the cluster's own namespaces nor to its own" in said


def test_the_operator_makes_no_pod_with_power_over_its_node(plane: ControlPlane) -> None:
    for body in (children("x")[0], next(body for body in children("x") if body["kind"] == "Job")):
        (container,) = body["spec"]["template"]["spec"]["containers"]
        privileged = {**container, "securityContext": {"privileged": True}}
        volumes = body["spec"]["template"]["spec"]["volumes"]
        root = [*volumes, {"name": "root", "hostPath": {"path": "/"}}]
        parts: list[JSON] = [{"ports": [{"containerPort": 8000, "hostPort": 8000}]}]
        parts += [{"securityContext": {"capabilities": {"add": [name]}}} for name in POWERFUL]
        templates: list[JSON] = [
            {"hostPID": True},
            {"hostNetwork": True},
            {"hostIPC": True},
            {"volumes": root},
            {"containers": [privileged]},
            {"initContainers": [{"name": "first", "image": "a:1", "securityContext": {"privileged": True}}]},
            {"priorityClassName": "system-node-critical"},
            {"nodeName": "control-plane"},
            {"volumes": [*volumes, {"name": "repository", "gitRepo": {"repository": "https://git.example/x"}}]},
            {"volumes": [*volumes, {"name": "driver", "flexVolume": {"driver": "example/x"}}]},
            *({"securityContext": {"seLinuxOptions": one}} for one in UNCONFINED),
            *({"containers": [{**container, "securityContext": {"seLinuxOptions": one}}]} for one in UNCONFINED),
            *({"containers": [{**container, **part}]} for part in parts),
        ]
        for template in templates:
            admitted, said = operator(plane, "free", changed(body, **template))
            assert not admitted, template
            assert "pods of the operator" in said


def test_a_pod_template_may_add_what_reaches_no_node(plane: ControlPlane) -> None:
    deployment = children("x")[0]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    added = {**container["securityContext"], "capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK", "SYS_PTRACE"]}}
    volumes = [*deployment["spec"]["template"]["spec"]["volumes"], {"name": "a", "nfs": {"server": "b", "path": "/"}}]
    context = {"seLinuxOptions": {"type": "container_t", "level": "s0:c123,c456"}}
    more = {"volumes": volumes, "securityContext": context, "containers": [{**container, "securityContext": added}]}
    admitted, said = operator(plane, "free", changed(deployment, **more))
    assert admitted, said


def selecting(body: JSON, labels: JSON) -> JSON:
    """The same Service, policy or budget for other pods."""
    copy: JSON = json.loads(json.dumps(body))
    if body["kind"] == "Service":
        copy["spec"]["selector"] = labels
    else:
        copy["spec"]["podSelector" if body["kind"] == "NetworkPolicy" else "selector"] = {"matchLabels": labels}
    return copy


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy", "PodDisruptionBudget"])
@pytest.mark.parametrize("labels", [{"app": "db"}, {"app.kubernetes.io/managed-by": "helm"}, {}], ids=str)
def test_the_operator_stands_before_nobody_elses_pods(plane: ControlPlane, kind: str, labels: JSON) -> None:
    bodies = [body for body in (*children("x"), *policies("x")) if body["kind"] == kind]
    assert bodies
    for body in bodies:
        assert operator(plane, "free", body)[0]
        admitted, said = operator(plane, "free", selecting(body, labels))
        assert not admitted
        assert f"a {kind} of the operator selects" in said


def test_a_service_of_the_operator_names_no_other_host(plane: ControlPlane) -> None:
    service = next(body for body in children("x") if body["kind"] == "Service")
    for part in ({"type": "ExternalName", "externalName": "evil.example"}, {"externalIPs": ["192.0.2.1"]}):
        admitted, said = operator(plane, "free", {**service, "spec": {**service["spec"], **part}})
        assert not admitted
        assert "a Service of the operator selects" in said


def test_the_operator_makes_only_what_belongs_to_an_object(plane: ControlPlane) -> None:
    for body in children("x"):
        unlabelled = {**body, "metadata": {**body["metadata"], "labels": {"a": "b"}}}
        assert not operator(plane, "free", unlabelled)[0], body["kind"]
        if body["kind"] == "PersistentVolumeClaim":
            continue
        other = [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "a", "uid": "u"}]
        for owners in ([], other):
            admitted, said = operator(
                plane, "free", {**body, "metadata": {**body["metadata"], "ownerReferences": owners}}
            )
            assert not admitted
            assert "belongs to an LLMDeployment or to a claim" in said


def test_the_operator_leaves_others_objects_alone(plane: ControlPlane) -> None:
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"}, "spec": {"ports": [{"port": 1}]}}
    plane.run_kubectl("-n", "free", "create", "-f", "-", stdin=json.dumps(foreign))
    for words in (["delete", "service", "db"], ["label", "service", "db", "app.kubernetes.io/managed-by=llm-operator"]):
        said = plane.run_kubectl("--as", OPERATOR, "--as-group", "system:masters", "-n", "free", *words, check=False)
        assert "denied request" in said
    wide = next(body for body in children("x") if body["kind"] == "Service")
    admitted, said = operator(plane, "free", {**wide, "spec": {**wide["spec"], "selector": {"app": "db"}}})
    assert not admitted
    assert "selects an engine or a chat page" in said


def test_the_operator_brings_back_a_child_whose_labels_were_edited_away(plane: ControlPlane) -> None:
    service = next(body for body in children("edited") if body["kind"] == "Service")
    name = service["metadata"]["name"]
    bare = {**service, "metadata": {**service["metadata"], "namespace": "free", "labels": {}}}
    plane.run_kubectl("-n", "free", "create", "-f", "-", stdin=json.dumps(bare))
    admitted, said = operator(plane, "free", service, "replace")
    assert admitted, said
    said = plane.run_kubectl("--as", OPERATOR, "--as-group", "system:masters", "-n", "free", "delete", "service", name)
    assert "deleted" in said


def test_pods_are_tried_and_never_made(plane: ControlPlane) -> None:
    template = children("x")[0]["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "p"},
        "spec": template["spec"],
    }
    admitted, said = operator(plane, "free", pod)
    assert admitted, said
    real = {**pod, "metadata": {**pod["metadata"], "namespace": "free"}}
    said = plane.run_kubectl(
        "--as", OPERATOR, "--as-group", "system:masters", "-n", "free", "create", "-f", "-",
        stdin=json.dumps(real), check=False,
    )  # fmt: skip
    assert "creates pods as dry runs only" in said


def test_nobody_else_is_bound_by_the_operators_policy(plane: ControlPlane) -> None:
    body = changed(children("x")[0], hostPID=True)
    body["metadata"] = {"name": "x", "namespace": "free"}
    assert send(plane, "somebody", "free", body)[0]
