"""The looks at engines that serve: a stub of the engine on loopback, as the real one needs a GPU."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from llm_operator.api.finding import Finding
from llm_operator.api.resource import LLMDeployment
from llm_operator.kube.vital_signs import CLOSED_PACES, PACE_SECONDS, PATIENCE, Paces, VitalSigns
from llm_operator.reconcile.health import SILENT_SECONDS, health_of
from llm_operator.reconcile.observed import Observed
from tests.support.build import pod, resource
from tests.support.sources import wanted
from tests.unit.kube.test_measurements import KEY, StubEngine, engine
from tests.unit.reconcile.test_health import VLLM
from tests.waiting import until

__all__ = ["engine"]
OF = resource()


class Clock:
    """A clock that goes when somebody waits."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def serving(of: Any = OF, **fields: Any) -> Observed:
    given = {"ready": True, "running": True, "pod_ip": "127.0.0.1", "started_at": "2026-01-01T00:00:00Z", **fields}
    return Observed(pods=(pod(of, **given),))


def look(signs: VitalSigns, observed: Observed, of: LLMDeployment = OF, seconds: float = SILENT_SECONDS) -> Finding:
    """One look of the reconciler: what is told, and what is followed from then on."""
    found = health_of(of, observed.pods, signs.known(KEY), seconds)
    signs.follow(KEY, wanted(of, observed))
    return found


def metrics(_: web.Request) -> web.Response:
    return web.Response(text=VLLM)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()

    async def pause(_: VitalSigns, seconds: float) -> None:
        await asyncio.sleep(0.001)
        found.now += min(seconds, 1.0)

    monkeypatch.setattr(VitalSigns, "_pause", pause)
    return found


async def test_how_long_it_may_be_silent_is_a_setting(engine: StubEngine, clock: Clock) -> None:
    engine.answers["/metrics"] = metrics
    changed: list[Any] = []
    signs = VitalSigns(changed.append, clock, Paces(look_seconds=2.0, silent_seconds=20.0))
    look(signs, serving())
    await until(lambda: bool(changed))
    assert look(signs, serving(), seconds=20.0).reason == "EnginesWork"
    begin, told = clock.now, len(changed)
    await until(lambda: len(changed) > told)
    assert look(signs, serving(), seconds=20.0).reason == "EngineSilent"
    assert clock.now - begin < SILENT_SECONDS


async def test_a_silent_engine_is_told_and_asked_once_in_half_a_minute(engine: StubEngine, clock: Clock) -> None:
    engine.answers["/metrics"] = metrics
    changed: list[Any] = []
    signs = VitalSigns(changed.append, clock)
    assert look(signs, serving()).reason == "NotSeenYet"
    await until(lambda: bool(changed))
    assert look(signs, serving()).reason == "EnginesWork"
    begin, asked = clock.now, len(engine.asked)
    await until(lambda: len(changed) == 2)
    assert look(signs, serving()).reason == "EngineSilent"
    assert clock.now - begin >= SILENT_SECONDS - PACE_SECONDS
    assert len(engine.asked) - asked <= (clock.now - begin) / PACE_SECONDS + 1
    assert {request.path for request in engine.asked} == {"/metrics"}


async def test_closed_metrics_are_told_and_asked_rarely(engine: StubEngine, clock: Clock) -> None:
    changed: list[Any] = []
    signs = VitalSigns(changed.append, clock)
    look(signs, serving())
    await until(lambda: bool(changed))
    found = look(signs, serving())
    assert (found.status, found.reason) == ("Unknown", "MetricsClosed")
    assert len(engine.asked) == PATIENCE
    begin = clock.now
    await until(lambda: len(engine.asked) == PATIENCE + 1)
    assert clock.now - begin >= PACE_SECONDS * (CLOSED_PACES - 1)


async def test_metrics_behind_a_key_are_never_asked_for(engine: StubEngine, clock: Clock) -> None:
    of = resource(engine={"type": "LMDeploy", "apiKey": {"name": "key", "key": "token"}})
    signs = VitalSigns(lambda _: None, clock)
    found = look(signs, serving(of), of)
    assert found.reason == "MetricsClosed"
    assert "API key" in found.message
    await asyncio.sleep(0.05)
    assert engine.asked == []


async def test_another_start_of_the_container_is_another_engine(engine: StubEngine, clock: Clock) -> None:
    engine.answers["/metrics"] = metrics
    changed: list[Any] = []
    signs = VitalSigns(changed.append, clock)
    look(signs, serving())
    await until(lambda: bool(changed))
    assert look(signs, serving(started_at="2026-01-02T00:00:00Z", ready=False)).reason == "NoReadyReplica"
    assert look(signs, serving(started_at="2026-01-02T00:00:00Z")).reason == "NotSeenYet"
    signs.forget(KEY)
    assert look(signs, Observed()).reason == "NoReadyReplica"
