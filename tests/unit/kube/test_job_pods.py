"""Jobs without a pod are asked about once in a while, and others never."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.job_pods import AGAIN_SECONDS, WAIT_SECONDS, JobPods
from llm_operator.pipeline.job_view import JobView
from tests.support.build import pod
from tests.support.model_jobs import cached, job, stages

JSON = dict[str, Any]
KEY = ("team", "demo")
OF = cached()
WAITING = job(stages(OF)["fetch"])


class FakeApi:
    """Refuses pods as long as it is told to."""

    def __init__(self) -> None:
        self.error: ApiError | None = ApiError(403, "Forbidden", "exceeded quota: gpus")
        self.tried = 0

    async def get(self, kind: str, namespace: str, name: str) -> JSON:
        return {"spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}}}

    async def create(self, body: JSON, *, dry_run: bool) -> JSON:
        assert dry_run
        assert body["kind"] == "Pod"
        self.tried += 1
        if self.error is not None:
            raise self.error
        return body


class World:
    def __init__(self) -> None:
        self.api, self.now, self.later = FakeApi(), 100.0, list[float]()
        self.pods = JobPods(cast("ApiClient", self.api), lambda: self.now)

    async def look(self, one: JobView = WAITING) -> str:
        jobs, again = await self.pods.with_refusals(KEY, {one.name: one})
        self.later += [again] if again is not None else []
        return jobs[one.name].refused


async def test_a_refusal_is_found_after_a_moment_and_asked_for_now_and_then() -> None:
    world = World()
    assert await world.look() == ""
    assert (world.api.tried, world.later) == (0, [WAIT_SECONDS])
    world.now += WAIT_SECONDS
    for _ in range(5):
        assert await world.look() == "exceeded quota: gpus"
    assert world.api.tried == 1
    world.now += AGAIN_SECONDS
    world.api.error = None
    assert await world.look() == ""
    assert world.api.tried == 2


@pytest.mark.parametrize(
    "other",
    [
        replace(WAITING, pods=(pod(OF),)),
        replace(WAITING, suspended=True),
        replace(WAITING, deleting=True),
        replace(WAITING, phase="Complete"),
        replace(WAITING, phase="Failed"),
    ],
)
async def test_others_are_not_asked_about(other: JobView) -> None:
    world = World()
    for _ in range(3):
        assert await world.look(other) == ""
        world.now += 60
    assert (world.api.tried, world.later) == (0, [])


@pytest.mark.parametrize(
    "error",
    [ApiError(403, "Forbidden", 'User "x" cannot create resource "pods"'), ApiError(404, "NotFound", "gone"), None],
)
async def test_what_says_nothing_of_the_pods_is_no_refusal(error: ApiError | None) -> None:
    world = World()
    world.api.error = error
    await world.look()
    world.now += WAIT_SECONDS
    assert await world.look() == ""


async def test_a_server_that_fails_is_asked_again() -> None:
    world = World()
    world.api.error = ApiError(500, "InternalError", "etcd")
    await world.look()
    world.now += WAIT_SECONDS
    with pytest.raises(ApiError):
        await world.look()
