"""The reader of events, over a client that answers as the API server does: what is asked about, and how often."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from llm_operator.kube import object_events
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.object_events import FAILED, FORBIDDEN, ObjectEvents
from llm_operator.live.heard import Heard
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.wants import Subject
from tests.support.build import pod, resource
from tests.support.model_jobs import CLAIM, cached, job, stages
from tests.support.sources import wanted, wants
from tests.waiting import until

OF = resource()
KEY, OTHER = ("team", "demo"), ("team", "other")
POD = Subject("Pod", "demo-1", "pod-1")
MISSING = 'MountVolume.SetUp failed for volume "a" : configmap "a" not found'


class Api:
    def __init__(self) -> None:
        self.items: list[Any] = [{"reason": "FailedMount", "message": MISSING}]
        self.error: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []

    async def list_events(self, *given: Any) -> list[Any]:
        self.asked.append(given)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.items


class World:
    def __init__(self) -> None:
        self.api, self.changed, self.now = Api(), list[tuple[str, str]](), 1000.0
        self.events = ObjectEvents(cast("ApiClient", self.api), self.changed.append, lambda: self.now)

    def waits(self, key: tuple[str, str] = KEY, *subjects: Subject) -> None:
        self.events.follow(key, wants(OF, events=subjects or (POD,)))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAIT_SECONDS", "AGAIN_SECONDS", "FORBIDDEN_SECONDS"):
        monkeypatch.setattr(object_events, name, 0.001)
    monkeypatch.setattr(object_events, "MOST_PER_SECOND", 1e6)


@pytest.mark.usefixtures("quick")
async def test_what_is_said_is_told_once_to_all_who_wait() -> None:
    world = World()
    world.waits()
    world.waits(OTHER)
    await until(lambda: len(world.api.asked) > 5)
    assert sorted(world.changed) == [KEY, OTHER], "the same words are no news"
    assert set(world.api.asked) == {("team", "pod-1", object_events.MOST_EVENTS)}
    for key in (KEY, OTHER):
        assert [word.message for word in world.events.known(key)[POD].words] == [MISSING]
    world.events.forget(OTHER)
    assert world.events.known(OTHER) == {}
    assert world.events.known(KEY) != {}
    world.events.follow(KEY, wants(OF))
    asked = len(world.api.asked)
    await asyncio.sleep(0.02)
    assert len(world.api.asked) <= asked + 1, "nobody reads on"
    assert world.events.known(KEY) == {}


async def test_nothing_is_read_in_the_first_seconds() -> None:
    world = World()
    world.waits()
    await asyncio.sleep(0.02)
    assert world.api.asked == []
    world.events.forget(KEY)


@pytest.mark.usefixtures("quick")
async def test_other_words_for_the_same_reason_are_told_seldom() -> None:
    world = World()
    world.waits()
    await until(lambda: len(world.changed) == 1)
    world.api.items = [{"reason": "FailedMount", "message": "attempt 2"}]
    asked = len(world.api.asked)
    await until(lambda: len(world.api.asked) > asked + 3)
    assert len(world.changed) == 1
    world.now += object_events.REWORDED_SECONDS
    await until(lambda: len(world.changed) == 2)
    world.api.items = [{"reason": "FailedAttachVolume", "message": "attempt 3"}]
    await until(lambda: len(world.changed) == 3)
    world.events.forget(KEY)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("error", "unseen"),
    [
        (ApiError(403, "Forbidden", "events is forbidden"), FORBIDDEN),
        (ApiError(502, "Unreadable", "too long"), FAILED),
        (TimeoutError(), FAILED),
    ],
)
async def test_what_is_not_seen_is_said_once(error: Exception, unseen: str) -> None:
    world = World()
    world.api.error = error
    world.waits()
    await until(lambda: len(world.api.asked) > 3)
    assert world.events.known(KEY) == {POD: Heard(unseen=unseen)}
    assert world.changed == [KEY]
    world.api.error = None
    await until(lambda: len(world.changed) == 2)
    # A hiccup takes nothing back; a right that is taken away does, since nobody looks any longer.
    world.api.error = error
    asked = len(world.api.asked)
    await until(lambda: len(world.api.asked) > asked + 3)
    assert bool(world.events.known(KEY)[POD].words) == (unseen == FAILED)
    world.events.forget(KEY)


##### What is asked about


UNBOUND = replace(CLAIM, bound=False)
CACHED = cached()
JOB = job(stages(CACHED)["fetch"])


def asked_of(observed: Observed) -> list[str]:
    return [subject.kind for subject in wanted(OF, observed).events]


@pytest.mark.parametrize(
    ("observed", "kinds"),
    [
        (Observed(pods=(pod(OF, awaits="Start"),)), ["Pod"]),
        (Observed(pods=(pod(OF, awaits="Start", waiting_reason="ContainerCreating"),)), ["Pod"]),
        (Observed(chat_pods=(pod(OF, awaits="Start"),)), ["Pod"]),
        (Observed(pods=(pod(OF, awaits="Node"),)), ["Pod"]),
        (Observed(jobs={JOB.name: replace(JOB, pods=(pod(OF, awaits="Start"),))}), ["Pod"]),
        (Observed(jobs={JOB.name: JOB}), ["Job"]),
        (Observed(claims={"models": UNBOUND, "other": None}), ["PersistentVolumeClaim"]),
        # What says for what it waits, or does not wait, is not asked about.
        (Observed(pods=(pod(OF, awaits="Node", unschedulable="no node"),)), []),
        (Observed(pods=(pod(OF, awaits="Node", gated="a queue"),)), []),
        (Observed(pods=(pod(OF, awaits="Start", waiting_reason="ImagePullBackOff"),)), []),
        (Observed(pods=(pod(OF, running=True), pod(OF, ready=True, running=True), pod(OF, phase="Failed"))), []),
        (Observed(claims={"models": CLAIM, "old": replace(UNBOUND, deleting=True)}), []),
        (Observed(claims={"unreadable": replace(UNBOUND, uid="")}), []),
        (Observed(jobs={JOB.name: replace(JOB, phase="Complete")}), []),
        (Observed(jobs={JOB.name: replace(JOB, suspended=True)}), []),
    ],
)
def test_only_what_waits_without_a_word_is_asked_about(observed: Observed, kinds: list[str]) -> None:
    assert asked_of(observed) == kinds


def test_many_pods_are_a_few_questions() -> None:
    many = tuple(pod(OF, awaits="Start", name=f"demo-{number}", uid=f"pod-{number}") for number in range(64))
    assert len(asked_of(Observed(pods=many))) <= 6
