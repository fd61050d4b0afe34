from typing import Any

from llm_operator.kube.cache import Cache
from llm_operator.manifests.artifacts import LABEL_ARTIFACT, LABEL_STAGE
from llm_operator.manifests.common import LABEL_DEPLOYMENT
from llm_operator.reconcile.jobs import last_words

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
JOB = ("team", "job/llm-fetch-1")


def tool_pod(version: int, words: str, uid: str = "Job-llm-fetch-1", name: str = "pod") -> dict[str, Any]:
    """A Job's pod that has ended with these last words; without any it has not run."""
    raw = thing("Pod", version, name, labels=JOB_LABELS, ownerReferences=[{"kind": "Job", "uid": uid}])
    ended = {"exitCode": 143, "message": words, "finishedAt": f"2026-01-01T00:00:{version:02}Z"}
    states = [{"name": "tool", "state": {"terminated": ended}}] if words else []
    return {**raw, "status": {"phase": "Failed" if words else "Pending", "containerStatuses": states}}


def words(cache: Cache) -> str | None:
    job = cache.job(JOB)
    assert job is not None
    return last_words(job.pods)


def test_the_last_words_of_a_job_outlive_its_pods() -> None:
    cache = Cache()
    cache.update(thing("Job", 1, "llm-fetch-1", labels=JOB_LABELS))
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
    cache.update(thing("Job", 1, "llm-fetch-1", labels=JOB_LABELS))
    cache.remove(tool_pod(2, "of an earlier one", uid="another"))
    assert words(cache) is None
    cache.remove(tool_pod(3, "its own"))
    cache.remove(thing("Job", 4, "llm-fetch-1", labels=JOB_LABELS))
    cache.remove(tool_pod(5, "too late"))
    cache.update(thing("Job", 6, "llm-fetch-1", labels=JOB_LABELS))
    assert words(cache) is None
