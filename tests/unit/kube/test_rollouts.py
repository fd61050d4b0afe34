"""The look at the ReplicaSet of the old pods."""

from __future__ import annotations

from typing import Any, cast

import pytest

from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.rollouts import UNSEEN, with_rollout
from tests.unit.reconcile.test_rollout import IN_PLACE, deployment, pod, replica_set, seen


class Api:
    """Stands in for the API client: it holds ReplicaSets."""

    def __init__(self, *live: tuple[str, dict[str, Any]], error: ApiError | None = None) -> None:
        self.live = dict(live)
        self.error = error
        self.asked: list[str] = []

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        assert (kind, namespace) == ("ReplicaSet", "team")
        self.asked.append(name)
        if self.error is not None:
            raise self.error
        if name not in self.live:
            raise ApiError(404, "NotFound", name)
        return self.live[name]


async def look(api: Api, *names: str, **status: int) -> bool:
    observed = seen(deployment(2, IN_PLACE, 2, **status), *map(pod, names))
    return (await with_rollout(cast(ApiClient, api), ("team", "demo"), observed)).rollout_stands


async def test_one_of_the_old_pods_replica_sets_holds_it() -> None:
    api = Api(("demo-2", replica_set(0, "3")), ("demo-3", replica_set(2, "3")))
    assert await look(api, "demo-1", "demo-2", "demo-3")
    assert not await look(api, "demo-1", "demo-2")


async def test_a_rollout_that_goes_on_costs_no_request() -> None:
    api = Api(("demo-1", replica_set(2, "3")))
    assert not await look(api, "demo-1", updatedReplicas=1)
    assert api.asked == []


async def test_without_the_right_nothing_is_known_and_that_is_said() -> None:
    api = Api(error=ApiError(403, "Forbidden", "replicasets"))
    assert not await look(api, "demo-1")
    observed = seen(deployment(2, IN_PLACE, 2), pod("demo-1"))
    assert (await with_rollout(cast(ApiClient, api), ("team", "demo"), observed)).unseen == (UNSEEN,)
    observed = seen(deployment(2, IN_PLACE, 2, updatedReplicas=1), pod("demo-1"))
    assert (await with_rollout(cast(ApiClient, api), ("team", "demo"), observed)).unseen == (), "nothing is to be seen"


async def test_a_failing_api_server_is_asked_again() -> None:
    with pytest.raises(ApiError):
        await look(Api(error=ApiError(500, "InternalError", "etcd")), "demo-1")
