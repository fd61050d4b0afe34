"""One reconcile: everything is read once, decided, written, and told."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from llm_operator.api import KIND
from llm_operator.api.resource import InvalidResource, LLMDeployment
from llm_operator.kube.cache import Cache
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.controller import Controller
from llm_operator.kube.keys import Key
from llm_operator.manifests.revision import REVISION
from llm_operator.pipeline.artifacts import ANNOTATION_DAMAGED, ANNOTATION_RESULT, LABEL_CACHE
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.plan_facts import Hold, PlanFacts
from llm_operator.reconcile.wants import Rendered, Wants
from llm_operator.settings import ToolSettings
from tests.support.objects import llm
from tests.support.queues import queues
from tests.support.sources import facts

JSON = dict[str, Any]
KEY = ("team", "demo")
NOW = "2026-01-01T00:00:00Z"


class FakePlans:
    """Knows of no model."""

    def known(self, key: Key, resource: LLMDeployment) -> PlanFacts:
        return facts(resource)

    def holds(self, key: Key, hold: Hold | None) -> None: ...

    def learn(self, rendered: Rendered, tokens: int) -> None: ...

    def follow(self, key: Key, wants: Wants) -> None: ...

    def forget(self, key: Key) -> None: ...


class FakeApi:
    """An API server in memory, as far as the controller asks it. What it stores comes back by no watch."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], JSON] = {}
        self.writes: list[str] = []
        self.reads: list[str] = []
        self.version = 10
        self.meanwhile: Callable[[], object] = lambda: None
        """Runs within each write."""

    def _store(self, what: str, body: JSON) -> JSON:
        self.meanwhile()
        self.version += 1
        kind, name = body["kind"], body["metadata"]["name"]
        before = self.stored.get((kind, name), {"metadata": {"uid": f"uid-{kind}-{name}"}})
        meta = {**before["metadata"], **body["metadata"], "resourceVersion": str(self.version), "generation": 1}
        self.stored[kind, name] = {**before, **body, "metadata": meta}
        self.writes.append(f"{what} {kind} {name}")
        return copy.deepcopy(self.stored[kind, name])

    async def create(self, body: JSON, *, dry_run: bool = False) -> JSON:
        return self._store("create", body)

    async def get(self, kind: str, namespace: str, name: str) -> JSON:
        self.reads.append(f"{kind} {name}")
        if (kind, name) not in self.stored:
            raise ApiError(404, "NotFound", name)
        return copy.deepcopy(self.stored[kind, name])

    async def apply_status(self, namespace: str, name: str, uid: str, status: JSON, version: str | None = None) -> JSON:
        return self._store("status", {"kind": KIND, "metadata": {"name": name}, "status": status})


class World:
    """A controller over a cache and a server."""

    def __init__(self, tools: ToolSettings) -> None:
        self.api, self.cache = FakeApi(), Cache()
        self.queues = queues()
        client = cast("ApiClient", self.api)
        self.controller = Controller(client, self.cache, self.queues, FakePlans(), tools, lambda: NOW)

    def has(self, **spec: Any) -> LLMDeployment:
        made = llm("demo", **spec)
        made["metadata"] |= {"namespace": "team", "uid": "uid-demo", "resourceVersion": "1", "generation": 1}
        self.api.stored[KIND, "demo"] = made
        self.cache.update(made)
        return LLMDeployment.parse(made)

    def conditions(self) -> dict[str, JSON]:
        return {entry["type"]: entry for entry in self.api.stored[KIND, "demo"]["status"]["conditions"]}


@pytest.fixture(autouse=True)
async def _no_look_is_left() -> AsyncIterator[None]:
    """Looks at engines go on beside the reconciler."""
    yield
    for task in asyncio.all_tasks():
        if task.get_name() == "vital-signs":
            task.cancel()


CLAIM = {"model": {"persistentVolumeClaim": {"claimName": "models"}}}


def claim(api: FakeApi) -> None:
    meta: JSON = {"name": "models", "namespace": "team", "uid": "claim", "labels": {LABEL_CACHE: "true"}}
    meta["resourceVersion"] = "1"
    api.stored["PersistentVolumeClaim", "models"] = {"kind": "PersistentVolumeClaim", "metadata": meta, "spec": {}}


async def test_the_status_counts_what_was_just_written_and_the_next_look_writes_nothing() -> None:
    world = World(ToolSettings())
    world.has(**CLAIM)
    await world.controller.reconcile(KEY)
    ((name, _),) = world.cache.observed(KEY).revisions.items()
    children = [f"create {REVISION} {name}", "create Deployment demo", "create Service demo"]
    assert [one for one in world.api.writes if "Event" not in one] == [*children, f"status {KIND} demo"]
    assert world.conditions()["Ready"]["reason"] == "Progressing"
    assert set(world.cache.observed(KEY).children) == {("Deployment", "engine"), ("Service", "engine")}
    world.api.writes.clear()
    await world.controller.reconcile(KEY)
    assert world.api.writes == []


@pytest.mark.parametrize("left", [None, {}, {"observedGeneration": 9, "conditions": []}])
async def test_wiping_the_status_changes_nothing_but_the_status(left: Any) -> None:
    world = World(ToolSettings())
    world.has(**CLAIM)
    await world.controller.reconcile(KEY)
    await world.controller.reconcile(KEY)
    stored = world.api.stored[KIND, "demo"]
    told, decided = stored["status"], world.cache.observed(KEY)
    world.api.writes.clear()
    stored["metadata"]["resourceVersion"], stored["status"] = str(world.api.version + 1), left
    world.api.version += 1
    world.cache.update(copy.deepcopy(stored))
    await world.controller.reconcile(KEY)
    assert [one for one in world.api.writes if "Event" not in one] == [f"status {KIND} demo"]
    assert world.api.stored[KIND, "demo"]["status"] == told
    assert world.cache.observed(KEY) == decided


async def test_what_comes_while_it_is_written_is_for_the_next_look() -> None:
    """The world is read once: status and writes speak of the same moment."""
    world = World(ToolSettings())
    world.has(**CLAIM)
    await world.controller.reconcile(KEY)
    del world.api.stored["Service", "demo"]
    world.cache.forget("Service", KEY, "demo")
    looks = 0
    seen = world.cache.observed

    def observed(key: Key) -> Observed:
        nonlocal looks
        looks += 1
        return seen(key)

    def rolled_out() -> None:
        live = world.api.stored["Deployment", "demo"]
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "observedGeneration"), 1)
        world.cache.update({**live, "metadata": {**live["metadata"], "resourceVersion": "5000"}, "status": counts})

    world.cache.observed = observed  # type: ignore[method-assign]
    world.api.meanwhile = rolled_out
    await world.controller.reconcile(KEY)
    assert looks == 1
    assert world.conditions()["Ready"]["reason"] == "Progressing"
    await world.controller.reconcile(KEY)
    assert world.conditions()["Ready"]["reason"] == "ReplicasReady"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"podTemplate": {"spec": {"x": "a" * 40_000}}}, "spec.podTemplate: 40,019 bytes as JSON; at most 32,768"),
        ({"tools": {"podTemplate": {"spec": {"x": [{}] * 5000}}}}, "spec.tools.podTemplate: more than 4,096 values"),
        ({"webUI": {"podTemplate": {"spec": {"x": [0] * 6000}}}}, "spec.webUI.podTemplate: more than 4,096 values"),
        ({"engine": {"type": "VLLM", "extraArgs": ["a" * 600_000]}}, "spec: 600,"),
    ],
)
async def test_a_spec_that_is_too_large_is_not_kept_and_says_why(spec: JSON, told: str) -> None:
    world = World(ToolSettings())
    with pytest.raises(InvalidResource):
        world.has(**spec)
    await world.controller.reconcile(KEY)
    stalled = world.conditions()["Stalled"]
    assert stalled["reason"] == "InvalidSpec"
    assert stalled["message"].startswith(told)
    assert world.cache.objects[KEY]["spec"] is None
    assert not [write for write in world.api.writes if write.startswith("create") and "Event" not in write]


@pytest.mark.parametrize("successor", [False, True])
async def test_nothing_more_is_made_for_an_object_that_goes_while_it_is_made(successor: bool) -> None:
    world = World(ToolSettings())
    world.has(webUI={})

    def gone() -> None:
        world.api.meanwhile = lambda: None
        meta = world.cache.objects[KEY]["metadata"]
        world.cache.remove({**world.cache.objects[KEY], "metadata": {**meta, "resourceVersion": "5"}})
        if successor:
            world.cache.update({**llm("demo"), "metadata": {**meta, "uid": "uid-2", "resourceVersion": "6"}})

    world.api.meanwhile = gone
    await world.controller.reconcile(KEY)
    made = [write for write in world.api.writes if write.startswith("create") and "Event" not in write]
    assert len(made) == 1, made


async def test_an_object_whose_status_is_not_found_does_not_come_back_by_a_late_event() -> None:
    world = World(ToolSettings())
    world.has()
    body = world.cache.objects[KEY]

    async def not_found(*_: Any) -> JSON:
        raise ApiError(404, "NotFound", "demo")

    world.api.apply_status = not_found  # type: ignore[method-assign,assignment]
    await world.controller.reconcile(KEY)
    assert world.cache.update({**body, "metadata": {**body["metadata"], "resourceVersion": "4"}}) is None
    assert KEY not in world.cache.objects


async def test_a_crd_that_lacks_a_field_of_the_status_is_no_other_operator() -> None:
    """The API server drops what an older CRD does not have, so that what it stores is not what was written."""
    world = World(ToolSettings())
    world.has(**CLAIM)
    whole = world.api.apply_status

    async def pruned(namespace: str, name: str, uid: str, status: JSON, version: str | None = None) -> JSON:
        return await whole(namespace, name, uid, {key: value for key, value in status.items() if key != "endpoint"})

    world.api.apply_status = pruned  # type: ignore[method-assign]
    for generation in range(1, 20):
        body = copy.deepcopy(world.api.stored[KIND, "demo"])
        world.api.version += 1
        body["metadata"] |= {"generation": generation, "resourceVersion": str(world.api.version)}
        body["spec"]["engine"] = {**body["spec"]["engine"], "logLevel": "INFO" if generation % 2 else "DEBUG"}
        world.cache.update({**body, "kind": KIND})
        world.api.stored[KIND, "demo"] = body
        await world.controller.reconcile(KEY)
        assert "Contested" not in world.conditions()


async def test_damage_of_a_cached_model_is_told_while_it_is_served() -> None:
    """What the Jobs tell is part of what the status is made from."""
    world = World(ToolSettings(image="tools:1"))
    claim(world.api)
    world.has(cache={"claimName": "models"})
    await world.controller.reconcile(KEY)
    (job,) = [body for (kind, _), body in world.api.stored.items() if kind == "Job"]
    directory = "models/hf--tiny--model/0123456789abcdef0123456789abcdef01234567"
    result = f'{{"ok": true, "directory": "{directory}", "bytes": 1}}'
    annotations = {ANNOTATION_RESULT: result, ANNOTATION_DAMAGED: "model.safetensors is missing"}
    job["metadata"] |= {"resourceVersion": "900", "annotations": {**job["metadata"]["annotations"], **annotations}}
    job["status"] = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
    world.cache.update(job)
    await world.controller.reconcile(KEY)
    found = world.conditions()["ModelDamaged"]
    assert (found["status"], found["reason"]) == ("True", "HashMismatch")
    assert "model.safetensors is missing" in found["message"]
    # The remedy deletes the Job that knows of it; the files are what they were until its successor is done.
    gone = ("Job", job["metadata"]["name"])
    world.api.stored.pop(gone)
    world.cache.forget("Job", ("team", gone[1]), gone[1])
    await world.controller.reconcile(KEY)
    assert world.conditions()["ModelDamaged"]["message"] == found["message"]


async def test_a_pod_that_waits_for_a_volume_is_told_of_with_its_claim() -> None:
    world = World(ToolSettings(image="tools:1", inspect=False))
    claim(world.api)
    world.has(**CLAIM)
    await world.controller.reconcile(KEY)
    deployment = world.api.stored["Deployment", "demo"]
    replica_set = {"kind": "ReplicaSet", "name": "demo-1", "uid": "replica-set", "controller": True}
    owner = {**replica_set, "kind": "Deployment", "name": "demo", "uid": deployment["metadata"]["uid"]}
    world.api.stored["ReplicaSet", "demo-1"] = {"metadata": {"uid": "replica-set", "ownerReferences": [owner]}}
    message = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    meta: JSON = {"name": "demo-1-a", "namespace": "team", "uid": "pod", "resourceVersion": "2"}
    meta |= {"labels": deployment["spec"]["template"]["metadata"]["labels"], "ownerReferences": [replica_set]}
    world.cache.update({"kind": "Pod", "metadata": meta, "status": {"phase": "Pending", "conditions": [waits]}})
    await world.controller.reconcile(KEY)
    ready = world.conditions()["Ready"]
    assert ready["reason"] == "ClaimUnbound"
    assert "PersistentVolumeClaim 'models' has no volume" in ready["message"]


async def test_a_read_that_is_refused_for_long_is_said_and_what_was_said_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    world, times = World(ToolSettings()), ["2026-01-01T00:00:00Z"]
    monkeypatch.setattr(world.controller, "_now", lambda: times[0])
    world.has(**CLAIM)
    await world.controller.reconcile(KEY)
    stored = world.api.stored[KIND, "demo"]
    world.cache.update(copy.deepcopy({**stored, "kind": KIND}))
    before = world.conditions()

    async def refused(*_: object) -> None:
        raise ApiError(403, "Forbidden", 'cannot get resource "controllerrevisions"')

    gather = world.controller._gatherer.gather
    monkeypatch.setattr(world.controller._gatherer, "gather", refused)
    for _ in range(2):
        with pytest.raises(ApiError):
            await world.controller.reconcile(KEY)
    times[0] = "2026-01-01T00:00:10Z"
    assert await world.controller.reconcile(KEY), "it is tried again"
    after = world.conditions()
    assert (after["Ready"]["status"], after["Ready"]["reason"]) == ("Unknown", "ReadRefused")
    assert "controllerrevisions" in after["Ready"]["message"]
    assert {kind: one for kind, one in after.items() if kind not in ("Ready", "Reconciling")} == {
        kind: one for kind, one in before.items() if kind not in ("Ready", "Reconciling")
    }
    monkeypatch.setattr(world.controller._gatherer, "gather", gather)
    await world.controller.reconcile(KEY)
    assert world.conditions()["Ready"]["reason"] == before["Ready"]["reason"]
    monkeypatch.setattr(world.controller._gatherer, "gather", refused)
    with pytest.raises(ApiError):
        await world.controller.reconcile(KEY)
