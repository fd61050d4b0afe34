"""Holding objects while facts cannot be had: for a bounded time that the message names, under Enforce only."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from llm_operator.api.resource import LLMDeployment
from llm_operator.facts import Fact, Known
from llm_operator.kube import model_facts
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.hub import unreachable
from llm_operator.kube.keys import Key
from llm_operator.kube.operator_process import Options
from llm_operator.kube.plan_source import PlanSource
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.models import parse_config_text
from llm_operator.pipeline.inspection import Looked
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.model_facts import ModelFacts, model_of
from llm_operator.reconcile.plan_facts import planned
from tests.support.objects import llm
from tests.support.sources import wants

CONFIG = Path(__file__).parents[1] / "models" / "configs" / "llama-3.1-8b.json"
KNOWN = Known(ModelFacts(parse_config_text(CONFIG.read_bytes())))
KEY = ("team", "a")


class FakeQueue:
    """Counts what is added."""

    def __init__(self) -> None:
        self.added: list[object] = []
        self.later: list[float] = []

    def add(self, key: object, because: object = None) -> None:
        self.added.append(key)

    def add_after(self, key: object, seconds: float) -> None:
        self.later.append(seconds)


class FakeNodes:
    """Lists no node, or fails."""

    def __init__(self) -> None:
        self.fails = False

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> Any:
        if self.fails:
            raise ApiError(500, "Internal", "etcdserver: no leader")
        nodes: tuple[Any, ...] = ()
        for node in nodes:
            yield node


class Setting:
    """A planner with a hub that answers what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, inventory: bool = False) -> None:
        self.answer: Fact[ModelFacts] = unreachable("connection refused")
        self.time = 0.0
        self.queue, self.nodes = FakeQueue(), FakeNodes()
        monkeypatch.setattr(model_facts, "FIRST_RETRY_SECONDS", 0.02)
        monkeypatch.setattr(model_facts, "LAST_RETRY_SECONDS", 0.02)
        self.plans = PlanSource(
            cast("ApiClient", self.nodes),
            cast("WorkQueue[Key]", self.queue),
            Options(gpu_inventory=inventory, plan_wait_seconds=60.0),
            self.ask,
        )

    async def ask(self, repository: str, revision: str | None, *, first: bool) -> Fact[ModelFacts]:
        return self.answer

    def outcome(self, **spec: Any) -> PlanOutcome:
        return self.look(LLMDeployment.parse(llm("a", **spec)))

    def look(self, resource: LLMDeployment, looked: Looked = ("Done", None)) -> PlanOutcome:
        """One look of the reconciler."""
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.time)
        found = planned(resource, self.plans.known(KEY, resource), looked, now)
        self.plans.holds(KEY, found.hold)
        self.plans.follow(KEY, wants(resource, model=model_of(resource.spec)))
        self.request = found.request
        return found.outcome

    async def until(self, reason: str, **spec: Any) -> PlanOutcome:
        async with asyncio.timeout(5):
            # Facts come from beside the loop; each look may start the next attempt.
            while (found := self.outcome(**spec)).reason != reason:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found


async def test_a_look_whose_pod_cannot_start_yet_is_waited_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(monkeypatch)
    spec = {"model": {"persistentVolumeClaim": {"claimName": "models"}}, "gpu": {"memory": "80Gi"}}
    resource = LLMDeployment.parse(llm("a", **spec))
    held = setting.look(resource, ("Blocked", None))
    assert (held.verdict, held.reason) == ("Pending", "ModelNotInspected")
    assert "waits for it until 20" in held.message
    setting.time = 61.0
    assert setting.look(resource, ("Blocked", None)).verdict == "Unknown"
    # A Job that gave up is the end of it.
    setting.time = 0.0
    assert setting.look(resource, ("Done", None)).verdict == "Unknown"


async def test_enforce_waits_for_a_bounded_time_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(monkeypatch)
    gpu = {"gpu": {"memory": "80Gi"}}
    assert setting.outcome(**gpu).verdict == "Pending"
    held = await setting.until("HubUnreachable", **gpu)
    assert (held.verdict, held.for_now) == ("Pending", True)
    assert "huggingface.co cannot be reached: connection refused" in held.message
    assert "waits for it until 20" in held.message
    # The message and the end stay the same from look to look.
    setting.time = 59.0
    assert setting.outcome(**gpu) == held
    setting.time = 61.0
    served = setting.outcome(**gpu)
    assert (served.verdict, served.for_now, "until" in served.message) == ("Unknown", True, False)
    # Another spec waits anew; facts that arrive end it.
    assert setting.outcome(**gpu, contextLength=4096).verdict == "Pending"
    setting.answer = KNOWN
    assert (await setting.until("Fits", **gpu)).verdict == "Fits"
    assert KEY in setting.queue.added


async def test_warn_waits_for_nothing_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(monkeypatch)
    found = await setting.until("HubUnreachable", gpu={"memory": "80Gi"}, planPolicy="Warn")
    assert (found.verdict, found.for_now) == ("Unknown", True)


async def test_nodes_that_cannot_be_read_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(monkeypatch, inventory=True)
    setting.answer, setting.nodes.fails = KNOWN, True
    found = await setting.until("NodesUnreadable")
    assert (found.verdict, "etcdserver: no leader" in found.message) == ("Pending", True)
    setting.time = 61.0
    assert setting.outcome().verdict == "Unknown"


async def test_what_no_gpu_could_serve_is_refused_while_none_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(monkeypatch)
    setting.answer = KNOWN
    found = await setting.until("DoesNotFit", parallelism={"tensor": 3})
    assert (found.verdict, "tensor parallelism 3 does not divide the 32 attention heads" in found.message) == (
        "DoesNotFit",
        True,
    )
    assert (await setting.until("GPUUnknown", parallelism={"tensor": 16})).verdict == "Unknown"
    assert setting.outcome().reason == "GPUUnknown"
    assert "spec.gpu.memory, which replaces pods that run" in setting.outcome().message
