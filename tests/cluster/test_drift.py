"""What others change in the operator's children, on a real API server: undone, left alone, or told."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from devcluster.control_plane import ControlPlane
from llm_operator.api import KIND
from tests.cluster.helpers import JSON, Space, Spaces, operator_fixture
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
SPACES = Spaces("drift", 12)
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
operator = operator_fixture(SPACES)


@pytest.fixture
def space(cluster_control_plane: ControlPlane, operator: OperatorUnderTest) -> Iterator[Space]:
    """A namespace with the object `demo`, Ready, with a page and a budget."""
    made = SPACES.next(cluster_control_plane)
    made.create(llm("demo", replicas=2, webUI={}))
    eventually(lambda: made.is_ready("demo") and made.condition("demo", "WebUIReady")[0] == "True")
    yield made
    made.delete(KIND, "demo")


@pytest.fixture(scope="module")
def shared(cluster_control_plane: ControlPlane, operator: OperatorUnderTest) -> Iterator[Space]:
    """The same for several tests, each of which leaves it as it was."""
    made = SPACES.next(cluster_control_plane)
    made.create(llm("demo", replicas=2, webUI={}))
    eventually(lambda: made.is_ready("demo") and made.condition("demo", "WebUIReady")[0] == "True")
    yield made
    made.delete(KIND, "demo")


def live(space: Space, kind: str = "Deployment", name: str = "demo") -> JSON:
    found = space.get(kind, name)
    assert found is not None
    return found


def spec(space: Space, kind: str = "Deployment", name: str = "demo") -> JSON:
    found: JSON = live(space, kind, name)["spec"]
    return found


def patched(
    space: Space, body: Any, content: str, manager: str = "somebody", kind: str = "Deployment", name: str = "demo"
) -> None:
    force = "&force=true" if content == APPLY else ""
    space.plane.request("PATCH", f"{space.path(kind, name)}?fieldManager={manager}{force}", body, content)


def quiet(operator: OperatorUnderTest, space: Space) -> None:
    """Nothing is written any more, whatever happens to the object."""
    space.wait_quiet(operator)
    before = operator.writes()
    for number in range(3):
        space.patch("demo", {"metadata": {"annotations": {"someone": f"else-{number}"}}})
        time.sleep(0.3)
    operator.wait_idle()
    assert operator.writes() == before


def rolled_out(space: Space) -> bool:
    """Whether the pods of the Deployment are those of its template, and the object says that it is served."""
    now = live(space)
    status, wanted = now["status"], now["spec"]["replicas"]
    counts = {status.get(name) for name in ("replicas", "updatedReplicas", "availableReplicas")}
    return (
        status["observedGeneration"] == now["metadata"]["generation"] and counts == {wanted} and space.is_ready("demo")
    )


def events(space: Space, reason: str) -> list[str]:
    items = space.plane.request("GET", space.path("Event"))["items"]
    return [item["message"] for item in items if item["reason"] == reason]


def template(**fields: Any) -> JSON:
    return {"spec": {"template": {"spec": fields}}}


def engine(**fields: Any) -> JSON:
    return template(containers=[{"name": "engine", **fields}])


ADDITIONS = {
    "variable": (engine(env=[{"name": "EXTRA", "value": "1"}]), "containers[name=engine].env[name=EXTRA]"),
    "container": (template(containers=[{"name": "miner", "image": "miner:1"}]), "containers[name=miner]"),
    "init container": (template(initContainers=[{"name": "init", "image": "init:1"}]), "initContainers"),
    "port": (engine(ports=[{"containerPort": 9999, "protocol": "TCP"}]), "containers[name=engine].ports["),
    "volume and mount": (
        {
            **template(
                volumes=[{"name": "host", "hostPath": {"path": "/"}}],
                containers=[{"name": "engine", "volumeMounts": [{"name": "host", "mountPath": "/host"}]}],
            )
        },
        "volumes[name=host]",
    ),
    "command": (engine(command=["/bin/sh"]), "containers[name=engine].command"),
    "limit": (engine(resources={"limits": {"cpu": "1"}}), "containers[name=engine].resources.limits.cpu"),
    "host network": (template(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"), "hostNetwork"),
    "affinity": (
        template(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}),
        "affinity",
    ),
    "service account": (template(serviceAccountName="default"), "serviceAccountName"),
    "security context": (template(securityContext={"runAsUser": 0}), "securityContext.runAsUser"),
    "rollout": ({"spec": {"minReadySeconds": 3}}, "minReadySeconds"),
    "operator's label": (
        {"spec": {"template": {"metadata": {"labels": {"llm-operator.dev/chat": "other"}}}}},
        "labels[llm-operator.dev/chat]",
    ),
}


@pytest.mark.parametrize("case", ADDITIONS)
def test_what_somebody_adds_is_removed_and_told(shared: Space, case: str) -> None:
    before = spec(shared)
    body, path = ADDITIONS[case]
    patched(shared, body, STRATEGIC)
    eventually(lambda: spec(shared) == before, why=lambda: str(spec(shared)))
    eventually(lambda: any(path in told and "somebody" in told for told in events(shared, "DriftRemoved")), why=case)
    assert shared.condition("demo", "Drifted") == ("", "", "")


def exchanged(space: Space, case: str) -> list[JSON]:
    """JSON patch that gives one of our values another source; an apply alone would leave both, which is refused."""
    pod = spec(space)["template"]["spec"]
    (container,) = (one for one in pod["containers"] if one["name"] == "engine")
    at = f"/spec/template/spec/containers/{pod['containers'].index(container)}"
    volume = next(n for n, one in enumerate(pod["volumes"]) if "emptyDir" in one)
    variable = next(n for n, one in enumerate(container["env"]) if "value" in one)
    reference = {"fieldRef": {"fieldPath": "metadata.name"}}
    every: dict[str, list[JSON]] = {
        "volume": [
            {"op": "remove", "path": f"/spec/template/spec/volumes/{volume}/emptyDir"},
            {"op": "add", "path": f"/spec/template/spec/volumes/{volume}/hostPath", "value": {"path": "/"}},
        ],
        "variable": [
            {"op": "remove", "path": f"{at}/env/{variable}/value"},
            {"op": "add", "path": f"{at}/env/{variable}/valueFrom", "value": reference},
        ],
        "probe": [
            {"op": "remove", "path": f"{at}/readinessProbe/httpGet"},
            {"op": "add", "path": f"{at}/readinessProbe/exec", "value": {"command": ["true"]}},
        ],
        "strategy": [{"op": "replace", "path": "/spec/strategy", "value": {"type": "Recreate"}}],
    }
    more: list[JSON] = [
        {"op": "add", "path": f"{at}/env/-", "value": {"name": f"M{n}", "value": "1"}} for n in range(30)
    ]
    every["volume behind thirty variables"] = every["volume"] + more
    return every[case]


@pytest.mark.parametrize("case", ["volume", "variable", "probe", "strategy", "volume behind thirty variables"])
def test_another_source_of_a_value_is_taken_back(shared: Space, case: str) -> None:
    before = spec(shared)
    patched(shared, exchanged(shared, case), JSON_PATCH)
    assert spec(shared) != before
    eventually(lambda: spec(shared) == before, why=lambda: str(shared.condition("demo", "Ready")))
    assert shared.condition("demo", "Drifted") == ("", "", "")


def test_what_other_managers_apply_is_taken_back(operator: OperatorUnderTest, space: Space) -> None:
    before = spec(space)
    base = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "demo"}}
    patched(space, {**base, **engine(image="other:1", env=[{"name": "ONE", "value": "1"}])}, APPLY, "first")
    patched(space, {**base, **engine(args=["--help"], env=[{"name": "TWO", "value": "2"}])}, APPLY, "second")
    eventually(lambda: spec(space) == before, why=lambda: str(spec(space)["template"]["spec"]["containers"]))
    eventually(lambda: space.is_ready("demo"))
    quiet(operator, space)


def test_an_edit_of_many_things_at_once(operator: OperatorUnderTest, space: Space) -> None:
    before = spec(space)
    container = "/spec/template/spec/containers/0"
    edit = [
        {"op": "add", "path": f"{container}/env/0", "value": {"name": "FIRST", "value": "1"}},
        {"op": "add", "path": f"{container}/env/-", "value": {"name": "LAST", "value": "1"}},
        {"op": "replace", "path": f"{container}/image", "value": "other:1"},
        {"op": "remove", "path": f"{container}/livenessProbe"},
        {"op": "add", "path": "/spec/template/spec/containers/0", "value": {"name": "a-first", "image": "x:1"}},
        {"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "z-last", "image": "x:1"}},
        {"op": "replace", "path": "/spec/replicas", "value": 7},
    ]
    patched(space, edit, JSON_PATCH, "kubectl-edit")
    eventually(lambda: spec(space) == before, why=lambda: str(spec(space)["template"]["spec"]["containers"]))
    quiet(operator, space)


def test_a_busy_deployment_is_restored_and_nobody_else_is_blamed(operator: OperatorUnderTest, space: Space) -> None:
    """Each write of another controller between apply and removal is a conflict; none of them is another operator's."""
    before, ends = spec(space), time.monotonic() + 6

    def busy(writer: int) -> None:
        for number in itertools.count():
            if time.monotonic() > ends:
                return
            annotations = {f"example.com/writer-{writer}": str(number)}
            space.patch("demo", {"metadata": {"annotations": annotations}}, "Deployment")

    with ThreadPoolExecutor(4) as writers:
        work = [writers.submit(busy, writer) for writer in range(4)]
        patched(space, engine(env=[{"name": "EXTRA", "value": "1"}]), STRATEGIC)
    for one in work:
        one.result()
    eventually(lambda: spec(space) == before, why=lambda: str(space.condition("demo", "Contested")))
    assert space.condition("demo", "Contested") == ("", "", "")
    eventually(lambda: space.is_ready("demo"))


@pytest.mark.parametrize(
    ("kind", "name", "body"),
    [
        ("Service", "demo", {"spec": {"sessionAffinity": "ClientIP"}}),
        ("Service", "demo", {"spec": {"ports": [{"name": "debug", "port": 9, "protocol": "TCP"}]}}),
        ("Service", "demo", {"spec": {"type": "NodePort"}}),
        ("Service", "demo", {"spec": {"externalIPs": ["203.0.113.1"]}}),
        ("Service", "demo-chat", {"spec": {"publishNotReadyAddresses": True}}),
        ("Deployment", "demo-chat", template(containers=[{"name": "chat", "env": [{"name": "X", "value": "1"}]}])),
        ("PodDisruptionBudget", "demo", {"spec": {"unhealthyPodEvictionPolicy": "IfHealthyBudget"}}),
    ],
    ids=lambda value: str(value)[:24],
)
def test_the_other_children(shared: Space, kind: str, name: str, body: JSON) -> None:
    before = spec(shared, kind, name)
    patched(shared, body, STRATEGIC, kind=kind, name=name)
    eventually(lambda: spec(shared, kind, name) == before, why=lambda: str(spec(shared, kind, name)))


def test_quiet_after_all_of_these(operator: OperatorUnderTest, shared: Space) -> None:
    quiet(operator, shared)


def test_a_rollout_restart_stays(operator: OperatorUnderTest, space: Space) -> None:
    space.plane.run_kubectl("-n", space.name, "rollout", "restart", "deployment/demo")
    annotation = "kubectl.kubernetes.io/restartedAt"
    eventually(lambda: live(space)["status"].get("updatedReplicas") == 2 and space.is_ready("demo"))
    operator.wait_idle()
    assert annotation in spec(space)["template"]["metadata"]["annotations"]
    assert space.condition("demo", "Drifted") == ("", "", "")
    assert events(space, "DriftRemoved") == []
    quiet(operator, space)
    # Not lost when the operator writes the Deployment for a reason of its own.
    space.patch("demo", {"spec": {"replicas": 3}})
    eventually(lambda: spec(space)["replicas"] == 3 and space.is_ready("demo"))
    assert annotation in spec(space)["template"]["metadata"]["annotations"]


def test_a_paused_rollout_stays_and_is_told(operator: OperatorUnderTest, space: Space) -> None:
    space.plane.run_kubectl("-n", space.name, "rollout", "pause", "deployment/demo")
    space.patch("demo", {"spec": {"maxConcurrentSequences": 7}})
    eventually(lambda: space.condition("demo", "Ready")[:2] == ("Unknown", "DeploymentPaused"))
    assert spec(space)["paused"] is True
    quiet(operator, space)
    space.plane.run_kubectl("-n", space.name, "rollout", "resume", "deployment/demo")
    eventually(lambda: space.is_ready("demo"))
    assert events(space, "DriftRemoved") == []


def test_another_autoscaler_is_slowed_down_and_told(operator: OperatorUnderTest, space: Space) -> None:
    """As a HorizontalPodAutoscaler of the Deployment would: it scales again whenever it finds another number."""
    scale = f"{space.path('Deployment', 'demo')}/scale?fieldManager=autoscaler"

    def told() -> bool:
        if spec(space)["replicas"] == 2:
            body = {"spec": {"replicas": 4}}
            space.plane.request("PATCH", scale, body, "application/merge-patch+json")
        return space.condition("demo", "Drifted")[:2] == ("True", "RestoredRepeatedly")

    eventually(told, why=lambda: str(space.condition("demo", "Drifted")))
    message = space.condition("demo", "Drifted")[2]
    assert "spec.replicas (manager autoscaler)" in message
    # What the object's own spec changes is written at once all the same.
    space.patch("demo", {"spec": {"replicas": 1}})
    eventually(lambda: spec(space)["replicas"] == 1, seconds=5)
    eventually(lambda: space.condition("demo", "Drifted")[0] == "")


def policy(space: Space, name: str, expression: str) -> None:
    """A mutating admission policy for the Deployments of one namespace, in force when this returns."""
    api = "/apis/admissionregistration.k8s.io/v1/"
    meta = {"name": f"{name}-{space.name}"}
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    space.plane.request(
        "POST",
        f"{api}mutatingadmissionpolicies",
        {
            "metadata": meta,
            "spec": {
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "matchConstraints": {"resourceRules": [rule]},
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
            },
        },
    )
    selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name}}}
    space.plane.request(
        "POST",
        f"{api}mutatingadmissionpolicybindings",
        {"metadata": meta, "spec": {"policyName": meta["name"], "matchResources": selector}},
    )
    probe = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "probe"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "engine", "image": "probe:1"}]},
            },
        },
    }
    plain = space.plane.request("POST", f"{space.path('Deployment')}?dryRun=All", probe)["spec"]["template"]["spec"]

    def in_force() -> bool:
        made = space.plane.request("POST", f"{space.path('Deployment')}?dryRun=All", probe)["spec"]["template"]["spec"]
        return bool(len(made["containers"]) > 1 or made["containers"][0]["image"] != "probe:1")

    assert len(plain["containers"]) >= 1
    eventually(in_force, why="the policy is in force")


SIDECAR = """Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
  containers: [Object.spec.template.spec.containers{name: "sidecar", image: "sidecar:1"}]}}}}"""
MIRROR = """Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
  containers: [Object.spec.template.spec.containers{name: "engine", image: "mirror.local/engine:1"}]}}}}"""


def test_a_sidecar_of_a_webhook_stays(operator: OperatorUnderTest, space: Space) -> None:
    policy(space, "sidecar", SIDECAR)
    space.patch("demo", {"spec": {"maxConcurrentSequences": 7}})
    eventually(lambda: len(spec(space)["template"]["spec"]["containers"]) == 2)
    eventually(lambda: space.is_ready("demo"))
    quiet(operator, space)
    assert space.condition("demo", "Drifted") == ("", "", "")
    # Beside it, what somebody adds still goes.
    patched(space, engine(env=[{"name": "EXTRA", "value": "1"}]), STRATEGIC)
    eventually(lambda: "EXTRA" not in str(spec(space)) and events(space, "DriftRemoved"))
    assert len(spec(space)["template"]["spec"]["containers"]) == 2
    eventually(lambda: rolled_out(space))
    quiet(operator, space)


def test_a_value_that_a_webhook_changes_is_written_once_and_told(operator: OperatorUnderTest, space: Space) -> None:
    policy(space, "mirror", MIRROR)
    space.patch("demo", {"spec": {"maxConcurrentSequences": 7}})
    eventually(
        lambda: space.condition("demo", "Drifted")[:2] == ("True", "ChangedOnAdmission"),
        why=lambda: str(space.condition("demo", "Drifted")),
    )
    assert "spec.template.spec.containers[name=engine].image" in space.condition("demo", "Drifted")[2]
    eventually(lambda: space.is_ready("demo"))
    quiet(operator, space)
