"""What is made again, and what is not: real API server, real operator; the test plays the kubelet."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.control_plane import ControlPlane
from llm_operator.api import KIND
from tests.cluster.helpers import JSON, Space
from tests.cluster.test_model_jobs import (
    FETCHED,
    TOOLS,
    becomes,
    cached,
    claim,
    end_pod,
    job_name,
    pods_of,
    run_on_stub,
    uid,
)
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.support.variables import noise, wide
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
numbers = itertools.count()
OVERLAY: JSON = {"metadata": {"labels": {"cost-center": "research"}}}
IMAGE: JSON = {"image": {"reference": "registry.example/model:1"}}


@pytest.fixture(scope="module")
def plane(cluster_control_plane: ControlPlane) -> ControlPlane:
    cluster_control_plane.fake_gpu_node("served-1", gpus=8)
    return cluster_control_plane


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorUnderTest]:
    log = tmp_path_factory.mktemp("operator") / "log"
    spaces = [f"served-{number}" for number in range(20)]
    with OperatorUnderTest(plane.kubeconfig, *spaces, arguments=TOOLS, log=log) as process:
        process.wait_ready()
        yield process
    assert "Traceback" not in log.read_text()


@pytest.fixture
def space(plane: ControlPlane) -> Space:
    return Space(plane, f"served-{next(numbers)}")


def served(space: Space, **spec: Any) -> None:
    """An object that is served from its cache, and whose Deployment was written once, by its creation."""
    claim(space)
    body = cached("demo", gpu={"product": "A100"}, **spec)
    space.create(body)
    end_pod(space, job_name(body, space, "fetch"), FETCHED)
    eventually(lambda: "persistentVolumeClaim" in volume(space), why="the engine mounts the claim")


def volume(space: Space) -> JSON:
    """The model's volume of the engine's pods; empty where they have none."""
    body = space.get("Deployment", "demo") or {"spec": {"template": {"spec": {}}}}
    volumes = body["spec"]["template"]["spec"].get("volumes") or []
    return next((one for one in volumes if one["name"] == "model"), {})


@pytest.mark.parametrize("overlay", [None, OVERLAY], ids=["plain", "with podTemplate"])
@pytest.mark.parametrize("model", [None, IMAGE], ids=["from the hub", "from an image"])
def test_a_model_moves_from_the_cache(
    operator: OperatorUnderTest, space: Space, overlay: JSON | None, model: JSON | None
) -> None:
    served(space, **({"podTemplate": overlay} if overlay else {}))
    changed: JSON = {"cache": None}
    if model is not None:
        changed["model"] = {"huggingFace": None, **model}
    space.patch("demo", {"spec": changed})
    kind = "image" if model is not None else "emptyDir"

    def moved() -> bool:
        return kind in volume(space) and "persistentVolumeClaim" not in volume(space)

    eventually(moved, 60, why=lambda: f"{volume(space)}: {space.condition('demo', 'Ready')}")
    body = space.get(KIND, "demo")
    assert body is not None
    assert space.condition("demo", "Stalled")[0] == "False", space.condition("demo", "Stalled")


@pytest.mark.parametrize(("words", "reason"), [("", "ResultMissing"), ("\ufffd{", "ToolFailed")])
def test_a_complete_job_without_a_result_is_told_and_not_made_again_at_once(
    operator: OperatorUnderTest, space: Space, words: str, reason: str
) -> None:
    claim(space)
    body = space.create(cached("demo"))
    job = job_name(body, space, "fetch")
    end_pod(space, job, words)
    first = uid(space, job)
    becomes(space, "demo", "Stalled", "True", reason)
    becomes(space, "demo", "ModelCached", "False", reason)
    assert f"kubectl delete job {job}" in space.condition("demo", "ModelCached")[2]
    operator.wait_idle()
    assert uid(space, job) == first
    # By hand, as the message says.
    space.delete("Job", job)
    eventually(lambda: uid(space, job) not in ("", first), why="a new Job")
    end_pod(space, job, FETCHED)
    becomes(space, "demo", "ModelCached", "True", "Cached")


CORRECTIONS: dict[str, JSON] = {
    "nodeSelector": {"nodeSelector": {"zone": "b"}},
    "tolerations": {"tolerations": [{"key": "mine", "operator": "Exists"}]},
    "imagePullSecrets": {"imagePullSecrets": [{"name": "registry"}]},
    "tools.podTemplate": {"tools": {"podTemplate": {"spec": {"serviceAccountName": "fetcher"}}}},
}


def pod_of(space: Space, job: str) -> JSON:
    """The pod of a Job's template."""
    found: JSON = (space.get("Job", job) or {"spec": {"template": {"spec": {}}}})["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("change", CORRECTIONS.values(), ids=CORRECTIONS)
def test_a_correction_reaches_a_job_that_has_not_begun(operator: OperatorUnderTest, space: Space, change: JSON) -> None:
    claim(space)
    if "tools" in change:
        path = f"/api/v1/namespaces/{space.name}/serviceaccounts"
        space.plane.request("POST", path, {"metadata": {"name": "fetcher"}})
    body = space.create(cached("demo", nodeSelector={"zone": "nowhere"}))
    job = job_name(body, space, "fetch")
    eventually(lambda: pods_of(space, job), why="a pod that no node takes")
    first = uid(space, job)
    space.patch("demo", {"spec": change})
    eventually(lambda: uid(space, job) not in ("", first), why="a new Job")
    # The API server adds its own words to some.
    (field, value), *_ = (change.get("tools") or {"podTemplate": {"spec": change}})["podTemplate"]["spec"].items()
    assert value == pod_of(space, job)[field] or value[0] in pod_of(space, job)[field]
    operator.wait_idle()
    second = uid(space, job)
    end_pod(space, job, FETCHED)
    becomes(space, "demo", "ModelCached", "True", "Cached")
    assert uid(space, job) == second, "made again once"


def test_a_job_that_works_is_not_stopped_by_a_correction(operator: OperatorUnderTest, space: Space) -> None:
    claim(space)
    job = job_name(space.create(cached("demo")), space, "fetch")
    run_on_stub(space, eventually(lambda: pods_of(space, job), why="a pod")[0]["metadata"]["name"])
    first = uid(space, job)
    operator.wait_idle()
    space.patch("demo", {"spec": {"nodeSelector": {"zone": "b"}}})
    eventually(
        lambda: (space.get(KIND, "demo") or {})["status"]["observedGeneration"] == 2, why="the correction is looked at"
    )
    operator.wait_idle()
    assert uid(space, job) == first


def bound(space: Space) -> None:
    """The claim `models`, with a volume."""
    claim(space, bound=True)

    def phase() -> str:
        found: str = (space.get("PersistentVolumeClaim", "models") or {})["status"]["phase"]
        return found

    eventually(lambda: phase() == "Bound", why="the claim is bound")


def test_two_objects_with_one_job_do_not_fight_over_its_placement(operator: OperatorUnderTest, space: Space) -> None:
    bound(space)
    job = job_name(space.create(cached("one", nodeSelector={"zone": "a"})), space, "fetch")
    eventually(lambda: uid(space, job), why="a Job")
    first = uid(space, job)
    space.create(cached("two", nodeSelector={"zone": "b"}))
    becomes(space, "two", "Ready", "False", "Unschedulable")
    assert "LLMDeployment 'one'" in space.condition("two", "Ready")[2]
    assert "a node with zone=a" in space.condition("two", "Ready")[2]
    assert "LLMDeployment" not in space.condition("one", "Ready")[2]
    operator.wait_idle()
    assert uid(space, job) == first
    # Its own object corrects it; or goes, and then the other one's placement counts.
    space.patch("one", {"spec": {"nodeSelector": {"zone": "c"}}})
    eventually(lambda: pod_of(space, job).get("nodeSelector") == {"zone": "c"}, why="the correction")
    space.delete(KIND, "one")
    eventually(lambda: pod_of(space, job).get("nodeSelector") == {"zone": "b"}, why="the placement of the other one")


def test_a_corrected_image_of_the_operator_reaches_a_job_that_has_not_begun(
    plane: ControlPlane, tmp_path: Path
) -> None:
    space = Space(plane, f"served-image-{next(numbers)}")
    claim(space)
    job = job_name(cached("demo"), space, "fetch")
    for image in ("tools:nope", "tools:1"):
        arguments = tuple(image if word == "tools:1" else word for word in TOOLS)
        with OperatorUnderTest(plane.kubeconfig, space.name, arguments=arguments, log=tmp_path / "log") as process:
            process.wait_ready()
            if image == "tools:nope":
                space.create(cached("demo"))

            def made() -> bool:
                containers = pod_of(space, job).get("containers") or [{}]
                return bool(containers[0].get("image") == image)  # noqa: B023 - called before it changes

            eventually(made, why=f"a Job with {image}")


def test_a_claim_without_a_storage_class_is_the_reason_given(operator: OperatorUnderTest, space: Space) -> None:
    """The cluster has no default StorageClass, nor any other."""
    space.create(cached("demo", cache={"size": "1Gi"}))
    becomes(space, "demo", "Ready", "False", "ClaimUnbound")
    message = space.condition("demo", "Ready")[2]
    assert "'demo-models' has no volume" in message
    assert "no StorageClass" in message


def test_a_cache_that_is_added_again_with_another_size(operator: OperatorUnderTest, space: Space) -> None:
    space.create(cached("demo", cache={"size": "1Gi"}))
    eventually(lambda: space.names("PersistentVolumeClaim") == {"demo-models"}, why="a claim")
    space.patch("demo", {"spec": {"cache": None}})
    space.patch("demo", {"spec": {"cache": {"size": "2Gi"}}})
    becomes(space, "demo", "Stalled", "True", "ClaimDiffers")
    assert "it has 1Gi, and spec.cache.size is 2Gi" in space.condition("demo", "Stalled")[2]
    space.patch("demo", {"spec": {"cache": None}})
    space.patch("demo", {"spec": {"cache": {"size": "1Gi"}}})
    eventually(
        lambda: space.condition("demo", "Stalled")[0] == "False", why=lambda: str(space.condition("demo", "Ready"))
    )


def test_a_job_whose_pods_are_refused_says_why(operator: OperatorUnderTest, space: Space) -> None:
    """The Job's own status does not: only events do, which the operator does not read."""
    quota = f"/api/v1/namespaces/{space.name}/resourcequotas"
    space.plane.request("POST", quota, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    claim(space)
    space.create(cached("demo"))
    becomes(space, "demo", "Ready", "False", "QuotaExceeded")
    message = space.condition("demo", "ModelCached")[2]
    assert "refuses the pods of Job llm-fetch-" in message
    assert "exceeded quota: none" in message
    space.plane.request("DELETE", f"{quota}/none")
    eventually(lambda: space.names("Pod"), 120, why="the Job's pod")
    eventually(lambda: space.condition("demo", "Ready")[1] != "QuotaExceeded", why="no word of the quota")


def test_the_longest_variables_are_taken_by_the_api_server(operator: OperatorUnderTest, space: Space) -> None:
    """As many as a spec may hold; one that is larger is said to be, and not kept."""
    for name, env in (("long", noise()), ("wide", wide(63))):
        space.create(llm(name, engine={"type": "VLLM", "env": env}))
    eventually(lambda: space.get("Deployment", "long"), why=lambda: str(space.condition("long", "Ready")))
    becomes(space, "wide", "Stalled", "True", "InvalidSpec")
    assert "at most 524,288" in space.condition("wide", "Stalled")[2]
    operator.wait_idle()
    version = (space.get("Deployment", "long") or {})["metadata"]["generation"]
    space.patch("long", {"spec": {"replicas": 2}})
    eventually(lambda: (space.get("Deployment", "long") or {})["spec"]["replicas"] == 2, why="what is kept is read")
    assert (space.get("Deployment", "long") or {})["metadata"]["generation"] == version + 1
