"""The stages before serving: real API server, real Job controller, real operator; the test plays the kubelet."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.control_plane import ControlPlane
from llm_operator.api import KIND
from llm_operator.api.resource import LLMDeployment
from llm_operator.child_options import HANDED_ON
from llm_operator.cli.cached_models import CachedModel, inventory
from llm_operator.pipeline.artifacts import LABEL_CACHE, removal_name
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.reconcile.covers import covers
from tests.cluster.helpers import JSON, Space
from tests.kubelet_stub import StubKubelet
from tests.operator_process import OperatorUnderTest
from tests.support.model_jobs import packed
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

CRD = Path(__file__).resolve().parents[2] / "crds" / "llm-operator.dev_llmdeployments.yaml"
CONFIGS = Path(__file__).resolve().parents[1] / "unit" / "models" / "configs"
TOOLS = ("--no-leader-elect", "--no-gpu-inventory", "--model-tools-image", "tools:1", "--quantize-image", "lmdeploy:1")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIRECTORY = f"models/hf--org--model/{COMMIT}"
LEFT = {"ok": False, "directory": DIRECTORY, "bytes": 7}
INCOMPLETE = ("Incomplete", f"{DIRECTORY}.partial", 7)
FETCHED = {"ok": True, "directory": DIRECTORY, "bytes": 1 << 30, "revision": COMMIT}
numbers = itertools.count()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane.start(tmp_path_factory.mktemp("model-jobs"), controllers=True) as started:
        started.install_crd(CRD)
        yield started


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorUnderTest]:
    log = tmp_path_factory.mktemp("operator") / "log"
    spaces = [f"jobs-{number}" for number in range(30)]
    with OperatorUnderTest(plane.kubeconfig, *spaces, arguments=TOOLS, log=log) as process:
        process.wait_ready()
        yield process
        text = log.read_text()
    assert "Traceback" not in text, text[-4000:]


@pytest.fixture
def space(plane: ControlPlane) -> Space:
    return Space(plane, f"jobs-{next(numbers)}")


def claim(
    space: Space, name: str = "models", mode: str = "ReadWriteMany", *, labelled: bool = True, bound: bool = False
) -> None:
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    meta = {"name": name, "labels": {LABEL_CACHE: "true"} if labelled else {}}
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
    volume = {
        "accessModes": [mode],
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/nowhere"},
        "claimRef": {"namespace": space.name, "name": name},
    }
    if bound:
        meta = {"name": f"{name}-{space.name}"}
        space.plane.request("POST", "/api/v1/persistentvolumes", {"metadata": meta, "spec": volume})
    space.create(body, "PersistentVolumeClaim")


def cached(name: str, **spec: Any) -> JSON:
    return llm(
        name, **{"model": {"huggingFace": {"repository": "org/model"}}, "cache": {"claimName": "models"}, **spec}
    )


def job_name(body: JSON, space: Space, stage: str) -> str:
    parsed = LLMDeployment.parse({**body, "metadata": {**body["metadata"], "namespace": space.name}})
    return next(artifact.job_name for artifact in artifacts_of(parsed) if artifact.stage == stage)


def pods_of(space: Space, job: str) -> list[JSON]:
    items: list[JSON] = space.plane.request("GET", f"{space.path('Pod')}?labelSelector=job-name={job}")["items"]
    return [item for item in items if item["status"]["phase"] in ("Pending", "Running")]


def end_pod(space: Space, job: str, result: JSON | str, exit_code: int = 0) -> None:
    """What the kubelet would tell of a Job's pod whose container ended with these last words."""
    pod = eventually(lambda: pods_of(space, job), why=f"a pod of {job}")[0]
    text = result if isinstance(result, str) else json.dumps(result)
    state = {
        "terminated": {"exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error", "message": text}
    }
    container = {"name": "tool", "image": "tools:1", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    status = {"phase": "Succeeded" if exit_code == 0 else "Failed", "containerStatuses": [container]}
    path = f"{space.path('Pod', pod['metadata']['name'])}/status"
    space.plane.request("PATCH", path, {"status": status}, "application/merge-patch+json")


def run_on_stub(space: Space, pod: str, kubelet: StubKubelet | None = None) -> None:
    """Bind a Job's pod to a node whose kubelet is the stub, or that has none, and say that its container runs."""
    node, merge = f"node-{space.name}", "application/merge-patch+json"
    space.plane.request("POST", "/api/v1/nodes", {"metadata": {"name": node}})
    if kubelet is not None:
        address = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}},
        }
        space.plane.request("PATCH", f"/api/v1/nodes/{node}/status", {"status": address}, merge)
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    space.plane.request("POST", f"{space.path('Pod', pod)}/binding", {"metadata": {"name": pod}, "target": target})
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    container = {"name": "tool", "image": "t", "imageID": "", "ready": True, "restartCount": 0, "state": state}
    status = {"status": {"phase": "Running", "containerStatuses": [container]}}
    space.plane.request("PATCH", f"{space.path('Pod', pod)}/status", status, merge)


def stop_pod(space: Space, job: str, result: JSON) -> None:
    """What the kubelet does with a running pod that is being deleted: it ends with these words, and is gone."""

    def going() -> list[JSON]:
        return [pod for pod in pods_of(space, job) if "deletionTimestamp" in pod["metadata"]]

    pod = eventually(going, why=f"the end of a pod of {job}")[0]["metadata"]["name"]
    end_pod(space, job, result, 143)
    space.plane.request("DELETE", space.path("Pod", pod), {"gracePeriodSeconds": 0})


def models(space: Space) -> list[CachedModel]:
    """What `kubectl llm cache list` tells."""
    objects = space.plane.request("GET", space.path(KIND))["items"]
    return list(inventory(jobs(space), objects).models)


def half_done(space: Space) -> list[tuple[str, str, int | None]]:
    """State, directory and bytes of everything that is no whole model."""
    return [(model.state, model.directory, model.bytes) for model in models(space) if model.state != "Ready"]


def noted(space: Space, job: str) -> JSON:
    found: JSON = ((space.get("Job", job) or {}).get("metadata") or {}).get("annotations") or {}
    return found


def uid(space: Space, job: str) -> str:
    found = space.get("Job", job)
    return found["metadata"]["uid"] if found is not None else ""


def reason(space: Space, name: str, kind: str) -> tuple[str, str]:
    return space.condition(name, kind)[:2]


def becomes(space: Space, name: str, kind: str, status: str, why: str) -> None:
    eventually(
        lambda: reason(space, name, kind) == (status, why),
        why=lambda: f"{kind} {status} {why}: {space.condition(name, kind)}",
    )


def jobs(space: Space) -> list[JSON]:
    found: list[JSON] = space.plane.request("GET", space.path("Job"))["items"]
    return found


def template(space: Space, name: str) -> JSON:
    body = eventually(lambda: space.get("Deployment", name), why=f"a Deployment for {name}")
    assert body is not None
    found: JSON = body["spec"]["template"]
    return found


def test_objects_with_one_model_wait_for_one_job(operator: OperatorUnderTest, space: Space) -> None:
    claim(space, bound=True)
    bodies = [space.create(cached(f"llm-{number}", contextLength=1024 + number)) for number in range(20)]
    job = job_name(bodies[0], space, "fetch")
    becomes(space, "llm-19", "ModelCached", "Unknown", "Fetching")
    assert space.names("Job") == {job}
    assert space.names("Deployment") == set()
    owner = jobs(space)[0]["metadata"]["ownerReferences"][0]
    assert owner["kind"] == "PersistentVolumeClaim"
    end_pod(space, job, FETCHED)
    for number in range(20):
        becomes(space, f"llm-{number}", "ModelCached", "True", "Cached")
    assert space.names("Job") == {job}
    mount = next(
        one for one in template(space, "llm-7")["spec"]["containers"][0]["volumeMounts"] if one["name"] == "model"
    )
    assert (mount["subPath"], mount["readOnly"]) == (DIRECTORY, True)
    status = (space.get(KIND, "llm-7") or {})["status"]
    assert status["cache"] == {"claimName": "models", "directory": DIRECTORY, "bytes": 1 << 30}

    def silent() -> int:
        return sum("scheduler" in space.condition(f"llm-{number}", "Ready")[2] for number in range(20))

    # There is no scheduler here, and after some seconds that is said of the engines' pods.
    eventually(lambda: silent() == 20, why=lambda: f"20 silent schedulers, but {silent()}")
    space.wait_quiet(operator)
    before = operator.writes()
    time.sleep(3)
    assert operator.writes() == before, "nothing changed, so nothing is written"


def test_a_record_outlives_the_pod(operator: OperatorUnderTest, space: Space) -> None:
    claim(space)
    job = job_name(space.create(cached("first")), space, "fetch")
    end_pod(space, job, FETCHED)
    becomes(space, "first", "ModelCached", "True", "Cached")
    eventually(lambda: "llm-operator.dev/result" in jobs(space)[0]["metadata"].get("annotations", {}), why="a record")
    for pod in space.plane.request("GET", f"{space.path('Pod')}?labelSelector=job-name={job}")["items"]:
        space.delete("Pod", pod["metadata"]["name"])
    uid = jobs(space)[0]["metadata"]["uid"]
    space.create(cached("second"))
    becomes(space, "second", "ModelCached", "True", "Cached")
    assert [one["metadata"]["uid"] for one in jobs(space)] == [uid]


@pytest.mark.parametrize(
    ("told", "exit_code", "expected"),
    [
        ({"ok": False, "reason": "ModelGated", "message": "accept the licence", "retry": False}, 3, "ModelGated"),
        ({"ok": False, "reason": "DiskFull", "message": "needs 9 GB, 1 GB is free", "retry": False}, 3, "DiskFull"),
        ("usage: python3 -m llm_operator.modeltools: error", 2, "ToolFailed"),
    ],
)
def test_a_final_failure_stalls_at_once_and_a_deleted_job_tries_again(
    operator: OperatorUnderTest, space: Space, told: JSON | str, exit_code: int, expected: str
) -> None:
    claim(space)
    job = job_name(space.create(cached("demo")), space, "fetch")
    end_pod(space, job, told, exit_code)
    becomes(space, "demo", "Stalled", "True", expected)
    becomes(space, "demo", "ModelCached", "False", expected)
    assert space.names("Deployment") == set()
    space.delete("Job", job)
    becomes(space, "demo", "ModelCached", "Unknown", "Fetching")
    end_pod(space, job, FETCHED)
    becomes(space, "demo", "ModelCached", "True", "Cached")


def test_a_claim_that_is_missing_is_told_and_found_when_it_comes(operator: OperatorUnderTest, space: Space) -> None:
    space.create(cached("demo"))
    becomes(space, "demo", "Ready", "False", "ClaimMissing")
    assert space.names("Job") == set()
    claim(space)
    becomes(space, "demo", "ModelCached", "Unknown", "Fetching")


def test_a_claim_of_somebody_else_is_written_to_once_it_is_labelled(operator: OperatorUnderTest, space: Space) -> None:
    claim(space, labelled=False)
    space.create(cached("demo"))
    becomes(space, "demo", "Stalled", "True", "ClaimNotLabelled")
    becomes(space, "demo", "ModelCached", "False", "ClaimNotLabelled")
    assert space.names("Job") == set()
    space.plane.run_kubectl("-n", space.name, "label", "pvc", "models", f"{LABEL_CACHE}=true")
    becomes(space, "demo", "ModelCached", "Unknown", "Fetching")
    (job,) = space.names("Job")
    security = (space.get("Job", job) or {})["spec"]["template"]["spec"]["securityContext"]
    assert security["fsGroup"] == 65532


def test_a_claim_is_made_and_goes_with_its_object(operator: OperatorUnderTest, space: Space) -> None:
    space.create(cached("demo", cache={"size": "2Gi"}))
    eventually(lambda: space.names("PersistentVolumeClaim") == {"demo-models"}, why="a claim")
    becomes(space, "demo", "ModelCached", "Unknown", "Fetching")
    space.delete(KIND, "demo")
    eventually(lambda: not space.names("Job"), why="no Job")
    # The claim's protection waits for a pod that mounts it; the garbage collector has told it to go.
    eventually(
        lambda: all(
            "deletionTimestamp" in item["metadata"]
            for item in space.plane.request("GET", space.path("PersistentVolumeClaim"))["items"]
        ),
        why="the claim goes",
    )


def test_an_unfinished_job_that_nobody_wants_is_ended(operator: OperatorUnderTest, space: Space) -> None:
    claim(space)
    space.create(cached("one"))
    space.create(cached("two"))
    becomes(space, "two", "ModelCached", "Unknown", "Fetching")
    space.delete(KIND, "one")
    time.sleep(1)
    assert len(jobs(space)) == 1, "two still wants it"
    space.delete(KIND, "two")
    eventually(lambda: not jobs(space), why="no Job")


def test_a_model_that_nobody_uses_is_removed_when_asked(operator: OperatorUnderTest, space: Space) -> None:
    claim(space)
    body = space.create(cached("demo"))
    job = job_name(body, space, "fetch")
    end_pod(space, job, FETCHED)
    becomes(space, "demo", "ModelCached", "True", "Cached")
    ask = {"metadata": {"annotations": {"llm-operator.dev/remove": "true"}}}
    space.patch(job, ask, "Job")
    eventually(lambda: "llm-operator.dev/remove" not in noted(space, job), why="an object asks: the wish is void")
    space.delete(KIND, "demo")
    eventually(lambda: "llm-operator.dev/unused-since" in noted(space, job), 90, "unused")
    space.patch(job, ask, "Job")
    removal = removal_name("models", DIRECTORY)
    # The pods go when the garbage collector has found the kind, which it looks for every half minute.
    eventually(lambda: removal in space.names("Job"), seconds=90, why="a removal")
    # Whoever comes now waits until it is gone, and fetches it anew.
    space.create(cached("later"))
    becomes(space, "later", "ModelCached", "Unknown", "Removing")
    end_pod(space, removal, {"ok": True, "directory": DIRECTORY, "bytes": 1})
    eventually(lambda: space.names("Job") == {job} and "later" not in space.names("Deployment"), why="a new fetch")
    end_pod(space, job, FETCHED)
    becomes(space, "later", "ModelCached", "True", "Cached")


def test_a_comparison_with_hashes_is_told_and_made_again(plane: ControlPlane, tmp_path: Path) -> None:
    # A namespace that the operator of the other tests does not serve: two at one object would stand aside.
    space = Space(plane, f"compared-{next(numbers)}")
    body = cached("compared")
    fetch = job_name(body, space, "fetch")
    text = "1 file differs from what was written, of 3: the SHA-256 of model.safetensors is 0, and was 1"
    arguments = (*TOOLS, "--cache-verify-seconds", "2")
    log = tmp_path / "log"
    with OperatorUnderTest(plane.kubeconfig, space.name, arguments=TOOLS, log=log) as operator:
        operator.wait_ready()
        claim(space)
        space.create(body)
        eventually(lambda: pods_of(space, fetch), why="the fetch begins")
        end_pod(space, fetch, {**FETCHED, "config": packed({"model_type": "x"})})
        eventually(lambda: space.condition("compared", "ModelCached")[1] == "Cached", why="it is cached")
    with OperatorUnderTest(plane.kubeconfig, space.name, arguments=arguments, log=log) as operator:
        operator.wait_ready()
        before = ""
        for _ in range(2):
            verify = eventually(partial(verifying, space), why="a comparison")
            end_pod(space, verify, {"ok": True, "bytes": 1})
            before = eventually(partial(verified_at, space, fetch, before), why="its time is written down")
        assert space.condition("compared", "ModelDamaged") == ("", "", "")
        verify = eventually(partial(verifying, space), why="another comparison")
        end_pod(space, verify, {"ok": False, "reason": "WeightsCorrupt", "message": text}, 3)
        eventually(
            lambda: text in space.condition("compared", "ModelDamaged")[2],
            why=lambda: f"the object tells it: {space.get(KIND, 'compared')}",
        )
        # It is not compared again: the marker is gone, and the text would say only that.
        time.sleep(4)
        assert verifying(space) == ""
        space.plane.request("DELETE", space.path("Job", fetch), {"propagationPolicy": "Background"})
        eventually(lambda: fetch not in space.names("Job"), why="its record is gone")
        operator.wait_idle()
        assert text in space.condition("compared", "ModelDamaged")[2], "the pods serve the damaged files still"
        # What serves keeps its template, and asks for no Job before its spec changes.
        space.patch("compared", {"spec": {"startupTimeoutSeconds": 1801}})
        eventually(lambda: pods_of(space, fetch), why="the fetch is made again")
        assert text in space.condition("compared", "ModelDamaged")[2]
        end_pod(space, fetch, FETCHED)
        eventually(lambda: space.condition("compared", "ModelDamaged")[0] == "", why="the condition goes")
    assert "Traceback" not in log.read_text()


def verifying(space: Space) -> str:
    """Name of the Job that compares, while its pod runs."""
    names = [job["metadata"]["name"] for job in jobs(space) if job["metadata"]["name"].startswith("llm-verify-")]
    return next((name for name in names if pods_of(space, name)), "")


def verified_at(space: Space, job: str, before: str) -> str:
    """When a Job's directory was compared last, if that is later than before."""
    annotations = (space.get("Job", job) or {"metadata": {}})["metadata"].get("annotations", {})
    at = str(annotations.get("llm-operator.dev/verified-at", ""))
    return at if at > before else ""


def test_an_abandoned_download_ends_and_is_the_record_of_what_it_left(
    operator: OperatorUnderTest, space: Space
) -> None:
    claim(space)
    body = space.create(cached("demo"))
    job = job_name(body, space, "fetch")
    run_on_stub(space, eventually(lambda: pods_of(space, job), why="a pod")[0]["metadata"]["name"])
    first = uid(space, job)
    space.delete(KIND, "demo")
    stop_pod(space, job, {**LEFT, "reason": "Interrupted", "message": "ended", "retry": True})
    eventually(lambda: half_done(space) == [INCOMPLETE], why="a record")
    eventually(lambda: not pods_of(space, job), why="no pod")
    assert uid(space, job) == first
    assert "llm-operator.dev/unused-since" in noted(space, job)
    operator.wait_idle()
    assert half_done(space) == [INCOMPLETE], "it is kept"

    # Whoever asks again has a new Job at once, which knows what is there, and is told so before it tells itself.
    space.create(cached("again"))
    eventually(lambda: uid(space, job) not in ("", first), why="a new Job")
    becomes(space, "again", "ModelCached", "Unknown", "Fetching")
    assert json.loads(noted(space, job)["llm-operator.dev/incomplete"]) == {"directory": DIRECTORY, "bytes": 7}
    eventually(lambda: pods_of(space, job), why="a pod")
    assert half_done(space) == [("Fetching", f"{DIRECTORY}.partial", 7)]
    # It goes before any node took its pod: what the first one left is still known.
    space.delete(KIND, "again")
    eventually(lambda: half_done(space) == [INCOMPLETE] and not pods_of(space, job), why="the record again")

    space.patch(job, {"metadata": {"annotations": {"llm-operator.dev/remove": "true"}}}, "Job")
    removal = removal_name("models", f"{DIRECTORY}.partial")
    eventually(lambda: removal in space.names("Job"), why="a removal")
    words = (space.get("Job", removal) or {})["spec"]["template"]["spec"]["containers"][0]["args"]
    assert words[-1] == f"{DIRECTORY}.partial"
    # Who comes now waits for its end, and begins from nothing.
    space.create(cached("late"))
    becomes(space, "late", "ModelCached", "Unknown", "Removing")
    end_pod(space, removal, {"ok": True, "directory": f"{DIRECTORY}.partial", "bytes": 7})
    eventually(lambda: space.names("Job") == {job} and "deletionTimestamp" not in str(jobs(space)), why="a new fetch")
    becomes(space, "late", "ModelCached", "Unknown", "Fetching")
    assert "llm-operator.dev/incomplete" not in noted(space, job)


def test_an_abandoned_download_that_wrote_nothing_leaves_no_record(operator: OperatorUnderTest, space: Space) -> None:
    claim(space)
    job = job_name(space.create(cached("demo")), space, "fetch")
    run_on_stub(space, eventually(lambda: pods_of(space, job), why="a pod")[0]["metadata"]["name"])
    space.patch("demo", {"spec": {"model": {"huggingFace": {"repository": "org/other"}}}})
    eventually(lambda: len(jobs(space)) == 2, why="the other model's Job")
    stop_pod(space, job, {"ok": False, "reason": "HubUnreachable", "message": "away", "retry": True})
    eventually(lambda: job not in space.names("Job"), why="no record")
    assert len(jobs(space)) == 1


def test_what_a_failed_job_left_is_continued_or_finished_by_others(operator: OperatorUnderTest, space: Space) -> None:
    claim(space)
    job = job_name(space.create(cached("demo")), space, "fetch")
    full = {**LEFT, "reason": "DiskFull", "message": "9 GB are missing", "retry": False}
    end_pod(space, job, full, 3)
    becomes(space, "demo", "ModelCached", "False", "DiskFull")
    eventually(lambda: half_done(space) == [INCOMPLETE], why="a record")
    assert models(space)[0].used_by == ("demo",)
    # By hand, as the message says.
    first = uid(space, job)
    space.delete("Job", job)
    eventually(lambda: uid(space, job) not in ("", first), why="a new Job")
    assert json.loads(noted(space, job)["llm-operator.dev/incomplete"]) == {"directory": DIRECTORY, "bytes": 7}
    end_pod(space, job, full, 3)
    becomes(space, "demo", "ModelCached", "False", "DiskFull")

    # The commit that the branch stands for, by another Job: it finds the files and finishes them.
    pinned = {"huggingFace": {"repository": "org/model", "revision": COMMIT}}
    other = job_name(cached("demo", model=pinned), space, "fetch")
    space.patch("demo", {"spec": {"model": pinned}})
    eventually(lambda: "llm-operator.dev/unused-since" in noted(space, job), why="unused")
    # Before there is another Job, nobody works on it, and it may go.
    eventually(lambda: pods_of(space, other), why="a pod")
    space.patch(job, {"metadata": {"annotations": {"llm-operator.dev/remove": "true"}}}, "Job")
    time.sleep(1)
    assert space.names("Job") == {job, other}, "somebody may be working on it"
    end_pod(space, other, FETCHED)
    becomes(space, "demo", "ModelCached", "True", "Cached")
    eventually(lambda: space.names("Job") == {other}, why="no record of what is whole")


def test_what_is_half_done_goes_after_its_time(plane: ControlPlane, space: Space, tmp_path: Path) -> None:
    """An operator of its own, that keeps what nobody uses for three seconds."""
    own = Space(plane, f"retention-{space.name}")
    claim(own)
    arguments = (*TOOLS, "--cache-retention-seconds", "3")
    with OperatorUnderTest(plane.kubeconfig, own.name, arguments=arguments, log=tmp_path / "log") as process:
        process.wait_ready()
        job = job_name(own.create(cached("demo")), own, "fetch")
        end_pod(own, job, {**LEFT, "reason": "HubUnreachable", "message": "away", "retry": True}, 3)
        becomes(own, "demo", "ModelCached", "False", "HubUnreachable")
        time.sleep(4)
        assert own.names("Job") == {job}, "an object waits for it"
        own.delete(KIND, "demo")
        removal = removal_name("models", f"{DIRECTORY}.partial")
        eventually(lambda: removal in own.names("Job"), why="a removal")
        end_pod(own, removal, {"ok": True, "directory": f"{DIRECTORY}.partial", "bytes": 7})
        eventually(lambda: not jobs(own), why="nothing left")


def test_two_that_left_the_same_keep_it_until_the_last_ones_time_is_over(
    plane: ControlPlane, space: Space, tmp_path: Path
) -> None:
    """An operator of its own, with ten seconds."""
    own = Space(plane, f"shared-{space.name}")
    claim(own)
    arguments = (*TOOLS, "--cache-retention-seconds", "10")
    pinned = cached("pinned", model={"huggingFace": {"repository": "org/model", "revision": COMMIT}})
    with OperatorUnderTest(plane.kubeconfig, own.name, arguments=arguments, log=tmp_path / "log") as process:
        process.wait_ready()
        for body in (cached("branch"), pinned):
            name = own.create(body)["metadata"]["name"]
            end_pod(own, job_name(body, own, "fetch"), {**LEFT, "reason": "DiskFull", "message": "full"}, 3)
            becomes(own, name, "ModelCached", "False", "DiskFull")
        own.delete(KIND, "branch")
        time.sleep(9)
        own.delete(KIND, "pinned")
        late = job_name(pinned, own, "fetch")
        since = eventually(lambda: noted(own, late).get("llm-operator.dev/unused-since", ""), why="unused")
        removal = removal_name("models", f"{DIRECTORY}.partial")
        made = eventually(lambda: own.get("Job", removal), why="a removal")
        assert made is not None
        waited = datetime.fromisoformat(made["metadata"]["creationTimestamp"]) - datetime.fromisoformat(since)
        assert waited.total_seconds() >= 10, "the younger one's time counts"
        end_pod(own, removal, {"ok": True, "directory": f"{DIRECTORY}.partial", "bytes": 7})
        eventually(lambda: not jobs(own), why="nothing left")


def test_weights_are_quantized_and_the_result_is_served(operator: OperatorUnderTest, space: Space) -> None:
    claim(space)
    body = space.create(cached("demo", weightQuantization={"calibration": {"dataset": "Text"}}))
    end_pod(space, job_name(body, space, "fetch"), FETCHED)
    becomes(space, "demo", "WeightsQuantized", "Unknown", "Quantizing")
    becomes(space, "demo", "ModelCached", "True", "Cached")
    assert space.names("Deployment") == set()
    result = {
        "ok": True,
        "directory": f"{DIRECTORY}--awq",
        "bytes": 300 << 20,
        "toolVersion": "0.18.0",
        "recipe": {"samples": 128},
        "quality": {"perplexityOriginal": "8.100", "perplexityQuantized": "8.200", "agreementPercent": 98},
    }
    end_pod(space, job_name(body, space, "quantize"), result)
    becomes(space, "demo", "WeightsQuantized", "True", "Quantized")
    status = (space.get(KIND, "demo") or {})["status"]
    assert status["quantization"]["agreementPercent"] == 98
    assert status["cache"]["directory"] == f"{DIRECTORY}--awq"
    assert template(space, "demo")["spec"]["containers"][0]["args"]


def test_a_model_on_a_claim_is_looked_at_and_planned(operator: OperatorUnderTest, space: Space) -> None:
    claim(space)
    model = {"persistentVolumeClaim": {"claimName": "models", "path": "a"}}
    body = space.create(llm("demo", model=model, gpu={"memory": "48Gi"}))
    becomes(space, "demo", "Ready", "Unknown", "Inspecting")
    end_pod(space, job_name(body, space, "inspect"), {"ok": False, "reason": "ModelPathMissing", "message": "no a"}, 3)
    becomes(space, "demo", "Stalled", "True", "ModelPathMissing")
    assert space.names("Deployment") == set()


def test_the_files_of_a_claim_are_planned_with(operator: OperatorUnderTest, space: Space) -> None:
    claim(space)
    model = {"persistentVolumeClaim": {"claimName": "models", "path": "llama"}}
    body = space.create(llm("demo", model=model, gpu={"memory": "48Gi"}))
    small = space.create(llm("small", model=model, gpu={"memory": "8Gi"}, parallelism={"tensor": 1}))
    assert job_name(body, space, "inspect") == job_name(small, space, "inspect")
    config = packed(json.loads((CONFIGS / "llama-3.1-8b.json").read_text()))
    end_pod(space, job_name(body, space, "inspect"), {"ok": True, "directory": "llama", "config": config})
    becomes(space, "demo", "Planned", "True", "Fits")
    becomes(space, "small", "Planned", "False", "DoesNotFit")
    assert (space.get(KIND, "demo") or {})["status"]["model"]["parameters"] == 8_030_261_248
    assert template(space, "demo")["spec"]["containers"][0]["args"][0] == "/models/llama"
    assert "small" not in space.names("Deployment")


def test_a_cluster_without_image_volumes_refuses_with_the_reason(tmp_path: Path) -> None:
    with ControlPlane.start(tmp_path, emulated="1.34") as older:
        older.install_crd(CRD)
        space = Space(older, "older")
        space.create(llm("demo", model={"image": {"reference": "registry.example/model:1"}}))
        with OperatorUnderTest(older.kubeconfig, "older", arguments=TOOLS) as process:
            process.wait_ready()
            becomes(space, "demo", "Stalled", "True", "ImageVolumesMissing")
        assert space.names("Job") == space.names("Deployment") == set()


def test_a_spec_change_to_another_model_keeps_what_serves(operator: OperatorUnderTest, space: Space) -> None:
    claim(space)
    end_pod(space, job_name(space.create(cached("demo")), space, "fetch"), FETCHED)
    before = template(space, "demo")
    space.patch("demo", {"spec": {"model": {"huggingFace": {"repository": "org/other"}}}})
    becomes(space, "demo", "ModelCached", "Unknown", "Fetching")
    assert template(space, "demo") == before
    body = space.get(KIND, "demo")
    assert body is not None
    end_pod(space, job_name(body, space, "fetch"), {**FETCHED, "directory": "models/hf--org--other/abc"})
    eventually(lambda: template(space, "demo") != before, why="a roll")


def test_an_operator_killed_at_every_step_makes_nothing_twice(
    plane: ControlPlane, space: Space, tmp_path: Path
) -> None:
    """A process of its own for a namespace of its own, killed again and again while one object comes about."""
    own = Space(plane, f"killed-{space.name}")
    claim(own)
    body = own.create(cached("demo", weightQuantization={}))
    names = [job_name(body, own, stage) for stage in ("fetch", "quantize")]
    results = [FETCHED, {**FETCHED, "directory": f"{DIRECTORY}--awq", "recipe": {"samples": 1}}]
    seen: dict[str, set[str]] = {name: set() for name in names}

    def live(seconds: float | None = None) -> None:
        with OperatorUnderTest(plane.kubeconfig, own.name, arguments=TOOLS, log=tmp_path / "log") as process:
            process.wait_ready()
            if seconds is None:
                eventually(lambda: own.names("Deployment") == {"demo"}, why="the engine is served")
                process.wait_idle()
            else:
                time.sleep(seconds)
            process.kill()
        for one in jobs(own):
            seen[one["metadata"]["name"]].add(one["metadata"]["uid"])

    for name, result in zip(names, results, strict=True):
        for seconds in (0.05, 0.3):
            live(seconds)
        # A busy machine may need another, and a longer, life until the Job is made.
        for number in range(12):
            if pods_of(own, name):
                break
            live(1.0 + number)
        end_pod(own, name, result)
        live(0.1)
    # The Job controller takes its time on a busy machine; an operator that waits for it is idle.
    eventually(lambda: all(one["status"].get("completionTime") for one in jobs(own)), why="both Jobs are complete")
    live()
    assert all(len(uids) == 1 for uids in seen.values()), seen
    with OperatorUnderTest(plane.kubeconfig, own.name, arguments=TOOLS, log=tmp_path / "log") as process:
        process.wait_ready()
        process.wait_idle()
        assert process.writes() == 0, "a restart writes nothing"


def test_progress_reaches_status_within_ten_seconds_and_not_more_often(
    operator: OperatorUnderTest, plane: ControlPlane, space: Space
) -> None:
    claim(space)
    job = job_name(space.create(cached("demo")), space, "fetch")
    pod = eventually(lambda: pods_of(space, job), why="a pod")[0]["metadata"]["name"]
    pki = plane.folder / "pki"
    with StubKubelet(pki / "api.crt", pki / "api.key") as kubelet:

        def tell(percent: int) -> None:
            line = {
                "progress": {"stage": "Fetching", "percent": percent, "bytesPerSecond": 120_000_000, "secondsLeft": 72}
            }
            kubelet.logs[space.name, pod] = "a warning of a library\n" + json.dumps(line) + "\n"

        tell(10)
        run_on_stub(space, pod, kubelet)

        def progress() -> JSON:
            found: JSON = ((space.get(KIND, "demo") or {}).get("status") or {}).get("progress") or {}
            return found

        eventually(lambda: progress().get("percent") == 10, seconds=10, why="progress")
        assert progress()["summary"] == "Fetching 10 % 120.0 MB/s 1m12s left"
        before, start = operator.writes(), time.monotonic()
        for percent in range(11, 41):
            tell(percent)
            time.sleep(0.5)
        spent = time.monotonic() - start
        assert operator.writes() - before <= spent / 10 + 1
        assert progress()["percent"] > 10
    end_pod(space, job, FETCHED)
    becomes(space, "demo", "ModelCached", "True", "Cached")
    eventually(lambda: not progress(), why="no progress once it is over")


def owned(name: str, **cache: Any) -> JSON:
    return cached(name, cache={"size": "1Gi", **cache})


def test_a_claim_goes_with_its_object_and_a_new_one_waits_for_its_name(
    operator: OperatorUnderTest, space: Space
) -> None:
    body = owned("sized")
    space.create(body)
    job = job_name(body, space, "fetch")
    end_pod(space, job, FETCHED)
    eventually(lambda: space.get("Deployment", "sized"), why="the model is there")
    first = space.get("PersistentVolumeClaim", "sized-models")
    assert first is not None
    space.delete(KIND, "sized")
    eventually(lambda: space.get(KIND, "sized") is None)
    space.create(owned("sized"))

    def claim_is_new() -> bool:
        live = space.get("PersistentVolumeClaim", "sized-models")
        return live is not None and live["metadata"]["uid"] != first["metadata"]["uid"]

    eventually(claim_is_new, 90, lambda: f"a new claim, but {space.condition('sized', 'Ready')}")
    end_pod(space, job, FETCHED)
    eventually(lambda: space.get("Deployment", "sized"), why="the new object goes on by itself")


def test_a_claim_without_a_volume_says_what_the_volume_controller_says(
    operator: OperatorUnderTest, space: Space
) -> None:
    """In the words of the real controller's event, though no scheduler has said anything of the pod."""
    space.create(cached("demo", cache={"size": "1Gi", "storageClassName": "nowhere"}))
    eventually(
        lambda: space.condition("demo", "Ready")[1] == "ClaimUnbound", why=lambda: str(space.condition("demo", "Ready"))
    )
    status, _, message = space.condition("demo", "Ready")
    assert status == "False"
    assert "'demo-models' has no volume: storageclass.storage.k8s.io \"nowhere\" not found" in message
    assert "create the StorageClass" in message
    assert space.condition("demo", "ModelCached")[1] == "ClaimUnbound"


def test_somebody_elses_claim_is_not_filled(operator: OperatorUnderTest, space: Space) -> None:
    claim(space, "demo-models")
    space.create(owned("demo"))
    eventually(lambda: space.condition("demo", "Stalled")[:2] == ("True", "NameConflict"))
    assert "spec.cache.claimName" in space.condition("demo", "Ready")[2]
    assert jobs(space) == []


def test_render_prints_what_the_operator_then_creates(
    operator: OperatorUnderTest, space: Space, tmp_path: Path
) -> None:
    claim(space)
    model = {"huggingFace": {"repository": "org/model", "revision": COMMIT}}
    body = cached("shown", model=model, weightQuantization={"method": "AWQ"}, replicas=2, webUI={})
    manifest = tmp_path / "shown.yaml"
    manifest.write_text(yaml.safe_dump(body))
    images = ("--model-tools-image", "tools:1", "--quantize-image", "lmdeploy:1", "--no-network-policies")
    handed = {name: os.environ.get(name, "") for name in HANDED_ON} | {"NO_PROXY": "*"}
    variables = [f"--tools-env={name}={value}" for name, value in handed.items() if value]
    done = subprocess.run(
        [
            Path(sys.executable).with_name("kubectl-llm"),
            "render",
            "-f",
            manifest,
            "-n",
            space.name,
            *images,
            *variables,
        ],
        env={**os.environ, "KUBECONFIG": "/none"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    rendered = list(yaml.safe_load_all(done.stdout))
    assert [item["kind"] for item in rendered] == [
        *("Job", "Job", "Deployment", "Service", "PodDisruptionBudget", "Deployment", "Service"),
    ]
    space.create(body)
    fetch, quantize = (item["metadata"]["name"] for item in rendered if item["kind"] == "Job")
    eventually(lambda: space.get("Job", fetch))
    end_pod(space, fetch, FETCHED)
    eventually(lambda: space.get("Job", quantize))
    arguments = rendered[1]["spec"]["template"]["spec"]["containers"][0]["args"]
    output = arguments[arguments.index("--output") + 1]
    end_pod(space, quantize, {**FETCHED, "directory": output})
    for item in rendered:
        kind, name = item["kind"], item["metadata"]["name"]
        eventually(partial(space.get, kind, name), why=f"{kind} {name}")
    for item in rendered:
        kind, name = item["kind"], item["metadata"]["name"]
        live = space.get(kind, name)
        assert live is not None
        assert "ownerReferences" in live["metadata"]
        told(item)
        told(live)
        assert covers(live, item), (kind, name)
    assert space.names("Job") == {fetch, quantize}


def told(body: JSON) -> None:
    """Leave out what only the Jobs' own results tell (sizes, quality), and why there is no plan."""
    body["metadata"].get("annotations", {}).pop("llm-operator.dev/revision", None)
    annotations = body["spec"].get("template", {}).get("metadata", {}).get("annotations", {})
    annotations.pop("llm-operator.dev/model", None)
