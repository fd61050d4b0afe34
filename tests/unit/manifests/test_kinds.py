"""The table of kinds: what follows from it agrees with what is rendered, kept and requested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_operator.api import KIND
from llm_operator.kube.answers import needed_resources
from llm_operator.kube.cache import Cache
from llm_operator.kube.handlers import settings
from llm_operator.manifests.common import LABEL_DEPLOYMENT
from llm_operator.manifests.kinds import CHILD_KINDS, KINDS, WATCHED, Verb
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.settings import NetworkSettings, ToolSettings
from tests.support.build import plan, resource

GOLDEN = Path(__file__).parent / "golden"
NETWORK = ToolSettings(network=NetworkSettings(enabled=True))


def test_paths_are_those_of_the_api_server() -> None:
    assert KINDS["Deployment"].path("team") == "/apis/apps/v1/namespaces/team/deployments"
    assert KINDS["Deployment"].path() == "/apis/apps/v1/deployments"
    assert KINDS["Service"].path("team") == "/api/v1/namespaces/team/services"
    assert KINDS["Node"].path() == KINDS["Node"].path("team") == "/api/v1/nodes"


def test_what_is_watched_may_be_listed_and_watched_and_its_children_changed() -> None:
    assert {row.name for row in WATCHED} == {row.name for row in KINDS.values() if "watch" in row.verbs}
    assert all("list" in row.verbs for row in WATCHED)
    for kind in CHILD_KINDS:
        assert {"get", "create", "patch", "delete"} <= set(KINDS[kind].verbs)


def test_objects_are_watched_before_what_belongs_to_them() -> None:
    """The relist reads the other way round: an object must not be decided on before its children are known."""
    assert [row.name for row in WATCHED if row.reduced == "object"] == [WATCHED[0].name]


def test_kopf_watches_every_llmdeployment_and_nothing_else() -> None:
    """The watches of children have the selectors of their rows: tests/unit/kube/test_child_watches.py."""
    chosen: Any = settings().watching.label_selectors
    assert chosen == {}
    assert KINDS[KIND].selector == ""
    assert needed_resources() == {KINDS[KIND].group_path: {KINDS[KIND].plural}}


@pytest.mark.parametrize("kind", [row.name for row in KINDS.values()])
def test_the_cache_keeps_exactly_what_is_watched(kind: str) -> None:
    name = "demo-1-0123456789" if KINDS[kind].reduced == "revision" else "demo"
    owner = {"kind": KIND, "name": "demo", "uid": "u", "controller": True}
    meta = {"name": name, "namespace": "team", "uid": "1", "resourceVersion": "1", "ownerReferences": [owner]}
    raw: dict[str, Any] = {"kind": kind, "metadata": {**meta, "labels": {LABEL_DEPLOYMENT: "demo"}}, "spec": {}}
    cache = Cache()
    if KINDS[kind].reduced is None:
        with pytest.raises(ValueError, match=f"objects of kind {kind} are not kept"):
            cache.update(raw)
        return
    key = cache.update(raw)
    assert key is not None
    assert list(cache.entries(kind)) == [(key, name, "1")]
    assert cache.version(kind, key, name) == "1"
    cache.forget(kind, key, name)
    assert list(cache.entries(kind)) == []


def test_every_rendered_object_is_of_a_kind_in_the_table() -> None:
    """The golden files hold what is applied for every example."""
    rendered = [body for path in GOLDEN.iterdir() for body in json.loads(path.read_text())]
    rendered += [apply.body for apply in decide(resource(), Observed(), plan(resource()), NETWORK).applies]
    assert set(CHILD_KINDS) <= {body["kind"] for body in rendered}
    for body in rendered:
        assert f"/{body['apiVersion']}" == KINDS[body["kind"]].group_path.removeprefix("/apis").removeprefix("/api")


@pytest.mark.parametrize(("kind", "verb", "subresource"), [("Pod", "delete", ""), ("Pod", "patch", "status")])
def test_a_request_without_a_right_is_refused_here(kind: str, verb: Verb, subresource: str) -> None:
    with pytest.raises(ValueError, match="the chart does not grant it"):
        KINDS[kind].needs(verb, subresource)


def test_metadata_alone_is_asked_for_and_an_empty_list_of_it_is_read() -> None:
    row, usual = KINDS["ControllerRevision"], KINDS["Deployment"]
    assert row.accept(of_list=True) == "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    assert row.accept(of_list=False) == "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    assert usual.accept(of_list=True) == "application/json"
    empty = {"kind": "PartialObjectMetadataList", "items": None}
    assert (row.items(empty), usual.items(empty), row.items({"items": None})) == ([], None, None)
    assert row.items({"kind": "PartialObjectMetadataList", "items": [1]}) == [1]
