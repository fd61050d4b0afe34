"""Claims are asked for, not watched: many objects that name one share the answers."""

from __future__ import annotations

from typing import Any, cast

import pytest

from llm_operator.kube.claims import FRESH_SECONDS, MISSING_SECONDS, MOST_REMEMBERED, Claims, claim_from
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.reconcile.evaluate import MISSING_CLAIM_SECONDS


class World:
    """Claims of namespace `team`, a clock, and how often was asked."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.live: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.claims = Claims(cast(ApiClient, self), lambda: self.time)

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        assert (kind, namespace) == ("PersistentVolumeClaim", "team")
        self.asked.append(name)
        if name not in self.live:
            raise ApiError(404, "NotFound", name)
        return self.live[name]

    def make(self, name: str, **meta: Any) -> None:
        self.live[name] = {"metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}", **meta}, "spec": {}}

    async def uid(self, name: str = "models") -> str | None:
        found = (await self.claims.look_up("team", [name]))[name]
        return found.uid if found is not None else None


async def test_objects_that_wait_for_one_missing_claim_share_the_answer() -> None:
    world = World()
    for _ in range(4):
        assert [await world.uid() for _ in range(50)] == [None] * 50
        world.time += MISSING_CLAIM_SECONDS
    assert world.asked == ["models"] * 4


async def test_a_claim_that_comes_is_seen_at_the_next_look() -> None:
    """The look comes at a slower pace than the answer lasts: what is missing is never told twice from memory."""
    assert MISSING_SECONDS < MISSING_CLAIM_SECONDS
    world = World()
    assert await world.uid() is None
    world.make("models")
    world.time += MISSING_CLAIM_SECONDS
    assert await world.uid() == "uid-models"


async def test_a_claim_that_the_operator_makes_is_known_at_once() -> None:
    world = World()
    assert await world.uid() is None
    world.make("models")
    world.claims.learn(world.live["models"])
    assert await world.uid() == "uid-models"
    assert world.asked == ["models"]


async def test_a_claim_that_is_there_is_asked_for_now_and_then() -> None:
    world = World()
    world.make("models")
    for _ in range(3):
        assert [await world.uid() for _ in range(5)] == ["uid-models"] * 5
        world.time += FRESH_SECONDS
    assert world.asked == ["models"] * 3


async def test_a_claim_that_goes_is_asked_for_each_time() -> None:
    world = World()
    world.make("models", deletionTimestamp="2026-01-01T00:00:00Z")
    assert (await world.uid(), await world.uid()) == ("uid-models", "uid-models")
    assert world.asked == ["models"] * 2
    del world.live["models"]
    assert await world.uid() is None


async def test_a_failing_api_server_is_no_answer() -> None:
    world = World()

    async def fails(*_: object) -> dict[str, Any]:
        raise ApiError(500, "InternalError", "etcd")

    world.claims = Claims(cast(ApiClient, type("Api", (), {"get": staticmethod(fails)})()))
    with pytest.raises(ApiError):
        await world.uid()


async def test_names_that_specs_make_up_do_not_fill_the_memory() -> None:
    world = World()
    for number in range(MOST_REMEMBERED + 100):
        await world.uid(f"c-{number}")
    assert len(world.claims._known) == MOST_REMEMBERED
    before = len(world.asked)
    await world.uid(f"c-{MOST_REMEMBERED + 99}")
    assert len(world.asked) == before


@pytest.mark.parametrize(
    ("phase", "bound", "lost"), [("Bound", True, False), ("Pending", False, False), ("Lost", False, True)]
)
def test_the_phase_of_a_claim(phase: str, bound: bool, lost: bool) -> None:
    found = claim_from({"metadata": {"name": "a", "uid": "b"}, "status": {"phase": phase}})
    assert (found.bound, found.lost) == (bound, lost)


def test_who_controls_a_claim() -> None:
    owners = [
        {"kind": "ConfigMap", "name": "c", "uid": "1"},
        {"kind": "StatefulSet", "name": "s" * 300, "uid": "2", "controller": True},
    ]
    found = claim_from({"metadata": {"name": "a", "uid": "b", "ownerReferences": owners}})
    assert found.owner_uid == "2"
    assert found.owner == f"StatefulSet '{'s' * 253}'"
    assert (claim_from({"metadata": {"name": "a", "uid": "b"}}).owner_uid, found.managed) == (None, False)
