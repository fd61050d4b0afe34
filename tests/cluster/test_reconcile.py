"""The operator as a process against a real API server, controllers, scheduler and fake GPU nodes."""

import itertools
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from devcluster.client import ApiError
from devcluster.control_plane import ControlPlane
from llm_operator.api import KIND
from tests.cluster.helpers import JSON, Space, serving
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

CRD = Path(__file__).resolve().parents[2] / "crds" / "llm-operator.dev_llmdeployments.yaml"
CHILDREN = ("Deployment", "Service")
numbers = itertools.count()


@pytest.fixture(scope="module")
def plane(cluster_control_plane: ControlPlane) -> ControlPlane:
    cluster_control_plane.fake_gpu_node("reconcile-1", gpus=64)
    return cluster_control_plane


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorUnderTest]:
    with serving(plane, (), tmp_path_factory.mktemp("operator")) as process:
        yield process


@pytest.fixture(scope="module")
def empty_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster that no operator serves yet."""
    folder = tmp_path_factory.mktemp("empty")
    with ControlPlane.start(folder, controllers=True, scheduler=True, kwok=True) as started:
        started.install_crd(CRD)
        started.fake_gpu_node("empty-1", gpus=64)
        yield started


@pytest.fixture
def space(plane: ControlPlane) -> Space:
    return Space(plane, f"reconcile-{next(numbers)}")


def ready(space: Space, name: str, **spec: object) -> None:
    space.create(llm(name, **spec))
    eventually(lambda: space.is_ready(name), why=lambda: f"{name} Ready: {space.condition(name, 'Ready')}")


def args(space: Space, name: str) -> list[str]:
    live = space.get("Deployment", name)
    assert live is not None
    found: list[str] = live["spec"]["template"]["spec"]["containers"][0]["args"]
    return found


def test_an_object_becomes_ready_with_all_conditions_and_children(operator: OperatorUnderTest, space: Space) -> None:
    ready(space, "demo", replicas=2)
    body = space.get(KIND, "demo")
    assert body is not None
    status = body["status"]
    assert {entry["type"] for entry in status["conditions"]} == {
        "Ready",
        "Reconciling",
        "Stalled",
        "Planned",
        "Available",
        "Healthy",
        # This operator makes no NetworkPolicies, and the object has no key.
        "Exposed",
    }
    assert all(entry["observedGeneration"] == 1 and entry["reason"] for entry in status["conditions"])
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)
    assert status["endpoint"] == f"http://demo.{space.name}.svc:80/v1"
    assert status["engine"]["args"] == args(space, "demo")
    for kind in (*CHILDREN, "PodDisruptionBudget"):
        child = space.get(kind, "demo")
        assert child is not None
        assert child["metadata"]["ownerReferences"][0]["uid"] == body["metadata"]["uid"]
    assert "finalizers" not in body["metadata"]


def test_kubectl_wait_and_the_printed_columns(operator: OperatorUnderTest, space: Space) -> None:
    space.create(llm("waits"))
    space.plane.run_kubectl("-n", space.name, "wait", "--for=condition=Ready", "--timeout=30s", "llmdep/waits")
    printed = space.plane.run_kubectl("-n", space.name, "get", "llmdep")
    assert "waits" in printed
    assert "VLLM" in printed
    assert "ReplicasReady" in printed


def test_nothing_is_written_while_nothing_changes(operator: OperatorUnderTest, space: Space) -> None:
    ready(space, "quiet", replicas=2)
    space.wait_quiet(operator)
    before = operator.writes()
    space.patch("quiet", {"metadata": {"annotations": {"someone": "else"}}})
    time.sleep(3)
    assert operator.writes() == before


def test_a_deleted_child_comes_back(operator: OperatorUnderTest, space: Space) -> None:
    def another(kind: str, uid: str) -> bool:
        new = space.get(kind, "heals")
        return new is not None and new["metadata"]["uid"] != uid

    ready(space, "heals")
    for kind in CHILDREN:
        old = space.get(kind, "heals")
        assert old is not None
        space.delete(kind, "heals")
        eventually(partial(another, kind, old["metadata"]["uid"]), why=f"a new {kind}")
    eventually(lambda: space.is_ready("heals"))


def test_an_edited_child_is_restored(operator: OperatorUnderTest, space: Space) -> None:
    ready(space, "drifts")
    original = args(space, "drifts")
    hostile = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--enforce-eager"}]
    space.plane.request("PATCH", space.path("Deployment", "drifts"), hostile, "application/json-patch+json")
    eventually(lambda: args(space, "drifts") == original, why="the arguments as before")
    space.patch("drifts", {"spec": {"selector": {"app": "elsewhere"}}}, "Service")
    eventually(
        lambda: (live := space.get("Service", "drifts")) and "app" not in live["spec"]["selector"], why="the selector"
    )


@pytest.mark.parametrize("label", ["app.kubernetes.io/managed-by", "llm-operator.dev/deployment"])
def test_a_child_whose_labels_were_edited_is_restored_not_doubled(
    operator: OperatorUnderTest, space: Space, label: str
) -> None:
    ready(space, "labels")
    space.patch("labels", {"metadata": {"labels": {label: None}}}, "Service")
    eventually(
        lambda: (live := space.get("Service", "labels")) and label in live["metadata"]["labels"], why="the label"
    )
    space.patch("labels", {"metadata": {"labels": {label: "someone-else"}}}, "Deployment")
    eventually(
        lambda: (live := space.get("Deployment", "labels")) and live["metadata"]["labels"].get(label) != "someone-else",
        why="the label's value",
    )
    assert space.names("Deployment") == {"labels"}


def test_scaling_touches_no_pod_and_makes_a_budget(operator: OperatorUnderTest, space: Space) -> None:
    ready(space, "scales")
    pods = space.names("Pod")
    space.plane.run_kubectl("-n", space.name, "scale", "llmdep/scales", "--replicas=3")
    eventually(lambda: space.is_ready("scales") and len(space.names("Pod")) == 3)
    assert pods < space.names("Pod")
    assert space.names("PodDisruptionBudget") == {"scales"}
    space.plane.run_kubectl("-n", space.name, "scale", "llmdep/scales", "--replicas=1")
    eventually(lambda: space.names("PodDisruptionBudget") == set())
    space.plane.run_kubectl("-n", space.name, "scale", "llmdep/scales", "--replicas=0")
    eventually(lambda: space.condition("scales", "Ready")[1] == "Stopped")


def test_a_changed_spec_rolls_the_pods(operator: OperatorUnderTest, space: Space) -> None:
    ready(space, "rolls")
    before = space.names("Pod")
    space.patch("rolls", {"spec": {"contextLength": 4096}})
    eventually(lambda: space.is_ready("rolls") and "4096" in args(space, "rolls"))
    eventually(lambda: len(space.names("Pod")) == 1 and not space.names("Pod") & before)


def test_a_refused_spec_stalls_and_leaves_what_serves(operator: OperatorUnderTest, space: Space) -> None:
    ready(space, "refused")
    pods, good = space.names("Pod"), args(space, "refused")
    space.patch("refused", {"spec": {"engine": {"extraArgs": ["--max-model-len", "99"]}}})
    eventually(lambda: space.condition("refused", "Stalled")[0] == "True", why="Stalled")
    stalled = space.condition("refused", "Stalled")
    assert "--max-model-len" in stalled[2]
    assert "contextLength" in stalled[2], "the message must name the field to use"
    available = space.condition("refused", "Available")
    assert available[0] == "True"
    assert (space.names("Pod"), args(space, "refused")) == (pods, good)
    space.patch("refused", {"spec": {"engine": {"extraArgs": []}}})
    eventually(lambda: space.is_ready("refused"))
    assert space.names("Pod") == pods


def test_an_unknown_version_stalls_and_names_the_known(operator: OperatorUnderTest, space: Space) -> None:
    space.create(llm("future", engine={"type": "LMDeploy", "version": "9.9.9"}))
    eventually(lambda: space.condition("future", "Stalled")[0] == "True")
    stalled = space.condition("future", "Stalled")
    assert "0.18" in stalled[2]
    assert space.names("Deployment") == set()


def test_deletion_leaves_nothing(operator: OperatorUnderTest, space: Space) -> None:
    ready(space, "goes", replicas=2)
    space.delete(KIND, "goes")
    kinds = (KIND, *CHILDREN, "PodDisruptionBudget", "Pod")
    eventually(lambda: not any(map(space.names, kinds)), why=lambda: f"left are {[*map(space.names, kinds)]}")


def test_a_foreign_service_of_that_name_is_not_taken(operator: OperatorUnderTest, space: Space) -> None:
    space.create(
        {"metadata": {"name": "taken"}, "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]}}, "Service"
    )
    space.create(llm("taken"))
    eventually(lambda: space.condition("taken", "Available")[0] == "True", why="the pod serves")
    operator.wait_idle()
    assert space.condition("taken", "Ready")[:2] == ("False", "NameConflict")
    assert space.condition("taken", "Stalled")[:2] == ("True", "NameConflict")
    live = space.get("Service", "taken")
    assert live is not None
    assert live["spec"]["selector"] == {"app": "x"}
    space.delete("Service", "taken")
    eventually(lambda: space.is_ready("taken"), seconds=60, why="taken over once the name is free")


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Service", {"ports": [{"name": "db", "port": 5432}]}),
        ("Service", {"type": "ExternalName", "externalName": "db.example.com"}),
        # Without a selector, and with one that selects our pods too.
        ("PodDisruptionBudget", {"minAvailable": 1}),
        (
            "PodDisruptionBudget",
            {"maxUnavailable": 0, "selector": {"matchLabels": {"llm-operator.dev/deployment": "theirs"}}},
        ),
        (
            "Deployment",
            {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "x"}},
                "template": {
                    "metadata": {"labels": {"app": "x"}},
                    "spec": {"containers": [{"name": "c", "image": "i"}]},
                },
            },
        ),
    ],
)
def test_what_belongs_to_somebody_else_is_not_touched(
    operator: OperatorUnderTest, space: Space, kind: str, spec: JSON
) -> None:
    def said() -> list[object]:
        live = space.get(kind, "theirs") or {"metadata": {}, "spec": None}
        return [live["spec"], *(live["metadata"].get(field) for field in ("uid", "labels", "ownerReferences"))]

    space.create({"metadata": {"name": "theirs"}, "spec": spec}, kind)
    before = said()
    # A budget is made for more than one replica.
    space.create(llm("theirs", replicas=2))
    eventually(lambda: space.condition("theirs", "Stalled")[:2] == ("True", "NameConflict"))
    assert f"{kind} 'theirs' exists and belongs to somebody else" in space.condition("theirs", "Ready")[2]
    operator.wait_idle()
    assert said() == before
    space.delete(KIND, "theirs")
    eventually(lambda: space.get(KIND, "theirs") is None)
    assert said() == before


FOREIGN = {
    "Service": {"ports": [{"name": "db", "port": 5432}]},
    "PodDisruptionBudget": {"minAvailable": 1},
    "Deployment": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    },
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_our_labels_and_an_owner_reference_of_ours_make_nothing_ours(
    operator: OperatorUnderTest, space: Space, kind: str
) -> None:
    """Labels are copied, and anybody may add an owner: what another controller holds stays its own."""

    def said() -> list[object]:
        live = space.get(kind, "theirs") or {"metadata": {}, "spec": None}
        return [live["spec"], *(live["metadata"].get(field) for field in ("uid", "labels"))]

    def is_conflict() -> bool:
        return space.condition("theirs", "Stalled")[:2] == ("True", "NameConflict")

    labels = {"app.kubernetes.io/managed-by": "llm-operator", "llm-operator.dev/deployment": "theirs"}
    space.create({"metadata": {"name": "theirs", "labels": labels}, "spec": FOREIGN[kind]}, kind)
    before = said()
    space.create(llm("theirs", replicas=2))
    eventually(is_conflict, why=lambda: f"with our labels: {space.condition('theirs', 'Ready')}")
    assert said() == before
    holder = space.plane.request(
        "POST", f"/api/v1/namespaces/{space.name}/configmaps", {"metadata": {"name": "holder"}}
    )
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "holder",
        "uid": holder["metadata"]["uid"],
        "controller": True,
    }
    mine = space.get(KIND, "theirs")
    assert mine is not None
    ours = {"apiVersion": mine["apiVersion"], "kind": KIND, "name": "theirs", "uid": mine["metadata"]["uid"]}
    for owners in ([theirs], [ours, theirs], [theirs, ours]):
        space.patch("theirs", {"metadata": {"ownerReferences": owners}}, kind)
        space.patch("theirs", {"metadata": {"annotations": {"look": str(len(owners))}}})
        operator.wait_idle()
        eventually(is_conflict, why=lambda: f"another controls it: {space.condition('theirs', 'Ready')}")
        assert "ConfigMap 'holder'" in space.condition("theirs", "Ready")[2]
        assert said() == before
        live = space.get(kind, "theirs")
        assert live is not None
        assert live["metadata"]["ownerReferences"] == owners


def test_the_clusters_own_service_is_not_taken(operator: OperatorUnderTest, plane: ControlPlane) -> None:
    path = "/api/v1/namespaces/default/services/kubernetes"
    before = plane.request("GET", path)
    objects = "/apis/llm-operator.dev/v1alpha1/namespaces/default/llmdeployments"
    plane.request("POST", objects, llm("kubernetes"))

    def reason() -> str:
        status = plane.request("GET", f"{objects}/kubernetes").get("status") or {}
        return next((entry["reason"] for entry in status.get("conditions", ()) if entry["type"] == "Stalled"), "")

    eventually(lambda: reason() == "NameConflict", why=reason)
    assert plane.request("GET", path) == before
    plane.request("DELETE", f"{objects}/kubernetes")


def test_a_field_that_was_created_and_is_dropped_goes(operator: OperatorUnderTest, space: Space) -> None:
    """Fields of a POST belong to an Update entry, which an apply does not remove unless it is taken over."""
    space.create(llm("drops", nodeSelector={"kubernetes.io/os": "linux"}))
    eventually(lambda: space.get("Deployment", "drops"))
    space.plane.request(
        "PATCH", space.path(KIND, "drops"), {"spec": {"nodeSelector": None}}, "application/merge-patch+json"
    )

    def selector() -> object:
        live = space.get("Deployment", "drops")
        assert live is not None
        return live["spec"]["template"]["spec"].get("nodeSelector")

    eventually(lambda: not selector(), why=lambda: f"no nodeSelector, but {selector()}")
    managers = (space.get("Deployment", "drops") or {})["metadata"]["managedFields"]
    ours = [entry["operation"] for entry in managers if entry["manager"] == "llm-operator"]
    assert ours == ["Apply"]


def test_an_unschedulable_pod_shows_in_the_condition(operator: OperatorUnderTest, space: Space) -> None:
    space.create(llm("nowhere", nodeSelector={"no-such": "label"}))
    eventually(lambda: space.condition("nowhere", "Ready")[1] == "Unschedulable", seconds=10)


def test_events_tell_transitions_once(operator: OperatorUnderTest, space: Space) -> None:
    ready(space, "news")
    operator.wait_idle()
    events = space.plane.request("GET", f"/api/v1/namespaces/{space.name}/events")["items"]
    ours = [event["reason"] for event in events if event["involvedObject"]["kind"] == KIND]
    assert ours.count("ReplicasReady") == 1
    assert len(ours) == len(set(ours)), ours


def test_a_restart_and_an_upgrade_write_nothing(empty_plane: ControlPlane, tmp_path: Path) -> None:
    space = Space(empty_plane, f"restart-{next(numbers)}")
    with OperatorUnderTest(empty_plane.kubeconfig, space.name, log=tmp_path / "log") as first:
        first.wait_ready()
        for index in range(5):
            space.create(llm(f"llm-{index}", replicas=2))
        eventually(lambda: all(space.is_ready(f"llm-{index}") for index in range(5)))
        first.wait_idle()
    with OperatorUnderTest(empty_plane.kubeconfig, space.name, log=tmp_path / "log") as second:
        second.wait_ready()
        second.wait_idle()
        assert second.writes() == 0


def test_what_changed_while_no_operator_ran_is_made_good(empty_plane: ControlPlane, tmp_path: Path) -> None:
    space = Space(empty_plane, f"absence-{next(numbers)}")
    with OperatorUnderTest(empty_plane.kubeconfig, space.name) as first:
        first.wait_ready()
        ready(space, "absent")
        ready(space, "removed")
    space.delete("Service", "absent")
    space.patch("absent", {"spec": {"contextLength": 2048}})
    space.delete(KIND, "removed")
    with OperatorUnderTest(empty_plane.kubeconfig, space.name) as second:
        second.wait_ready()
        eventually(lambda: space.get("Service", "absent") and "2048" in args(space, "absent"))
        eventually(lambda: space.is_ready("absent"))


def test_only_the_leader_writes_and_another_takes_over(empty_plane: ControlPlane, tmp_path: Path) -> None:
    space = Space(empty_plane, f"lease-{next(numbers)}")
    leading = ("--lease-namespace", space.name, "--no-gpu-inventory")
    first = OperatorUnderTest(empty_plane.kubeconfig, space.name, arguments=leading, log=tmp_path / "first")
    second = OperatorUnderTest(empty_plane.kubeconfig, space.name, arguments=leading, log=tmp_path / "second")
    with first, second:
        first.wait_ready()
        second.wait_ready()
        eventually(
            lambda: 'leader_election_master_status{name="llm-operator"} 1.0' in first.metrics() + second.metrics()
        )
        leader, waiting = (first, second) if "} 1.0" in _leads(first) else (second, first)
        ready(space, "led")
        assert waiting.writes() == 0
        leader.kill()
        space.patch("led", {"spec": {"contextLength": 1024}})
        eventually(lambda: "1024" in args(space, "led"), seconds=45, why="the other leads after the lease ran out")


def _leads(process: OperatorUnderTest) -> str:
    return "".join(line for line in process.metrics().splitlines() if line.startswith("leader_election_master_status"))


def test_an_api_server_restart_is_survived(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with ControlPlane.start(tmp_path_factory.mktemp("restarting")) as plane:
        plane.install_crd(CRD)
        space = Space(plane, "survives")
        with OperatorUnderTest(plane.kubeconfig, log=tmp_path / "log") as process:
            process.wait_ready()
            space.create(llm("before"))
            eventually(lambda: space.get("Deployment", "before"))
            plane.restart_api_server()
            space.create(llm("after"))
            eventually(lambda: space.get("Deployment", "after"), seconds=60)


def test_a_bad_object_is_refused_by_the_api_server_with_the_fix(operator: OperatorUnderTest, space: Space) -> None:
    with pytest.raises(ApiError) as refused:
        space.create(llm("bad", engine={"type": "LMDeploy"}, kvCache={"quantization": "FP8"}))
    assert "use Int8 or Int4" in refused.value.body


@pytest.mark.parametrize("character", ["\x7f", "\x9b", "\u2028"])
def test_control_characters_that_the_crd_takes_end_in_a_status(
    operator: OperatorUnderTest, space: Space, character: str
) -> None:
    """Applies are sent as YAML, which refuses or folds characters that JSON allows: there was never a status."""
    engine = {"type": "VLLM", "extraArgs": [f"--{character}"], "env": [{"name": "ODD", "value": f"a{character}b"}]}
    space.create(llm("refused", engine=engine))
    eventually(lambda: space.condition("refused", "Stalled")[0] == "True", 20, why="a condition")
    space.create(llm("served", engine={"type": "VLLM", "env": [{"name": "ODD", "value": f"a{character}b"}]}))
    live = eventually(lambda: space.get("Deployment", "served"), 20, why="a Deployment")
    assert live is not None
    environment = live["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "ODD", "value": f"a{character}b"} in environment


def test_an_object_that_is_nested_deeply_costs_nobody_else_anything(operator: OperatorUnderTest, space: Space) -> None:
    """The API server keeps thousands of levels; the reader takes 200, and a list with more was unreadable."""
    value: object = "x"
    for _ in range(150):
        value = {"a": [value]}
    space.create(llm("deep", podTemplate={"spec": {"affinity": value}}))
    space.create(llm("plain"))
    eventually(lambda: space.condition("deep", "Stalled")[:2] == ("True", "InvalidSpec"), 20)
    eventually(lambda: space.get("Deployment", "plain"), 20)
    with OperatorUnderTest(space.plane.kubeconfig, space.name) as second:
        second.wait_ready()


def test_pods_that_the_api_server_refuses_end_in_a_reason(operator: OperatorUnderTest, space: Space) -> None:
    quota: JSON = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus"}}
    quota |= {"spec": {"hard": {"requests.nvidia.com/gpu": "0"}}}
    space.plane.request("POST", f"/api/v1/namespaces/{space.name}/resourcequotas", quota)
    space.create(llm("over-quota"))
    space.create(llm("no-class", priorityClassName="gold", gpu={"resourceName": "example.com/gpu"}))
    expected = {"over-quota": "QuotaExceeded", "no-class": "PriorityClassMissing"}

    def reasons() -> dict[str, str]:
        return {name: space.condition(name, "Ready")[1] for name in expected}

    eventually(lambda: reasons() == expected, why=lambda: f"the reasons {expected}, but {reasons()}")
    assert "requests.nvidia.com/gpu=0" in space.condition("over-quota", "Ready")[2]
