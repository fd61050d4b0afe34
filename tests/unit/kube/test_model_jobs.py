"""Jobs beside objects that cannot be read, or that are long in going away."""

from __future__ import annotations

from typing import Any, cast

import pytest

from llm_operator.api import API_VERSION, KIND
from llm_operator.api.resource import LLMDeployment
from llm_operator.kube.cache import Cache, job_key
from llm_operator.kube.client import ApiClient
from llm_operator.kube.model_jobs import ModelJobs
from llm_operator.kube.remaking import FREE
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.manifests.artifacts import ANNOTATION_MADE_FOR, ANNOTATION_UNUSED_SINCE, artifacts_of
from llm_operator.manifests.tools import ToolSettings
from tests.cluster.helpers import llm

JSON = dict[str, Any]
NOW = "2026-01-01T00:00:00Z"
SPACE = "team"
OBJECT = (SPACE, "a")


class FakeApi:
    """Remembers what is written."""

    def __init__(self) -> None:
        self.written: list[str] = []

    async def annotate(self, kind: str, namespace: str, name: str, annotations: JSON, spec: JSON | None = None) -> JSON:
        self.written.append(f"annotate {name} {sorted(annotations)}")
        return job(name, version="9")

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        self.written.append(f"delete {name}")


class FakeQueue:
    """Remembers what is added."""

    def __init__(self) -> None:
        self.added: list[object] = []
        self.later: list[object] = []

    def add(self, key: object, because: object = None) -> None:
        self.added.append(key)

    def add_after(self, key: object, seconds: float) -> None:
        self.later.append(key)


def job(name: str, version: str = "1", **meta_fields: Any) -> JSON:
    stage, digest = name.split("-")[1:]
    labels = {"llm-operator.dev/stage": stage, "llm-operator.dev/artifact": digest}
    owner = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "models", "uid": "claim"}
    meta: JSON = {"name": name, "namespace": SPACE, "uid": name, "resourceVersion": version, "labels": labels}
    meta |= {"ownerReferences": [owner], **meta_fields}
    return {"kind": "Job", "metadata": meta, "spec": {}, "status": {}}


def body(name: str, **meta: Any) -> JSON:
    made = llm(name, cache={"claimName": "models"})
    made["metadata"] |= {"namespace": SPACE, "uid": name, "resourceVersion": "1", "generation": 1, **meta}
    return {**made, "apiVersion": API_VERSION, "kind": KIND}


@pytest.fixture
def setting() -> tuple[ModelJobs, Cache, FakeApi, FakeQueue]:
    api, cache, queue = FakeApi(), Cache(), FakeQueue()
    tools = ToolSettings(image="tools:1")
    jobs = ModelJobs(cast("ApiClient", api), cache, cast("WorkQueue", queue), tools, lambda: NOW)
    cache.update(job("llm-fetch-1"))
    return jobs, cache, api, queue


KEY = job_key(SPACE, "llm-fetch-1")


async def test_what_nobody_asks_for_is_ended(setting: tuple[ModelJobs, Cache, FakeApi, FakeQueue]) -> None:
    jobs, cache, api, _ = setting
    cache.update(body("a"))
    jobs.want(OBJECT, LLMDeployment.parse(body("a")))
    await jobs.reconcile(KEY)
    assert [one.split()[0:2] for one in api.written] == [["annotate", "llm-fetch-1"]]


async def test_an_object_that_was_never_read_may_ask_for_any_job(
    setting: tuple[ModelJobs, Cache, FakeApi, FakeQueue],
) -> None:
    jobs, cache, api, queue = setting
    cache.update(body("a"))
    jobs.keep(OBJECT)
    await jobs.reconcile(KEY)
    assert (api.written, queue.later) == ([], [])
    # Once it can be read, what it does not ask for is looked at again.
    jobs.want(OBJECT, LLMDeployment.parse(body("a")))
    assert KEY in queue.added
    await jobs.reconcile(KEY)
    assert len(api.written) == 1


async def test_an_object_that_is_long_in_going_away_stops_nobody(
    setting: tuple[ModelJobs, Cache, FakeApi, FakeQueue],
) -> None:
    jobs, cache, api, queue = setting
    cache.update(body("a", deletionTimestamp=NOW, finalizers=["somebody/else"]))
    jobs.forget(OBJECT)
    await jobs.reconcile(KEY)
    assert queue.later == []
    assert len(api.written) == 1


async def test_whatever_the_reason_a_job_is_not_deleted_all_the_time(
    setting: tuple[ModelJobs, Cache, FakeApi, FakeQueue],
) -> None:
    jobs, cache, api, queue = setting
    cache.update(body("a"))
    resource = LLMDeployment.parse(body("a"))
    jobs.want(OBJECT, resource)
    name = artifacts_of(resource)[0].job_name
    for version in range(2, 22):
        # Somebody marks each new one as unused: it is deleted to be made again.
        marked = {"annotations": {ANNOTATION_UNUSED_SINCE: NOW}, "uid": f"uid-{version}"}
        cache.update(job(name, version=str(version), **marked))
        await jobs.reconcile(job_key(SPACE, name))
    assert api.written == [f"delete {name}"] * FREE
    assert queue.later == [job_key(SPACE, name)] * (20 - FREE)


@pytest.mark.parametrize(
    ("made_for", "others", "sharer"),
    [
        ("a", ("b",), ""),
        ("b", ("b",), "b"),
        ("b", (), ""),
        ("gone", ("b",), ""),
        ("", ("b",), "b"),
        ("", (), ""),
    ],
)
async def test_for_whom_a_job_was_made_decides_who_may_have_it_made_again(
    setting: tuple[ModelJobs, Cache, FakeApi, FakeQueue], made_for: str, others: tuple[str, ...], sharer: str
) -> None:
    jobs, cache, _, _ = setting
    resource = LLMDeployment.parse(body("a"))
    name = artifacts_of(resource)[0].job_name
    cache.update(job(name, annotations={ANNOTATION_MADE_FOR: made_for}))
    for one in ("a", *others):
        cache.update(body(one))
        jobs.want((SPACE, one), LLMDeployment.parse(body(one)))
    assert jobs.jobs_of(OBJECT, resource)[name].shared_with == sharer


async def test_an_object_that_was_not_looked_at_yet_may_wait_for_its_job(
    setting: tuple[ModelJobs, Cache, FakeApi, FakeQueue],
) -> None:
    jobs, cache, api, _ = setting
    resource = LLMDeployment.parse(body("a"))
    name = artifacts_of(resource)[0].job_name
    cache.update(job(name, annotations={ANNOTATION_MADE_FOR: "b"}))
    for one in ("a", "b"):
        cache.update(body(one))
    jobs.want(OBJECT, resource)
    assert jobs.jobs_of(OBJECT, resource)[name].shared_with == "b"
    await jobs.make_again(OBJECT, name)
    await jobs.make_again(OBJECT, "llm-fetch-none")
    assert api.written == [f"delete {name}"]
