"""A foreign pod or Job with our labels and names changes nothing: real API server and controllers."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from devcluster.client import ApiError
from devcluster.control_plane import ControlPlane
from llm_operator.api import KIND
from llm_operator.manifests.tools import LABEL_STAGE
from llm_operator.pipeline.artifacts import ANNOTATION_RESULT, LABEL_ARTIFACT
from tests.cluster.helpers import JSON, Space
from tests.cluster.test_model_jobs import COMMIT, FETCHED, TOOLS, cached, claim, end_pod, job_name, template
from tests.operator_process import OperatorUnderTest
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

CRD = Path(__file__).resolve().parents[2] / "crds" / "llm-operator.dev_llmdeployments.yaml"
MERGE = "application/merge-patch+json"
numbers = itertools.count()
ATTACK = {"ok": True, "directory": "models/attacker/weights", "bytes": 7, "revision": COMMIT}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane.start(tmp_path_factory.mktemp("whose"), controllers=True, scheduler=True, kwok=True) as started:
        started.install_crd(CRD)
        started.fake_gpu_node("whose-1", gpus=64)
        yield started


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorUnderTest]:
    log = tmp_path_factory.mktemp("operator") / "log"
    with OperatorUnderTest(plane.kubeconfig, arguments=TOOLS, log=log) as process:
        process.wait_ready()
        yield process
        text = log.read_text()
    assert "Traceback" not in text, text[-4000:]


@pytest.fixture
def space(plane: ControlPlane) -> Space:
    return Space(plane, f"whose-{next(numbers)}")


def somebody(space: Space) -> JSON:
    """A controller of a pod that is none of ours; without any, our ReplicaSet would adopt the pod."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "somebody"}}
    made = space.plane.request("POST", f"/api/v1/namespaces/{space.name}/configmaps", body)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "somebody", "uid": made["metadata"]["uid"]}
    return {**owner, "controller": True}


def forge(space: Space, name: str, labels: JSON, owners: list[JSON], message: str, annotations: JSON) -> None:
    """A pod that ended with these words."""
    meta = {"name": name, "labels": labels, "ownerReferences": owners, "annotations": annotations}
    # No node takes it, so that nobody but this test says what it does.
    spec = {"containers": [{"name": "engine", "image": "x"}], "nodeSelector": {"no-such": "label"}}
    space.create({"metadata": meta, "spec": spec}, "Pod")
    ended = {"exitCode": 1, "reason": "Error", "message": message, "finishedAt": "2030-01-01T00:00:00Z"}
    container = {"name": "engine", "image": "x", "imageID": "", "ready": False, "restartCount": 7}
    container |= {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}}
    status = {"phase": "Running", "containerStatuses": [container]}
    space.plane.request("PATCH", f"{space.path('Pod', name)}/status", {"status": status}, MERGE)


def test_a_foreign_pod_with_our_labels_changes_nothing(operator: OperatorUnderTest, space: Space) -> None:
    space.create(llm("mine"))
    eventually(lambda: space.is_ready("mine"), why=lambda: str(space.condition("mine", "Ready")))
    space.wait_quiet(operator)
    (real,) = space.plane.request("GET", space.path("Pod"))["items"]
    meta, before = real["metadata"], (space.get(KIND, "mine"), operator.writes())
    foreign = somebody(space)
    replica_set = meta["ownerReferences"][0]
    message = "torch.OutOfMemoryError: CUDA out of memory."
    forge(space, "forged", meta["labels"], [foreign], message, meta.get("annotations") or {})
    # The garbage collector deletes a pod whose owner does not exist, sometimes before its status is written.
    nobody = {**replica_set, "uid": "00000000-0000-4000-8000-000000000000"}
    for number in range(10):
        with suppress(ApiError):
            forge(space, f"forged-{number}", meta["labels"], [nobody], message, meta.get("annotations") or {})
            break
    else:
        pytest.fail("no pod without an owner lived for long enough")
    time.sleep(2)
    operator.wait_idle()
    assert (space.get(KIND, "mine"), operator.writes()) == before


def test_a_foreign_jobs_result_is_not_believed(operator: OperatorUnderTest, space: Space) -> None:
    claim(space)
    name = job_name(cached("victim"), space, "fetch")
    stage, digest = "fetch", name.removeprefix("llm-fetch-")
    labels = {"app.kubernetes.io/managed-by": "llm-operator", LABEL_STAGE: stage, LABEL_ARTIFACT: digest}
    pod = {"restartPolicy": "Never", "containers": [{"name": "tool", "image": "x"}]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels, "annotations": {ANNOTATION_RESULT: json.dumps(ATTACK)}},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }
    space.create(job, "Job")
    space.create(cached("victim"))
    eventually(
        lambda: space.condition("victim", "Stalled")[:2] == ("True", "NameConflict"),
        why=lambda: f"NameConflict: {space.condition('victim', 'Ready')}",
    )
    assert f"Job '{name}' exists and belongs to somebody else" in space.condition("victim", "Ready")[2]
    assert space.get("Deployment", "victim") is None
    assert space.condition("victim", "ModelCached")[0] != "True"
    assert space.get("Job", name)["metadata"]["annotations"] == job["metadata"]["annotations"]  # type: ignore[index]
    space.delete("Job", name)
    end_pod(space, name, FETCHED)
    assert str(FETCHED["directory"]) in json.dumps(template(space, "victim"))


def test_a_foreign_pods_last_words_are_not_a_jobs(operator: OperatorUnderTest, space: Space) -> None:
    claim(space)
    body = space.create(cached("honest"))
    name = job_name(body, space, "fetch")
    eventually(lambda: space.get("Job", name))
    labels = {
        "app.kubernetes.io/managed-by": "llm-operator",
        LABEL_STAGE: "fetch",
        LABEL_ARTIFACT: name.removeprefix("llm-fetch-"),
    }
    forge(space, "forged", labels, [somebody(space)], json.dumps(ATTACK), {})
    end_pod(space, name, FETCHED)
    text = json.dumps(template(space, "honest"))
    assert str(FETCHED["directory"]) in text
    assert "attacker" not in text
