import json
from typing import Any

import pytest

from llm_operator.api import API_VERSION, KIND
from llm_operator.kube import cache as cache_module
from llm_operator.kube.cache import Cache
from llm_operator.kube.keys import JobKey
from llm_operator.manifests.common import LABEL_DEPLOYMENT, MANAGER
from llm_operator.manifests.tools import LABEL_STAGE
from llm_operator.pipeline.artifacts import ANNOTATION_RESULT, LABEL_ARTIFACT
from llm_operator.pipeline.job_view import job_from, last_words
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.running import kept_of
from tests.support.build import plan, resource

KEY = ("team", "demo")


def thing(kind: str, version: int, name: str = "demo", **meta: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": f"{kind}-{name}",
        "resourceVersion": str(version),
        "labels": {LABEL_DEPLOYMENT: "demo"},
        **meta,
    }
    return {"kind": kind, "metadata": metadata, "spec": {"version": version}}


def test_an_older_version_never_replaces_a_newer_one() -> None:
    cache = Cache()
    assert cache.update(thing("Deployment", 9)) == KEY
    assert cache.update(thing("Deployment", 5)) is None
    assert cache.observed(KEY).children["Deployment", "engine"].body()["spec"] == {"version": 9}


def test_versions_are_numbers_not_texts() -> None:
    cache = Cache()
    cache.update(thing("Deployment", 9))
    assert cache.update(thing("Deployment", 10)) == KEY


def test_a_late_deletion_does_not_remove_the_successor() -> None:
    cache = Cache()
    cache.update(thing("Service", 20))
    cache.remove(thing("Service", 15))
    assert ("Service", "engine") in cache.observed(KEY).children
    cache.remove(thing("Service", 21))
    assert cache.observed(KEY).children == {}


def test_an_object_without_our_label_belongs_to_nobody() -> None:
    cache = Cache()
    assert cache.update(thing("Pod", 1, labels={})) is None
    assert list(cache.entries("Pod")) == []


def test_a_child_is_found_whatever_its_labels_say() -> None:
    cache = Cache()
    assert cache.update(thing("Service", 1, labels={LABEL_DEPLOYMENT: "someone-else"})) == KEY


def test_pods_are_told_apart_and_sorted() -> None:
    cache = Cache()
    cache.update(thing("Pod", 2, name="demo-2"))
    cache.update(thing("Pod", 1, name="demo-1"))
    assert [pod.name for pod in cache.observed(KEY).pods] == ["demo-1", "demo-2"]
    cache.remove(thing("Pod", 3, name="demo-1"))
    assert [pod.name for pod in cache.observed(KEY).pods] == ["demo-2"]


JOB_LABELS = {LABEL_STAGE: "fetch", LABEL_ARTIFACT: "1"}
JOB = JobKey("team", "llm-fetch-1")


def tool_pod(version: int, words: str, uid: str = "Job-llm-fetch-1", name: str = "pod") -> dict[str, Any]:
    """A Job's pod that has ended with these last words; without any it has not run."""
    raw = thing(
        "Pod",
        version,
        name,
        labels=JOB_LABELS,
        ownerReferences=[{"kind": "Job", "name": "j", "uid": uid, "controller": True}],
    )
    ended = {"exitCode": 143, "message": words, "finishedAt": f"2026-01-01T00:00:{version:02}Z"}
    states = [{"name": "tool", "state": {"terminated": ended}}] if words else []
    return {**raw, "status": {"phase": "Failed" if words else "Pending", "containerStatuses": states}}


OWNER = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "models", "uid": "claim"}


def job(version: int, name: str = "llm-fetch-1", **meta: Any) -> dict[str, Any]:
    return thing("Job", version, name, **{"labels": JOB_LABELS, "ownerReferences": [OWNER], **meta})


def words(cache: Cache) -> str | None:
    job = cache.job(JOB)
    assert job is not None
    return last_words(job.pods)


def test_the_last_words_of_a_job_outlive_its_pods() -> None:
    cache = Cache()
    cache.update(job(1))
    cache.update(tool_pod(2, ""))
    assert words(cache) is None
    # The watch may tell the pod's end and its deletion in one.
    assert cache.remove(tool_pod(3, "one")) == JOB
    assert words(cache) == "one"
    cache.update(tool_pod(4, "two", name="next"))
    cache.remove(tool_pod(5, "", name="never-ran"))
    assert words(cache) == "two"
    assert [name for _, name, _ in cache.entries("Pod")] == ["next"], "what is gone is no pod that a relist would miss"
    cache.remove(tool_pod(6, "two", name="next"))
    assert words(cache) == "two"


def test_last_words_belong_to_one_job() -> None:
    cache = Cache()
    cache.update(job(1))
    cache.remove(tool_pod(2, "of an earlier one", uid="another"))
    assert words(cache) is None
    cache.remove(tool_pod(3, "its own"))
    cache.remove(job(4))
    cache.remove(tool_pod(5, "too late"))
    cache.update(job(6))
    assert words(cache) is None


def done(version: int, name: str, directory: str, **meta: Any) -> dict[str, Any]:
    """A Job that has made a directory."""
    result = {ANNOTATION_RESULT: json.dumps({"ok": True, "directory": directory})}
    raw = job(version, name, annotations=result, **meta)
    return {**raw, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}


def test_a_job_that_nobody_of_ours_owns_is_none_of_ours() -> None:
    cache = Cache()
    foreign: list[list[dict[str, Any]]] = [
        [],
        [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"}],
        [{"apiVersion": "example.com/v1", "kind": "PersistentVolumeClaim", "name": "models", "uid": "claim"}],
        [{"apiVersion": API_VERSION, "kind": KIND, "name": "demo", "uid": "of nobody"}],
        [
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "models", "uid": "claim"},
            {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "c", "controller": True},
        ],
    ]
    for number, owners in enumerate(foreign):
        cache.update(done(2 * number + 1, "llm-fetch-1", "attacker/weights", ownerReferences=owners))
        assert cache.job(JOB) is None
        assert cache.jobs_at("team", "attacker/weights") == []
    cache.update(done(20, "llm-fetch-1", "models/a/b"))
    assert [one.name for one in cache.jobs_at("team", "models/a/b")] == ["llm-fetch-1"]


def test_owners_of_a_job_are_kept_up_to_a_length() -> None:
    """The API server takes an owner's name and uid of any length, and any number of them."""
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "n" * 9_000, "uid": "u" * 9_000}
    objects = [{"apiVersion": API_VERSION, "kind": KIND, "name": "a", "uid": f"{n}-" * 900} for n in range(500)]
    view = job_from(job(1, ownerReferences=[claim, *objects]))
    assert len(view.claim or "") + len(view.claim_uid or "") < 500
    assert sum(map(len, view.owners)) < 5_000


def test_a_job_of_an_object_counts_while_the_object_exists() -> None:
    cache = Cache()
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": "demo", "uid": f"{KIND}-demo"}
    cache.update(done(1, "llm-inspect-1", "x", ownerReferences=[owner]))
    assert cache.jobs_at("team", "x") == []
    cache.update(thing(KIND, 2))
    assert [one.name for one in cache.jobs_at("team", "x")] == ["llm-inspect-1"]
    cache.remove(thing(KIND, 3))
    assert cache.jobs_at("team", "x") == []


def test_a_pod_counts_by_its_controller_and_not_by_its_labels() -> None:
    cache = Cache()
    cache.update(job(1))
    good = tool_pod(2, "true")
    for number, owners in enumerate(
        [
            [],
            [{**good["metadata"]["ownerReferences"][0], "controller": False}],
            [{"kind": "Job", "name": "j", "uid": "x"}],
        ]
    ):
        raw = tool_pod(number + 3, "a lie", name=f"forged-{number}")
        cache.update({**raw, "metadata": {**raw["metadata"], "ownerReferences": owners}})
        assert words(cache) is None
    cache.update(good)
    assert words(cache) == "true"


def test_a_pod_holds_everything_that_it_mounts() -> None:
    cache = Cache()
    model = json.dumps({"directory": "models/m/7", "beside": [{"name": "draft", "directory": "models/d/1"}]})
    cache.update(thing("Pod", 1, name="demo-1", annotations={"llm-operator.dev/model": model}))
    assert [cache.mounted("team", one) for one in ("models/m/7", "models/d/1", "models/d/2")] == [True, True, False]
    cache.update(thing("Pod", 2, name="demo-1", annotations={"llm-operator.dev/model": '{"directory": "models/d/1"}'}))
    assert [cache.mounted("team", one) for one in ("models/m/7", "models/d/1")] == [False, True]
    cache.remove(thing("Pod", 3, name="demo-1"))
    assert not cache.mounted("team", "models/d/1")


def test_two_thousand_jobs_cost_a_look_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at a Job once read all Jobs of the cluster four times."""
    cache = Cache()
    for number in range(2000):
        cache.update(done(number + 1, f"llm-fetch-{number}", f"models/m/{number}"))
    looks = 0
    view = Cache._view

    def counted(self: Cache, key: JobKey) -> Any:
        nonlocal looks
        looks += 1
        return view(self, key)

    monkeypatch.setattr(Cache, "_view", counted)
    assert [one.name for one in cache.jobs_at("team", "models/m/7")] == ["llm-fetch-7"]
    removal = cache.jobs_at("team", "models/m/7")[0].removal()
    assert removal is not None
    assert [one.name for one in cache.jobs_removed_by("team", removal)] == ["llm-fetch-7"]
    assert cache.undecided_jobs("team") == []
    assert not cache.mounted("team", "models/m/7")
    assert looks == 3
    cache.remove(done(5000, "llm-fetch-7", "models/m/7"))
    assert cache.jobs_at("team", "models/m/7") == []


def test_of_the_managed_fields_others_who_wrote_the_status_stay() -> None:
    cache = Cache()
    fields = {"fieldsType": "FieldsV1", "fieldsV1": {"f:status": {}}, "operation": "Update"}
    ours = [{"manager": MANAGER, "subresource": "status", **fields}, {"manager": "kubectl", **fields}]
    cache.update(thing(KIND, 1, managedFields=ours))
    assert "managedFields" not in cache.objects[KEY]["metadata"]
    cache.update(thing(KIND, 2, managedFields=[*ours, {"manager": "kubectl-edit", "subresource": "status", **fields}]))
    assert cache.objects[KEY]["metadata"]["managedFields"] == [{"manager": "kubectl-edit", "subresource": "status"}]


def test_what_was_deleted_does_not_come_back_by_a_late_event() -> None:
    """A list that was read before the deletion made the operator delete it again: 404."""
    cache = Cache()
    cache.update(thing("PodDisruptionBudget", 5, uid="one"))
    cache.deleted("PodDisruptionBudget", KEY, "demo", "one")
    assert cache.update(thing("PodDisruptionBudget", 5, uid="one")) is None
    assert cache.observed(KEY).children == {}
    # A finalizer holds it: until it is gone, nothing of its name can be made.
    assert cache.update(thing("PodDisruptionBudget", 6, uid="one", deletionTimestamp="2026-01-01T00:00:00Z")) == KEY
    cache.forget("PodDisruptionBudget", KEY, "demo")
    assert cache.update(thing("PodDisruptionBudget", 7, uid="two")) == KEY, "another one of its name"
    cache.deleted("PodDisruptionBudget", KEY, "demo", "two")
    assert cache.update(thing("PodDisruptionBudget", 7, uid="two"), replace=True) == KEY, "etcd was restored"


def test_what_is_gone_does_not_come_back_by_the_history_of_a_watch() -> None:
    """A watch that goes on after a silence tells first of an object's changes and then of its deletion."""
    cache = Cache()
    cache.update(thing(KIND, 5, uid="one"))
    cache.remove(thing(KIND, 6, uid="one"))
    assert cache.update(thing(KIND, 5, uid="one")) is None
    assert cache.objects == {}
    assert cache.update(thing(KIND, 7, uid="two")) == KEY, "another one of its name"
    cache.deleted(KIND, KEY, "demo", "two")
    assert cache.update(thing(KIND, 8, uid="two")) is None
    assert cache.update(thing(KIND, 8, uid="two"), replace=True) == KEY, "etcd was restored"


def test_of_many_objects_the_texts_are_kept_small_and_read_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    written = {apply.body["kind"]: apply.body for apply in decide(resource(), Observed(), plan(resource())).applies}
    for number, body in enumerate(written.values()):
        body["metadata"] |= {"uid": f"u-{number}", "resourceVersion": "1"}
    few, many = Cache(), Cache()
    for cache, most in ((few, 1000), (many, -1)):
        monkeypatch.setattr(cache_module, "MANY", most)
        cache.update(written["Deployment"])
        cache.learn(written["ControllerRevision"])
    key = (resource().metadata.namespace, "demo")
    plain, small = few.observed(key), many.observed(key)
    assert plain.workload is not None
    assert small.workload is not None
    assert small.workload.body() == plain.workload.body()
    assert kept_of(small) == kept_of(plain)
    assert kept_of(plain) is not None
    assert len(small.workload.text) < len(plain.workload.text) / 4
