"""What cannot be read is left out, counted, and costs nobody else anything."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from llm_operator.api import KIND
from llm_operator.kube.cache import Cache
from llm_operator.kube.intake import Intake
from llm_operator.kube.relist import Relist
from llm_operator.telemetry.metrics import Metrics
from tests.support.queues import queues

JSON = dict[str, Any]


class Lists:
    """A client that lists what it was given. A stand-in for ApiClient."""

    def __init__(self, **items: list[JSON]) -> None:
        self.items = items

    async def list(self, kind: str, namespace: str | None, selector: str, _: object) -> AsyncIterator[JSON]:
        for item in self.items.get(kind, []):
            yield {**item, "kind": kind}


def deployment(version: str, name: str = "qwen", uid: str = "u1", **more: Any) -> JSON:
    meta = {"namespace": "team", "name": name, "uid": uid, "resourceVersion": version}
    return {"metadata": {**meta, **more}, "spec": {}}


BROKEN: list[Any] = [
    {"metadata": {"namespace": "team", "name": "x", "resourceVersion": "not-a-number", "uid": "u"}, "spec": {}},
    {"metadata": {"namespace": "team", "name": "x", "resourceVersion": "1", "uid": "u", "ownerReferences": [5]}},
    {"metadata": {"name": "x"}},
    {"metadata": None},
    {},
]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("kind", ["Deployment", "Pod", "Job", KIND])
async def test_a_relist_goes_on_after_what_it_cannot_read(
    kind: str, broken: JSON, caplog: pytest.LogCaptureFixture
) -> None:
    cache, metrics = Cache(), Metrics()
    both = queues(lambda: 0.0)
    client: Any = Lists(**{kind: [broken, broken], "Service": [deployment("7")]})
    relist = Relist(client, cache, both, [None], metrics)
    with caplog.at_level(logging.WARNING):
        await relist.run()
        await relist.run()
    assert relist.synced
    assert list(cache.entries("Service")) == [(("team", "qwen"), "qwen", "7")]


def test_it_is_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    intake = Intake(Cache(), metrics)
    assert intake.update({**deployment("1"), "kind": "Service"}) == ("team", "qwen")
    assert intake.update({**deployment("x" * 3000), "kind": "Service"}) is None
    assert intake.remove({"kind": "Pod", "metadata": 5}) is None
    assert metrics.registry.get_sample_value("llm_operator_unreadable_objects_total", {"kind": "Service"}) == 1
    assert metrics.registry.get_sample_value("llm_operator_unreadable_objects_total", {"kind": "Pod"}) == 1
    assert "Service team/qwen cannot be read" in caplog.text
    assert max(len(record.getMessage()) for record in caplog.records) < 1000


async def test_a_relist_replaces_what_is_known_after_a_restore_of_etcd() -> None:
    cache, metrics = Cache(), Metrics()
    both = queues(lambda: 0.0)
    cache.update({**deployment("9000"), "kind": "Service"})
    client: Any = Lists(Service=[deployment("100", uid="u2")])
    relist = Relist(client, cache, both, [None], metrics)
    await relist.run()
    assert cache.version("Service", ("team", "qwen"), "qwen") == "100"
    assert cache.update({**deployment("101", uid="u2"), "kind": "Service"}) == ("team", "qwen"), (
        "the watch counts again"
    )


async def test_a_relist_does_not_undo_what_a_watch_has_brought_meanwhile() -> None:
    cache, metrics = Cache(), Metrics()
    both = queues(lambda: 0.0)
    cache.update({**deployment("5"), "kind": "Service"})

    class Slow(Lists):
        async def list(self, kind: str, namespace: str | None, selector: str, _: object) -> AsyncIterator[JSON]:
            if kind == "Service":
                cache.update({**deployment("6"), "kind": "Service"})
            async for item in super().list(kind, namespace, selector, _):
                yield item

    client: Any = Slow(Service=[deployment("5")])
    await Relist(client, cache, both, [None], metrics).run()
    assert cache.version("Service", ("team", "qwen"), "qwen") == "6"


async def test_nothing_is_decided_on_between_two_lists_of_a_relist() -> None:
    cache, metrics = Cache(), Metrics()
    both = queues(lambda: 0.0)
    waiting: list[int] = []

    class Looking(Lists):
        async def list(self, kind: str, namespace: str | None, selector: str, _: object) -> AsyncIterator[JSON]:
            waiting.append(len(both.objects))
            if kind == KIND:
                raise OSError("reset")
            async for item in super().list(kind, namespace, selector, _):
                yield item

    client: Any = Looking(Service=[deployment("5")], Deployment=[deployment("6")])
    with pytest.raises(OSError, match="reset"):
        await Relist(client, cache, both, [None], metrics).run()
    assert set(waiting) == {0}
    assert len(both.objects) == 1, "what was found is looked at, also if another kind could not be listed"


async def test_a_relist_without_news_repairs_nothing() -> None:
    cache, metrics = Cache(), Metrics()
    both = queues(lambda: 0.0)
    client: Any = Lists(Service=[deployment("5")])
    relist = Relist(client, cache, both, [None], metrics)
    assert await relist.run() == 1
    assert await relist.run() == 0


@pytest.mark.parametrize(
    ("kind", "namespace", "listed", "version", "goes"),
    [
        ("Deployment", None, set(), "5", True),
        ("Deployment", "team", {("other", "qwen")}, "6", True),
        ("Deployment", "team", {("team", "qwen"), ("team", "new")}, "9", False),
        ("Deployment", "team", set(), "4", False),
        ("Deployment", "other", set(), "9", False),
        ("Service", None, set(), "9", False),
    ],
)
def test_what_a_list_does_not_tell_of_any_more_has_vanished(
    kind: str, namespace: str | None, listed: set[tuple[str, str]], version: str, goes: bool
) -> None:
    cache = Cache()
    intake = Intake(cache, Metrics())
    intake.update({**deployment("5"), "kind": "Deployment"})
    assert intake.vanish(kind, namespace, listed, version) == ([("team", "qwen")] if goes else [])
    assert bool(list(cache.entries("Deployment"))) is not goes
