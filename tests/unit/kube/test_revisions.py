"""Revisions between API server and cache: what runs is read once, made again as it was, and never taken from others."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from llm_operator.kube.cache import Cache
from llm_operator.kube.client import ApiError
from llm_operator.kube.ownership import ForeignError
from llm_operator.kube.revisions import Revisions
from llm_operator.manifests.revision import REVISION
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.rendered import kept_rendering
from tests.support.build import UID, plan, resource
from tests.support.objects import llm

JSON = dict[str, Any]
KEY = ("team", "demo")


class Api:
    """A fake of the API server's four verbs on revisions, and of its error about what cannot be read."""

    def __init__(self, *bodies: JSON) -> None:
        self.live = {body["metadata"]["name"]: body for body in bodies}
        self.unreadable: set[str] = set()
        self.down = False
        self.garbled = 0
        """Answers that a proxy replaces by its page."""
        self.holds_on = False
        self.asked: list[str] = []

    async def get(self, kind: str, namespace: str, name: str, *, metadata_only: bool = False) -> JSON:
        assert (kind, namespace) == (REVISION, "team")
        self.asked.append("metadata" if metadata_only else "get")
        if self.down or self.garbled:
            self.garbled = max(0, self.garbled - 1)
            raise ApiError(502, "Unreadable", "a page of a proxy")
        if name not in self.live:
            raise ApiError(404, "NotFound", name)
        if name in self.unreadable and not metadata_only:
            raise ApiError(502, "Unreadable", "half a character")
        body = copy.deepcopy(self.live[name])
        return {key: value for key, value in body.items() if key != "data" or not metadata_only}

    async def create(self, body: JSON, *, dry_run: bool = False) -> JSON:
        self.asked.append("create")
        name = body["metadata"]["name"]
        if name in self.live:
            raise ApiError(409, "AlreadyExists", name)
        self.live[name] = stored(body, uid=f"uid-{len(self.asked)}")
        return copy.deepcopy(self.live[name])

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        self.asked.append("delete")
        assert self.live[name]["metadata"]["uid"] == uid
        if not self.holds_on:
            del self.live[name]
            self.unreadable.discard(name)

    async def patch(self, kind: str, namespace: str, name: str, patch: Any) -> JSON:
        self.asked.append("patch")
        assert patch[0]["value"] == self.live[name]["metadata"]["uid"]
        self.live[name]["metadata"]["labels"] = patch[1]["value"]
        return copy.deepcopy(self.live[name])


def stored(body: JSON, uid: str = "u1", version: str = "5") -> JSON:
    found = copy.deepcopy(body)
    found["metadata"] |= {"uid": uid, "resourceVersion": version}
    return found


def rendered() -> tuple[JSON, JSON]:
    """Revision and Deployment of an object."""
    of = resource()
    bodies = [apply.body for apply in decide(of, Observed(), plan(of)).applies]
    return bodies[0], bodies[1]


def metadata_of(body: JSON) -> JSON:
    return {"kind": REVISION, "metadata": body["metadata"]}


def known(*bodies: JSON) -> Cache:
    cache = Cache()
    cache.update({**llm("demo"), "metadata": {"name": "demo", "namespace": "team", "uid": UID, "resourceVersion": "1"}})
    for body in bodies:
        cache.update(stored(body) if "resourceVersion" not in body["metadata"] else body)
    return cache


async def test_what_runs_is_read_once() -> None:
    revision, deployment = rendered()
    api = Api(stored(revision))
    cache = known(metadata_of(stored(revision)), deployment)
    revisions = Revisions(api, cache)  # type: ignore[arg-type]
    assert kept_rendering(resource(), cache.observed(KEY)) is None
    for _ in range(3):
        seen = await revisions.with_running(KEY, cache.observed(KEY))
        kept = kept_rendering(resource(), seen)
        assert kept is not None
        assert kept.template == deployment["spec"]["template"]
        # The watch tells of a label, and says nothing of the data.
        cache.update(metadata_of(stored(revision, version=str(7 + len(api.asked)))))
    assert api.asked == ["get"]
    assert decide(resource(), cache.observed(KEY), plan(resource())).applies[0].body["kind"] == "Service"


async def test_it_is_read_by_name_although_the_watch_has_not_told_of_it() -> None:
    revision, deployment = rendered()
    cache = known(deployment)
    seen = await Revisions(Api(stored(revision)), cache).with_running(KEY, cache.observed(KEY))  # type: ignore[arg-type]
    assert kept_rendering(resource(), seen) is not None


async def test_what_a_proxy_answers_does_not_mean_that_it_is_gone() -> None:
    revision, deployment = rendered()
    api, cache = Api(stored(revision)), known(deployment)
    api.down = True
    with pytest.raises(ApiError):
        await Revisions(api, cache).with_running(KEY, cache.observed(KEY))  # type: ignore[arg-type]
    api.down, api.unreadable = False, {revision["metadata"]["name"]}
    seen = await Revisions(api, cache).with_running(KEY, cache.observed(KEY))  # type: ignore[arg-type]
    assert kept_rendering(resource(), seen) is None
    first = decide(resource(), seen, plan(resource())).applies[0].body
    assert first == revision, "and it is made again"
    asked = len(api.asked)
    await Revisions(api, cache).with_running(KEY, cache.observed(KEY))  # type: ignore[arg-type]
    assert len(api.asked) == asked, "it is known to be unreadable"


async def test_one_page_of_a_proxy_is_not_taken_for_what_it_holds() -> None:
    revision, deployment = rendered()
    api, cache = Api(stored(revision)), known(deployment)
    api.garbled = 1
    seen = await Revisions(api, cache).with_running(KEY, cache.observed(KEY))  # type: ignore[arg-type]
    assert kept_rendering(resource(), seen) is not None
    api.garbled = 1
    answer = await Revisions(api, cache).make(revision)  # type: ignore[arg-type]
    assert (answer["data"], "delete" in api.asked) == (revision["data"], False)


async def test_one_of_another_owner_is_not_read_as_ours() -> None:
    revision, deployment = rendered()
    theirs = stored(revision)
    theirs["metadata"]["ownerReferences"][0]["uid"] = "somebody"
    cache = known(deployment)
    seen = await Revisions(Api(theirs), cache).with_running(KEY, cache.observed(KEY))  # type: ignore[arg-type]
    assert kept_rendering(resource(), seen) is None


async def test_a_deleted_one_is_made_again_as_it_was() -> None:
    revision, deployment = rendered()
    cache = known(stored(revision), deployment)
    assert cache.remove({**metadata_of(stored(revision)), "kind": REVISION}) == KEY
    assert list(cache.entries(REVISION)) == []
    seen = cache.observed(KEY)
    # Whatever would be rendered today.
    better = replace(plan(resource()), tensor=4)
    first = decide(resource(), seen, better).applies[0].body
    assert (first["metadata"]["name"], first["data"]) == (revision["metadata"]["name"], revision["data"])
    cache.learn(stored(first, uid="u2", version="9"))
    assert [one.body["kind"] for one in decide(resource(), cache.observed(KEY), better).applies] == ["Service"]
    # With its object nothing is made again.
    cache.forget("LLMDeployment", KEY, "demo")
    cache.forget(REVISION, KEY, revision["metadata"]["name"])
    assert cache.observed(KEY).revisions == {}


async def test_a_creation_that_finds_the_same_is_done() -> None:
    revision, _ = rendered()
    api = Api(stored(revision))
    api.live[revision["metadata"]["name"]]["metadata"]["labels"] = {"somebody": "x"}
    answer = await Revisions(api, known()).make(revision)  # type: ignore[arg-type]
    assert answer["data"] == revision["data"]
    assert answer["metadata"]["labels"] == {"somebody": "x", **revision["metadata"]["labels"]}
    assert api.asked == ["create", "get", "patch"]


@pytest.mark.parametrize("unreadable", [False, True])
async def test_one_that_holds_something_else_is_replaced(unreadable: bool) -> None:
    revision, _ = rendered()
    api = Api({**stored(revision), "data": {"template": 1}})
    api.unreadable = {revision["metadata"]["name"]} if unreadable else set()
    answer = await Revisions(api, known()).make(revision)  # type: ignore[arg-type]
    assert answer["data"] == revision["data"]
    api = Api({**stored(revision), "data": {"template": 1}})
    api.holds_on = True
    with pytest.raises(ForeignError, match="remove its finalizers"):
        await Revisions(api, known()).make(revision)  # type: ignore[arg-type]


@pytest.mark.parametrize("unreadable", [False, True])
async def test_somebody_elses_is_not_taken(unreadable: bool) -> None:
    revision, _ = rendered()
    theirs = {**stored(revision), "data": {"a": 1}}
    del theirs["metadata"]["ownerReferences"]
    api = Api(theirs)
    api.unreadable = {revision["metadata"]["name"]} if unreadable else set()
    with pytest.raises(ForeignError, match="exists and belongs to somebody else"):
        await Revisions(api, known()).make(revision)  # type: ignore[arg-type]
    assert "delete" not in api.asked
