"""Live pods and children, reduced to what is decided on; bodies as kubelet 1.36 and the API server write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_operator.live.children import child_from
from llm_operator.live.pods import ContainerEnd, Pod, pod_from
from llm_operator.manifests.common import ANNOTATION_ENGINE, ANNOTATION_MODEL, LABEL_INPUTS

STARTED = "2026-01-01T00:00:00Z"
READY = "2026-01-01T00:02:00Z"
RUNNING: dict[str, Any] = {"running": {"startedAt": STARTED}}
WAITING: dict[str, Any] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
INITIALIZING: dict[str, Any] = {"waiting": {"reason": "PodInitializing"}}
OVER: dict[str, Any] = {"terminated": {"exitCode": 0, "reason": "Completed", "message": "{}", "finishedAt": READY}}
BROKEN: dict[str, Any] = {"terminated": {"exitCode": 3, "reason": "Error", "message": "gated", "finishedAt": READY}}


def container(name: str, state: dict[str, Any] | None, restarts: int = 0, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "restartCount": restarts, **more}


def seen(status: dict[str, Any] | None = None, **metadata: Any) -> Pod:
    return pod_from({"metadata": {"name": "demo-1", "uid": "1", "resourceVersion": "2", **metadata}, "status": status})


def engine(state: dict[str, Any] | None, restarts: int = 0, **more: Any) -> Pod:
    return seen({"phase": "Running", "containerStatuses": [container("engine", state, restarts, **more)]})


def test_a_pod_that_was_just_made_tells_nothing() -> None:
    expected = Pod(
        name="demo-1", uid="1", resource_version="2", inputs="", deleting=False, ready=False, phase="Unknown",
        unschedulable=None, waiting_reason=None, waiting_message="", end=None, running=False, restarts=0,
    )  # fmt: skip
    assert seen() == seen({}) == expected
    nulls: dict[str, Any] = {"conditions": None, "containerStatuses": None, "initContainerStatuses": None}
    assert seen(nulls, labels=None, annotations=None) == expected


def test_a_pod_that_serves() -> None:
    conditions = [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True", "lastTransitionTime": READY},
    ]
    status = {
        "phase": "Running",
        "conditions": conditions,
        "podIP": "10.0.0.9",
        "containerStatuses": [container("engine", RUNNING, 2), container("sidecar", WAITING)],
    }
    pod = seen(status, labels={LABEL_INPUTS: "0123456789"})
    assert (pod.inputs, pod.phase, pod.ready, pod.running, pod.pod_ip) == (
        "0123456789", "Running", True, True, "10.0.0.9",
    )  # fmt: skip
    assert (pod.container, pod.restarts, pod.started_at, pod.ready_at) == ("engine", 2, STARTED, READY)
    assert (pod.unschedulable, pod.waiting_reason, pod.end, pod.initializing) == (None, None, None, None)
    assert not pod.deleting
    assert seen(status, deletionTimestamp=READY).deleting
    conditions[1]["status"] = "False"
    assert not seen(status).ready


@pytest.mark.parametrize(
    ("reason", "message", "told"),
    [
        ("Unschedulable", "0/3 nodes are available", "0/3 nodes are available"),
        ("Unschedulable", None, ""),
        ("SchedulingGated", "waits", None),
        (None, None, None),
    ],
)
def test_what_the_scheduler_says(reason: str | None, message: str | None, told: str | None) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    words = {key: value for key, value in condition.items() if value is not None}
    assert seen({"phase": "Pending", "conditions": [words]}).unschedulable == told


def test_the_end_of_an_engine_is_its_present_one_or_the_last() -> None:
    killed = {"exitCode": 137, "signal": 9, "reason": "OOMKilled"}
    now = engine({"terminated": killed}, 1, lastState=BROKEN)
    assert now.end == ContainerEnd(137, 9, "OOMKilled", "", "")
    before = engine(WAITING, 3, lastState=BROKEN)
    assert before.end == ContainerEnd(3, None, "Error", "gated", READY)
    assert (before.waiting_reason, before.waiting_message, before.running) == (
        "CrashLoopBackOff", "back-off 10s", False,
    )  # fmt: skip
    assert engine(RUNNING, 3, lastState=BROKEN).end == before.end
    assert engine(RUNNING, 0, lastState=None).end is None
    assert engine(None).end is None
    assert engine({"terminated": {"finishedAt": None}, "running": None}).running


@pytest.mark.parametrize(
    ("state", "restarts", "tells"),
    [
        (INITIALIZING, 0, False),
        ({"waiting": {}}, 0, False),
        (None, 0, False),
        (OVER, 0, False),
        (RUNNING, 0, False),
        (RUNNING, 1, True),
        (WAITING, 0, True),
        (BROKEN, 0, True),
    ],
)
def test_an_init_container_tells_where_it_does_not_get_on(
    state: dict[str, Any] | None, restarts: int, tells: bool
) -> None:
    inits = [container("first", OVER), container("fetch", state, restarts)]
    pod = seen({"initContainerStatuses": inits, "containerStatuses": [container("engine", INITIALIZING)]})
    assert pod.container == ("fetch" if tells else "engine")
    assert pod.initializing == ("fetch" if state is RUNNING else None)


@pytest.mark.parametrize(
    ("annotation", "directory"),
    [
        ('{"directory": "models/a"}', "models/a"),
        ('{"directory": 5}', ""),
        ("{}", ""),
        ("[]", ""),
        ('"a"', ""),
        ("{", ""),
        ("", ""),
    ],
)
def test_the_model_that_a_pod_mounts(annotation: str, directory: str) -> None:
    assert seen(annotations={ANNOTATION_MODEL: annotation}).models == ((directory,) if directory else ())


@pytest.mark.parametrize(
    ("beside", "directories"),
    [
        ('[{"directory": "models/b"}]', ("models/a", "models/b")),
        ('[{"directory": "models/a"}]', ("models/a",)),
        ('[5, null, {}, {"directory": 5}, {"directory": "models/b"}]', ("models/a", "models/b")),
        ("5", ("models/a",)),
    ],
)
def test_what_a_pod_mounts_beside_its_model(beside: str, directories: tuple[str, ...]) -> None:
    annotation = f'{{"directory": "models/a", "beside": {beside}}}'
    assert seen(annotations={ANNOTATION_MODEL: annotation}).models == directories


def test_a_child_keeps_what_it_says_and_its_counts() -> None:
    owners = [{"kind": "Other", "uid": "no"}, {"kind": "LLMDeployment", "uid": "yes", "controller": True}]
    metadata = {
        "name": "demo", "uid": "1", "resourceVersion": "2", "generation": 3, "labels": {"a": "b"},
        "annotations": {"c": "d"}, "ownerReferences": owners, "managedFields": [{"manager": "kubectl"}],
    }  # fmt: skip
    status = {"replicas": 2, "readyReplicas": 1, "conditions": [{"type": "Available"}]}
    child = child_from({"kind": "Deployment", "metadata": metadata, "spec": {"replicas": 2}, "status": status})
    assert (child.kind, child.uid, child.resource_version, child.generation) == ("Deployment", "1", "2", 3)
    assert (child.owner_uid, child.deleting) == ("yes", False)
    assert child.status == {"replicas": 2, "readyReplicas": 1}
    kept = {name: metadata[name] for name in ("labels", "annotations", "ownerReferences")}
    assert child.body() == json.loads(child.text) == {"metadata": kept, "spec": {"replicas": 2}}


def test_a_bare_child() -> None:
    metadata: dict[str, Any] = {"name": "demo", "uid": "1", "resourceVersion": "2"}
    bare = {"kind": "Service", "metadata": metadata}
    child = child_from(bare)
    assert (child.generation, child.owner_uid, child.deleting, child.status) == (0, None, False, {})
    assert child.body() == {"metadata": {"labels": {}, "annotations": {}, "ownerReferences": []}, "spec": {}}
    going = {**bare, "metadata": {**metadata, "deletionTimestamp": READY, "ownerReferences": [{"uid": "x"}]}}
    assert (child_from(going).deleting, child_from(going).owner_uid) == (True, None)


@pytest.mark.parametrize(
    ("image", "version", "expected"),
    [
        ("vllm/vllm-openai:v0.26.0", "0.33.0", "0.26.0"),
        ("mirror.example:5000/ml/lmdeploy:v0.9.2.post1-cu12", "0.18.0", "0.9.2.post1"),
        ("registry.example/team/serving:v7.1.0", "0.33.0", "0.33.0"),
        ("vllm/vllm-openai@sha256:0a", "0.33.0", "0.33.0"),
        ("vllm/vllm-openai:v0.26.0rc1", "0.33.0", "0.33.0"),
        ("vllm/vllm-openai:nightly", "not a version", None),
        ("vllm/vllm-openai:nightly", 7, None),
    ],
)
def test_the_version_that_a_pod_runs(image: str, version: object, expected: str | None) -> None:
    annotations = {ANNOTATION_ENGINE: json.dumps({"version": version})}
    raw = {
        "metadata": {"name": "demo-1", "uid": "1", "resourceVersion": "2", "annotations": annotations},
        "spec": {"containers": [{"name": "proxy", "image": "vllm:0.1.0"}, {"name": "engine", "image": image}]},
    }
    assert pod_from(raw).engine_version == expected


VOLUMES: list[dict[str, Any]] = [
    {"name": "shm", "emptyDir": {}},
    {"name": "settings", "configMap": {"name": "settings"}},
    {"name": "maybe", "configMap": {"name": "maybe", "optional": True}},
    {"name": "key", "secret": {"secretName": "key"}},
    {"name": "model", "persistentVolumeClaim": {"claimName": "models"}},
    {"name": "all", "projected": {"sources": [{"secret": {"name": "other"}}, {"serviceAccountToken": {"path": "a"}}]}},
    {"name": "shared", "nfs": {"server": "nfs", "path": "/"}},
]


def before_its_containers(ready: str = "False", phase: str = "Pending", node: str | None = "gpu-1") -> Pod:
    meta = {"name": "demo-1", "uid": "1", "resourceVersion": "2"}
    conditions = [{"type": "PodReadyToStartContainers", "status": ready}]
    spec = {"nodeName": node, "volumes": VOLUMES}
    return pod_from({"metadata": meta, "spec": spec, "status": {"phase": phase, "conditions": conditions}})


def test_what_a_pod_has_yet_to_mount() -> None:
    assert before_its_containers().mounts == (
        ("settings", "ConfigMap 'settings'"),
        ("key", "Secret 'key'"),
        ("model", "PersistentVolumeClaim 'models'"),
        ("all", "Secret 'other'"),
        ("shared", "volume 'shared' (nfs)"),
    )


@pytest.mark.parametrize("change", [{"ready": "True"}, {"phase": "Running"}, {"phase": "Failed"}, {"node": None}])
def test_nothing_is_to_be_mounted_before_there_is_a_node_or_once_containers_may_start(change: dict[str, Any]) -> None:
    assert before_its_containers(**change).mounts == ()


def on_a_node(*conditions: dict[str, Any], ready: bool = True, phase: str = "Running") -> Pod:
    meta = {"name": "demo-1", "uid": "1", "resourceVersion": "2"}
    container = {"name": "engine", "ready": ready, "restartCount": 0, "state": {"running": {"startedAt": "x"}}}
    status = {"phase": phase, "conditions": list(conditions), "containerStatuses": [container]}
    return pod_from({"metadata": meta, "spec": {"nodeName": "gpu-1"}, "status": status})


def test_a_node_that_does_not_answer_is_not_an_engine_that_loads() -> None:
    lost = on_a_node({"type": "Ready", "status": "False"})
    assert lost.node_lost
    for other in (
        on_a_node({"type": "Ready", "status": "False"}, ready=False),
        on_a_node({"type": "Ready", "status": "False", "reason": "ContainersNotReady"}),
        on_a_node({"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"}),
        on_a_node({"type": "Ready", "status": "True"}),
        on_a_node({"type": "Ready", "status": "False"}, phase="Failed"),
        on_a_node(),
    ):
        assert not other.node_lost


def test_why_kubernetes_ends_a_pod() -> None:
    said = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "evicting"}
    assert on_a_node(said).disrupted == "EvictionByEvictionAPI: evicting"
    assert on_a_node({**said, "status": "False"}).disrupted == ""
    assert len(on_a_node({**said, "message": "x" * 100_000, "reason": "y" * 100_000}).disrupted) < 4000


@pytest.mark.parametrize(
    ("conditions", "node", "awaits"),
    [
        ([], None, "Node"),
        ([], "gpu-1", "Start"),
        ([{"type": "PodReadyToStartContainers", "status": "False"}], "gpu-1", "Start"),
        ([{"type": "PodReadyToStartContainers", "status": "True"}], "gpu-1", ""),
    ],
)
def test_what_a_pod_awaits(conditions: list[dict[str, Any]], node: str | None, awaits: str) -> None:
    meta = {"name": "demo-1", "uid": "1", "resourceVersion": "2"}
    spec = {"nodeName": node, "schedulerName": "mine"}

    def seen_with(*said: dict[str, Any], phase: str = "Pending", **fields: Any) -> Pod:
        status = {"phase": phase, "conditions": list(said)}
        return pod_from({"metadata": {**meta, **fields}, "spec": spec, "status": status})

    found = seen_with(*conditions)
    assert (found.awaits, found.scheduler, found.gated) == (awaits, "mine", "")
    gated = seen_with({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "blocked"})
    assert (gated.gated, gated.scheduler) == ("blocked", "")
    for phase in ("Running", "Succeeded"):
        assert seen_with(phase=phase).awaits == ""
    assert seen_with(deletionTimestamp="x").awaits == ""
