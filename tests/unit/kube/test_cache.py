from typing import Any

from llm_operator.kube.cache import Cache
from llm_operator.manifests.common import LABEL_DEPLOYMENT

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
    assert cache.observed(KEY).children["Deployment"].body()["spec"] == {"version": 9}


def test_versions_are_numbers_not_texts() -> None:
    cache = Cache()
    cache.update(thing("Deployment", 9))
    assert cache.update(thing("Deployment", 10)) == KEY


def test_a_late_deletion_does_not_remove_the_successor() -> None:
    cache = Cache()
    cache.update(thing("Service", 20))
    cache.remove(thing("Service", 15))
    assert "Service" in cache.observed(KEY).children
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
