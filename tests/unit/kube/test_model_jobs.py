"""Jobs beside objects that cannot be read, or that are long in going away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from llm_operator.api import API_VERSION, KIND
from llm_operator.api.resource import LLMDeployment
from llm_operator.kube.cache import Cache
from llm_operator.kube.client import REPLACED, ApiError
from llm_operator.kube.keys import JobKey
from llm_operator.kube.remaking import FREE
from llm_operator.pipeline.artifacts import ANNOTATION_MADE_FOR, ANNOTATION_RESULT, ANNOTATION_UNUSED_SINCE
from llm_operator.pipeline.damage import damage_findings
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.settings import ToolSettings
from tests.support.objects import llm
from tests.support.queues import FakeQueues, Jobs

JSON = dict[str, Any]
NOW = "2026-01-01T00:00:00Z"
SPACE = "team"
OBJECT = (SPACE, "a")


class FakeApi:
    """Remembers what is written."""

    def __init__(self) -> None:
        self.written: list[str] = []

    async def annotate(
        self, kind: str, namespace: str, name: str, uid: str, annotations: JSON, spec: JSON | None = None
    ) -> JSON:
        self.written.append(f"annotate {name} {sorted(annotations)}")
        return job(name, version="9")

    async def create(self, body: JSON, *, dry_run: bool = False) -> JSON:
        self.written.append(f"create {body['metadata']['name']}")
        return {**body, "metadata": {**body["metadata"], "resourceVersion": "9"}}

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        self.written.append(f"delete {name}")


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
def setting() -> tuple[Jobs, Cache, FakeApi, FakeQueues]:
    api, cache, queue = FakeApi(), Cache(), FakeQueues()
    tools = ToolSettings(image="tools:1")
    jobs = Jobs(api, cache, queue, tools, lambda: NOW)
    cache.update(job("llm-fetch-1"))
    return jobs, cache, api, queue


KEY = JobKey(SPACE, "llm-fetch-1")


async def test_what_nobody_asks_for_is_ended(setting: tuple[Jobs, Cache, FakeApi, FakeQueues]) -> None:
    jobs, cache, api, _ = setting
    cache.update(body("a"))
    jobs.interest.want(OBJECT, LLMDeployment.parse(body("a")))
    await jobs.controller.reconcile(KEY)
    assert [one.split()[0:2] for one in api.written] == [["annotate", "llm-fetch-1"]]


async def test_an_object_that_was_never_read_may_ask_for_any_job(
    setting: tuple[Jobs, Cache, FakeApi, FakeQueues],
) -> None:
    jobs, cache, api, queue = setting
    cache.update(body("a"))
    jobs.interest.keep(OBJECT)
    await jobs.controller.reconcile(KEY)
    assert (api.written, queue.later) == ([], [])
    # Once it can be read, what it does not ask for is looked at again.
    jobs.interest.want(OBJECT, LLMDeployment.parse(body("a")))
    assert KEY in queue.added
    await jobs.controller.reconcile(KEY)
    assert len(api.written) == 1


async def test_an_object_that_is_long_in_going_away_stops_nobody(
    setting: tuple[Jobs, Cache, FakeApi, FakeQueues],
) -> None:
    jobs, cache, api, queue = setting
    cache.update(body("a", deletionTimestamp=NOW, finalizers=["somebody/else"]))
    jobs.interest.forget(OBJECT)
    await jobs.controller.reconcile(KEY)
    assert queue.later == []
    assert len(api.written) == 1


async def test_whatever_the_reason_a_job_is_not_deleted_all_the_time(
    setting: tuple[Jobs, Cache, FakeApi, FakeQueues],
) -> None:
    jobs, cache, api, queue = setting
    cache.update(body("a"))
    resource = LLMDeployment.parse(body("a"))
    jobs.interest.want(OBJECT, resource)
    name = artifacts_of(resource)[0].job_name
    for version in range(2, 22):
        # Somebody marks each new one as unused: it is deleted to be made again.
        marked = {"annotations": {ANNOTATION_UNUSED_SINCE: NOW}, "uid": f"uid-{version}"}
        cache.update(job(name, version=str(version), **marked))
        await jobs.controller.reconcile(JobKey(SPACE, name))
    assert api.written == [f"delete {name}"] * FREE
    assert queue.later == [JobKey(SPACE, name)] * (20 - FREE)


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
    setting: tuple[Jobs, Cache, FakeApi, FakeQueues], made_for: str, others: tuple[str, ...], sharer: str
) -> None:
    jobs, cache, _, _ = setting
    resource = LLMDeployment.parse(body("a"))
    name = artifacts_of(resource)[0].job_name
    cache.update(job(name, annotations={ANNOTATION_MADE_FOR: made_for}))
    for one in ("a", *others):
        cache.update(body(one))
        jobs.interest.want((SPACE, one), LLMDeployment.parse(body(one)))
    assert jobs.interest.jobs_of(OBJECT, resource)[name].shared_with == sharer


async def test_an_object_that_was_not_looked_at_yet_may_wait_for_its_job(
    setting: tuple[Jobs, Cache, FakeApi, FakeQueues],
) -> None:
    jobs, cache, api, _ = setting
    resource = LLMDeployment.parse(body("a"))
    name = artifacts_of(resource)[0].job_name
    cache.update(job(name, annotations={ANNOTATION_MADE_FOR: "b"}))
    for one in ("a", "b"):
        cache.update(body(one))
    jobs.interest.want(OBJECT, resource)
    assert jobs.interest.jobs_of(OBJECT, resource)[name].shared_with == "b"
    await jobs.maker.make_again(OBJECT, job(name, version="2"))
    await jobs.maker.make_again(OBJECT, job("llm-fetch-none"))
    assert api.written == [f"delete {name}", f"create {name}"]


class ApiWithOthers(FakeApi):
    """While it deletes a Job, another object that waits for the Job makes its own."""

    def __init__(self) -> None:
        super().__init__()
        self.others: Callable[[], Awaitable[JSON]] | None = None
        self.waiting: list[asyncio.Future[JSON]] = []
        self.created: list[JSON] = []

    async def create(self, body: JSON, *, dry_run: bool = False) -> JSON:
        if self.created:
            raise ApiError(409, "AlreadyExists", body["metadata"]["name"])
        self.created.append(body["spec"])
        return await super().create(body)

    async def get(self, kind: str, namespace: str, name: str) -> JSON:
        return {**job(name), "spec": self.created[0]}

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        await super().delete(kind, namespace, name, uid)
        assert self.others is not None
        self.waiting.append(asyncio.ensure_future(self.others()))
        for _ in range(5):
            await asyncio.sleep(0)


async def test_nobody_else_makes_a_job_while_it_is_made_again() -> None:
    api, cache = ApiWithOthers(), Cache()
    tools = ToolSettings(image="tools:1")
    jobs = Jobs(api, cache, FakeQueues(), tools, lambda: NOW)
    resource = LLMDeployment.parse(body("a"))
    name = artifacts_of(resource)[0].job_name
    cache.update(job(name))
    jobs.interest.want(OBJECT, resource)
    api.others = lambda: jobs.maker.make((SPACE, "b"), {**job(name), "spec": {"of": "b"}})
    await jobs.maker.make_again(OBJECT, {**job(name, version="2"), "spec": {"of": "a"}})
    answer = await asyncio.wait_for(api.waiting[0], 5)
    assert api.created == [answer["spec"]] == [{"of": "a"}]


##### The comparison with hashes

DIRECTORY = "models/hf--org--name/" + "c" * 40
LATER = "2026-02-01T00:00:00Z"
MUCH_LATER = "2026-02-02T00:00:00Z"


class VerifyingApi(FakeApi):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[JSON] = []
        self.annotations: JSON = {}

    async def get(self, kind: str, namespace: str, name: str) -> JSON:
        raise ApiError(404, "NotFound", name)

    async def create(self, body: JSON, *, dry_run: bool = False) -> JSON:
        self.made.append(body)
        return {**body, "metadata": {**body["metadata"], "uid": "v", "resourceVersion": "20"}}

    async def annotate(
        self, kind: str, namespace: str, name: str, uid: str, annotations: JSON, spec: JSON | None = None
    ) -> JSON:
        self.annotations = {name: text for name, text in (self.annotations | annotations).items() if text is not None}
        self.written.append(f"annotate {name}")
        return complete(name, version="30", **self.annotations)

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        self.written.append(f"delete {name}")


def complete(name: str, version: str = "2", **annotations: str) -> JSON:
    made = job(name, version)
    told = json.dumps({"ok": True, "directory": DIRECTORY, "bytes": 7 << 30})
    made["metadata"]["annotations"] = {ANNOTATION_RESULT: told, **annotations}
    made["status"] = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": NOW}]}
    return made


def ended(made: JSON, condition: str, words: str, version: str = "21") -> tuple[JSON, JSON]:
    """A Job that ended, and its pod."""
    meta = {**made["metadata"], "uid": "v", "resourceVersion": version}
    labels = {name: meta["labels"][name] for name in ("llm-operator.dev/stage", "llm-operator.dev/artifact")}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": "v", "controller": True}
    state = {"terminated": {"exitCode": 0 if condition == "Complete" else 3, "message": words, "finishedAt": LATER}}
    pod = {
        "kind": "Pod",
        "metadata": {
            "name": "p", "namespace": SPACE, "uid": "p", "resourceVersion": "1", "labels": labels,
            "ownerReferences": [owner],
        },
        "status": {"phase": "Succeeded", "containerStatuses": [{"name": "tool", "state": state}]},
    }  # fmt: skip
    status = {"conditions": [{"type": condition, "status": "True", "lastTransitionTime": LATER}]}
    return {**made, "metadata": meta, "status": status}, pod


def compared_daily(
    api: VerifyingApi, cache: Cache, queue: FakeQueues, time: list[str]
) -> tuple[Jobs, LLMDeployment, str]:
    """An object whose model is there, and the name of the Job that fetched it; `time` holds the current time."""
    tools = ToolSettings(image="tools:1", verify_seconds=86_400)
    jobs = Jobs(api, cache, queue, tools, lambda: time[0])
    raw = body("a")
    cache.update(raw)
    resource = LLMDeployment.parse(raw)
    (artifact,) = artifacts_of(resource)
    cache.update(complete(artifact.job_name))
    jobs.interest.want(OBJECT, resource)
    return jobs, resource, artifact.job_name


@pytest.mark.parametrize("ok", [True, False])
async def test_a_cached_model_is_compared_with_its_hashes_and_the_object_told(ok: bool) -> None:
    api, cache, queue, time = VerifyingApi(), Cache(), FakeQueues(), [NOW]
    jobs, resource, name = compared_daily(api, cache, queue, time)
    key = JobKey(SPACE, name)
    await jobs.controller.reconcile(key)
    assert (api.made, queue.later) == ([], [key])

    time[0] = LATER
    await jobs.controller.reconcile(key)
    await jobs.controller.reconcile(key)
    (made,) = api.made
    words = made["spec"]["template"]["spec"]["containers"][0]["args"]
    assert words == ["verify", "--root", "/models", "--directory", DIRECTORY, "--mib-per-second", "100"]
    assert made["metadata"]["ownerReferences"][0]["uid"] == "claim"
    assert made["metadata"]["name"].startswith("llm-verify-")

    text = "1 file differs from what was written, of 3: model.safetensors is missing"
    told = {"ok": True, "bytes": 1} if ok else {"ok": False, "reason": "WeightsCorrupt", "message": text}
    for one in ended(made, "Complete" if ok else "Failed", json.dumps(told)):
        cache.update(one)
    await jobs.controller.reconcile(JobKey(SPACE, made["metadata"]["name"]))
    assert api.written == [f"annotate {name}", f"delete {made['metadata']['name']}"]
    assert key in queue.added
    # The deleted Job may still be known when its maker is looked at again, which knows when its time comes again.
    queue.later.clear()
    await jobs.controller.reconcile(key)
    assert queue.later == ([key] if ok else []), "what is damaged is not compared again"
    cache.forget("Job", JobKey(SPACE, made["metadata"]["name"]), made["metadata"]["name"])

    found = damage_findings(resource, jobs.interest.jobs_of(OBJECT, resource))
    if ok:
        assert found == ()
    else:
        (finding,) = found
        assert (finding.type, finding.status, finding.reason) == ("ModelDamaged", "True", "HashMismatch")
        assert text in finding.message
        assert f"kubectl delete job {name}" in finding.message
    # Not before its time has come again.
    api.made.clear()
    await jobs.controller.reconcile(key)
    assert api.made == []


async def test_a_comparison_that_found_out_nothing_is_made_again() -> None:
    api, cache, queue, time = VerifyingApi(), Cache(), FakeQueues(), [LATER]
    jobs, _, name = compared_daily(api, cache, queue, time)
    key = JobKey(SPACE, name)
    await jobs.controller.reconcile(key)
    (made,) = api.made
    comparison = JobKey(SPACE, made["metadata"]["name"])
    assert queue.later == [key], "whatever becomes of the comparison"
    for one in ended(made, "Failed", '{"ok": false, "reason": "ToolFailed", "message": "the volume"}'):
        cache.update(one)
    time[0] = MUCH_LATER
    await jobs.controller.reconcile(comparison)
    assert api.written == [f"delete {made['metadata']['name']}"]
    queue.later.clear()
    await jobs.controller.reconcile(key)
    assert queue.later == [key], "its deletion may still be on its way"
    cache.forget("Job", comparison, comparison[1])
    await jobs.controller.reconcile(comparison)
    await jobs.controller.reconcile(key)
    assert len(api.made) == 2


async def test_a_forged_comparison_says_nothing_of_another_directory() -> None:
    api, cache, queue = VerifyingApi(), Cache(), FakeQueues()
    jobs, _, _ = compared_daily(api, cache, queue, [LATER])
    forged = job("llm-verify-0123456789", "3")
    forged["metadata"]["annotations"] = {
        ANNOTATION_RESULT: '{"ok": false, "reason": "WeightsCorrupt", "message": "believe me"}',
        "llm-operator.dev/source": json.dumps({"directory": DIRECTORY, "claimName": "models"}),
    }
    forged["status"] = {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": LATER}]}
    cache.update(forged)
    await jobs.controller.reconcile(JobKey(SPACE, "llm-verify-0123456789"))
    assert api.annotations == {}
    assert api.written == ["delete llm-verify-0123456789"]


async def test_a_successor_of_a_job_is_not_written_to(setting: tuple[Jobs, Cache, FakeApi, FakeQueues]) -> None:
    """It was deleted and made again after it was looked at: what was decided is not about the new one."""
    jobs, cache, api, _ = setting
    cache.update(body("a"))
    jobs.interest.want(OBJECT, LLMDeployment.parse(body("a")))
    named: list[str] = []

    async def annotate(
        kind: str, namespace: str, name: str, uid: str, annotations: JSON, spec: JSON | None = None
    ) -> JSON:
        named.append(uid)
        raise ApiError(409, REPLACED, "metadata.uid: field is immutable")

    api.annotate = annotate  # type: ignore[method-assign]
    assert await jobs.controller.reconcile(KEY) is False
    assert named == ["llm-fetch-1"]
    view = cache.job(KEY)
    assert view is not None
    assert view.unused_since is None


async def test_somebody_elses_job_of_a_removals_name_stays_and_is_waited_for() -> None:
    api, cache, queue = TakenApi(), Cache(), FakeQueues()
    jobs = Jobs(api, cache, queue, ToolSettings(image="tools:1", retention_seconds=60), lambda: LATER)
    cache.update(body("a"))
    jobs.interest.want(OBJECT, LLMDeployment.parse({**body("a"), "spec": llm("a")["spec"]}))
    cache.update(complete("llm-fetch-1", **{ANNOTATION_UNUSED_SINCE: NOW}))
    assert await jobs.controller.reconcile(KEY) is False
    assert api.refused
    assert queue.later == [KEY]


class TakenApi(FakeApi):
    """Whatever is created is there already, and is somebody else's."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []

    async def create(self, body: JSON, *, dry_run: bool = False) -> JSON:
        self.refused.append(body["metadata"]["name"])
        raise ApiError(409, "AlreadyExists", "taken")

    async def get(self, kind: str, namespace: str, name: str) -> JSON:
        return {
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace, "uid": "theirs", "resourceVersion": "1"},
        }
