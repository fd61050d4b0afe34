"""Pods count by what controls them, by uid: a label or a name is anybody's."""

from __future__ import annotations

from typing import Any

import pytest

from llm_operator.kube.client import ApiError
from llm_operator.kube.pod_owners import PodOwners
from llm_operator.live.children import child_from
from llm_operator.live.pods import pod_from
from llm_operator.reconcile.observed import Observed

NAMESPACE, UID = "team", "object"


def owner(kind: str, name: str, uid: str, *, controller: bool = True) -> dict[str, Any]:
    return {"kind": kind, "name": name, "uid": uid, "controller": controller}


def replica_set(name: str, uid: str, deployment: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid, "ownerReferences": [owner("Deployment", "demo", deployment)]}}


class Api:
    """Stands in for the API client: it holds ReplicaSets."""

    def __init__(self, *live: dict[str, Any], error: ApiError | None = None) -> None:
        self.live = {one["metadata"]["name"]: one for one in live}
        self.error = error
        self.asked = 0

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        assert (kind, namespace) == ("ReplicaSet", NAMESPACE)
        self.asked += 1
        if self.error is not None:
            raise self.error
        if name not in self.live:
            raise ApiError(404, "NotFound", name)
        return self.live[name]


def observed(*owners: list[dict[str, Any]], deployment_owner: str = UID) -> Observed:
    meta = {"name": "demo", "uid": "deployment", "resourceVersion": "1"}
    child = child_from(
        {"kind": "Deployment", "metadata": {**meta, "ownerReferences": [owner("X", "demo", deployment_owner)]}}
    )
    pods = [
        pod_from({"metadata": {"name": f"pod-{n}", "uid": f"p{n}", "resourceVersion": "1", "ownerReferences": refs}})
        for n, refs in enumerate(owners)
    ]
    return Observed(children={("Deployment", "engine"): child}, pods=tuple(pods))


async def own(api: Api, seen: Observed) -> list[str]:
    return [pod.name for pod in (await PodOwners(api).own(NAMESPACE, UID, seen)).pods]  # type: ignore[arg-type]


async def test_only_pods_of_our_deployments_replica_sets_count() -> None:
    api = Api(replica_set("demo-1", "r1", "deployment"), replica_set("theirs-1", "r2", "their deployment"))
    seen = observed(
        [owner("ReplicaSet", "demo-1", "r1")],
        [],
        [owner("ReplicaSet", "theirs-1", "r2")],
        [owner("ReplicaSet", "demo-1", "another uid")],
        [owner("ReplicaSet", "demo-9", "of nobody")],
        [owner("ReplicaSet", "demo-1", "r1", controller=False)],
        [owner("StatefulSet", "demo-1", "r1")],
        [owner("Deployment", "demo", "deployment")],
    )
    assert await own(api, seen) == ["pod-0"]


async def test_a_deployment_of_somebody_else_brings_no_pods() -> None:
    api = Api(replica_set("demo-1", "r1", "deployment"))
    assert await own(api, observed([owner("ReplicaSet", "demo-1", "r1")], deployment_owner="someone")) == []


async def test_a_replica_set_is_asked_for_once() -> None:
    api = Api(replica_set("demo-1", "r1", "deployment"))
    owners = PodOwners(api)  # type: ignore[arg-type]
    seen = observed([owner("ReplicaSet", "demo-1", "r1")], [owner("ReplicaSet", "gone", "r9")])
    for _ in range(5):
        assert len((await owners.own(NAMESPACE, UID, seen)).pods) == 1
    assert api.asked == 2


async def test_the_metrics_are_of_own_pods_only() -> None:
    owners = PodOwners(Api(replica_set("demo-1", "r1", "deployment")))  # type: ignore[arg-type]
    seen = observed([owner("ReplicaSet", "demo-1", "r1")], [owner("ReplicaSet", "demo-1", "forged")], [])
    assert owners.known_own(UID, seen) == (), "nothing is known yet"
    await owners.own(NAMESPACE, UID, seen)
    assert [pod.name for pod in owners.known_own(UID, seen)] == ["pod-0"]
    assert owners.known_own("another object", seen) == ()


async def test_without_the_right_the_name_decides() -> None:
    """After an upgrade of the image alone, before the chart's rights."""
    api = Api(error=ApiError(403, "Forbidden", "replicasets"))
    seen = observed([owner("ReplicaSet", "demo-1", "r1")], [owner("ReplicaSet", "other-1", "r2")], [])
    assert await own(api, seen) == ["pod-0"]


async def test_an_api_server_that_fails_is_no_answer() -> None:
    with pytest.raises(ApiError):
        await own(Api(error=ApiError(500, "InternalError", "")), observed([owner("ReplicaSet", "demo-1", "r1")]))
