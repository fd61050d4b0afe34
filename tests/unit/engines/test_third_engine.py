"""An engine is a folder and a row: a fake third one is planned, rendered and judged by its row alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest

from llm_operator.api.model import EngineType
from llm_operator.api.resource import InvalidResource, LLMDeployment
from llm_operator.engines import check, known_versions
from llm_operator.engines.failures import diagnose
from llm_operator.engines.metric_names import engines
from llm_operator.engines.registry import ENGINES, UnknownEngineError, engine_of
from llm_operator.models import expected_bytes
from llm_operator.planning import GpuFacts, PlanInputError, PlanRequest, Verdict, plan
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.health import sample_of
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.planned import outcome_of, request_from_spec, unknown_outcome
from llm_operator.reconcile.starting import step
from tests.support.build import resource
from tests.support.fake_engine import BLOCK, BUFFERS, CONTEXT, NAME, FakeEngine, known
from tests.support.model_jobs import TOOLS
from tests.support.planning import GIB, card, shape

CARD = card(48, count=2)


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with known() as engine:
        yield engine


def asked(**more: Any) -> PlanRequest:
    return PlanRequest(shape("internlm2_5-7b-chat"), NAME, "1.2.0", CARD, **more)


def test_an_engine_without_a_row_is_planned_as_no_other() -> None:
    with pytest.raises(PlanInputError, match="engine 'FakeEngine' is not known; expected VLLM or LMDeploy"):
        plan(asked())
    with pytest.raises(UnknownEngineError):
        engine_of(NAME)


def test_an_engine_without_a_row_is_refused() -> None:
    with known():
        of = resource(engine={"type": NAME})
    (refusal,) = check(of.spec)
    assert (refusal.reason, refusal.field) == ("UnknownEngine", "spec.engine.type")


def test_the_api_and_the_table_have_the_same_engines() -> None:
    assert set(get_args(EngineType)) == set(ENGINES) == set(engines())


def test_the_fake_leaves_nothing_behind() -> None:
    with known():
        resource(engine={"type": NAME})
    with pytest.raises(InvalidResource):
        resource(engine={"type": NAME})
    assert NAME not in ENGINES


def test_it_is_planned_by_its_own_arithmetic(fake: FakeEngine) -> None:
    result = plan(asked())
    assert (result.verdict, result.plan is not None) == (Verdict.FITS, True)
    assert result.plan is not None
    weights = expected_bytes(asked().shape)
    assert result.plan.weight_bytes_per_gpu == pytest.approx(weights, rel=0.001)
    free = CARD.memory_bytes - result.plan.weight_bytes_per_gpu - CONTEXT
    percent = result.plan.memory_percent or 0
    assert result.plan.kv_tokens == free * percent // 100 // (result.plan.kv_bytes_per_token * BLOCK) * BLOCK
    assert [part.likely for part in result.plan.overheads] == [CONTEXT, BUFFERS]
    assert "fake blocks * fake tokens" in result.plan.explanation
    for name in ("vllm", "lmdeploy", "turbomind"):
        assert name not in result.plan.explanation.lower()


def test_it_refuses_and_others_take_over(fake: FakeEngine) -> None:
    result = plan(replace(asked(), shape=shape("qwen2.5-7b-instruct-awq")))
    assert result.reasons == ("FakeEngine reads no quantized weights",)
    assert {offer.request.engine for offer in result.counter_offers} == {"VLLM", "LMDeploy"}


def test_it_takes_over_what_another_cannot_serve(fake: FakeEngine) -> None:
    old = GpuFacts("an old card", 48 * GIB, (6, 1), 2)
    result = plan(PlanRequest(shape("internlm2_5-7b-chat"), "VLLM", "0.33.0", old))
    assert {"engine.type": NAME, "engine.version": "1.2.0"} in [dict(offer.change) for offer in result.counter_offers]


def test_it_is_rendered(fake: FakeEngine) -> None:
    of = resource(engine={"type": NAME}, parallelism={"tensor": 2})
    request = request_from_spec(of.spec, shape("internlm2_5-7b-chat"), CARD)
    decision = decide(of, Observed(), outcome_of(of.spec, request, plan(request)))
    bodies = {apply.body["kind"]: apply.body for apply in decision.applies}
    pod = bodies["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "fake-engine:v1.2.0"
    assert container["command"] == ["fake-serve"]
    assert container["args"] == ["/models", "--ranks", "2", "--share", "80"]
    assert container["ports"] == [{"name": "http", "containerPort": 9999, "protocol": "TCP"}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/fake-health", "port": "http"}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert pod["metadata"]["labels"]["llm-operator.dev/engine-type"] == "fakeengine"
    assert bodies["Service"]["spec"]["ports"][0]["targetPort"] == "http"


def test_its_chat_page_says_what_it_is(fake: FakeEngine) -> None:
    of = resource(engine={"type": NAME}, contextLength=4096, webUI={})
    decision = decide(of, Observed(), unknown_outcome(of.spec, "GPUUnknown", "no GPU"), TOOLS)
    (page,) = [one.body for one in decision.applies if one.role == "chat" and one.body["kind"] == "Deployment"]
    (container,) = page["spec"]["template"]["spec"]["containers"]
    assert "--engine=Fake engine 1.2.0" in container["args"]
    assert "--context=4096" in container["args"]


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ({"version": "7.0.0"}, "UnknownEngineVersion"),
        ({"env": [{"name": "FAKE_KEY", "value": "x"}]}, "ConflictingVariable"),
    ],
)
def test_its_specs_are_judged(fake: FakeEngine, engine: dict[str, Any], reason: str) -> None:
    of: LLMDeployment = resource(engine={"type": NAME, **engine})
    assert [refusal.reason for refusal in check(of.spec)] == [reason]


def test_its_death_has_its_own_signature(fake: FakeEngine) -> None:
    assert diagnose(NAME, 1, None, "fake death of boredom").message.startswith("the fake died of boredom")
    assert diagnose("VLLM", 1, None, "fake death of boredom").reason == "EngineFailed"
    assert diagnose(NAME, 1, None, "RuntimeError: CUDA out of memory. Tried to allocate").reason == "GPUOutOfMemory"


def test_what_it_says_is_understood(fake: FakeEngine) -> None:
    assert known_versions(NAME) == ("1.0.0", "1.2.0")
    sample = sample_of(NAME, "fake:running 3\nfake:tokens_total 9\n", 0.0)
    assert sample is not None
    assert (sample.running, sample.tokens) == (3, 9)
    progress = step("pretending:  12%", None)
    assert progress is not None
    assert progress.summary == "Pretending 12 %"
