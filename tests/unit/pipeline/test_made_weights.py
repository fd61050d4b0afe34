"""Weights that are made of others: quantized after the fetch, or converted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llm_operator.engines import KVAllocation
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.rendered import prepared_of
from llm_operator.reconcile.situation import Situation
from llm_operator.reconcile.status import status_of
from tests.support.build import NOW, once_written, plan, resource
from tests.support.model_jobs import (
    CLAIM,
    COMMIT,
    CONFIG,
    DIRECTORY,
    HUB,
    TOOLS,
    cached,
    done,
    fetched,
    packed,
    quantized,
    seen,
    stages,
)
from tests.unit.pipeline.decided import AWQ, conditions, container, kinds

##### Quantizing


def test_weights_are_quantized_after_the_fetch_and_served_as_awq() -> None:
    of = cached(weightQuantization=AWQ)
    fetch, quantize = stages(of)["fetch"], stages(of)["quantize"]
    assert kinds(decide(of, seen(), plan(of), TOOLS)) == [("Job", fetch.job_name)]
    first = seen(done(fetch, fetched()))
    outcome = replace(plan(of), quantization_memory_bytes=20 << 30)
    decision = decide(of, first, outcome, TOOLS)
    assert kinds(decision) == [("Job", quantize.job_name)]
    tool = decision.applies[0].body["spec"]["template"]["spec"]["containers"][0]
    assert tool["image"] == "lmdeploy:1"
    assert tool["resources"] == {
        "requests": {"memory": "20Gi", "nvidia.com/gpu": "1"},
        "limits": {"nvidia.com/gpu": "1"},
    }
    both = seen(done(fetch, fetched()), done(quantize, quantized()))
    served = decide(of, both, plan(of), TOOLS)
    prepared = prepared_of(served.template)
    assert prepared is not None
    assert (prepared.directory, prepared.format, prepared.revision) == (f"{DIRECTORY}--awq", "AWQ", COMMIT)
    assert conditions(of, both)["WeightsQuantized"] == ("True", "Quantized")


def test_lmdeploy_is_told_the_format_of_quantized_weights() -> None:
    of = cached(weightQuantization=AWQ, engine={"type": "LMDeploy"})
    both = seen(done(stages(of)["fetch"], fetched()), done(stages(of)["quantize"], quantized()))
    arguments = container(decide(of, both, plan(of), TOOLS))["args"]
    assert arguments[arguments.index("--model-format") + 1] == "awq"


def test_a_recipe_that_the_quantizer_refuses_asks_for_no_gpu() -> None:
    of = cached(weightQuantization=AWQ)
    outcome = replace(plan(of), quantization_problems=("hidden size 100 is not a multiple of 128",))
    observed = seen(done(stages(of)["fetch"], fetched()))
    assert decide(of, observed, outcome, TOOLS).applies == ()
    assert conditions(of, observed, outcome)["WeightsQuantized"] == ("False", "RecipeRefused")


def test_status_tells_quality_also_when_the_jobs_are_gone() -> None:
    of = cached(weightQuantization=AWQ)
    both = seen(done(stages(of)["fetch"], fetched()), done(stages(of)["quantize"], quantized()))
    first = decide(of, both, plan(of), TOOLS)
    later = once_written(first.applies)
    status = status_of(Situation(of, later, decide(of, later, plan(of), TOOLS), plan(of)), NOW)
    assert status.quantization is not None
    assert (status.quantization.perplexity_quantized, status.quantization.agreement_percent) == ("8.300", 97)
    assert status.cache is not None
    assert status.cache.directory == f"{DIRECTORY}--awq"
    assert {entry.type for entry in status.conditions} >= {"ModelCached", "WeightsQuantized"}


@pytest.mark.parametrize(
    ("quality", "said"),
    [
        ({"perplexityIncreasePercent": "9.1", "exceeded": True}, "rose by 9.1 %"),
        ({"error": "the evaluation ended early"}, "could not be measured"),
    ],
)
def test_doubtful_quality_is_served_and_told(quality: dict[str, Any], said: str) -> None:
    of = cached(weightQuantization=AWQ)
    told = quantized(quality=quality)
    both = seen(done(stages(of)["fetch"], fetched()), done(stages(of)["quantize"], told))
    decision = decide(of, both, plan(of), TOOLS)
    status = status_of(Situation(of, both, decision, plan(of)), NOW)
    found = next(entry for entry in status.conditions if entry.type == "WeightsQuantized")
    assert (found.status, found.reason) == ("True", "QualityDoubtful")
    assert said in found.message
    assert status.quantization is not None
    assert said in (status.quantization.warning or "")


def test_a_model_on_a_claim_is_quantized_into_the_cache() -> None:
    of = resource(
        model={"persistentVolumeClaim": {"claimName": "original", "path": "a/b"}},
        cache={"claimName": "models"},
        weightQuantization=AWQ,
    )
    looked = done(stages(of)["inspect"], {"ok": True, "directory": "a/b", "config": packed(CONFIG)})
    observed = seen(looked, models=CLAIM, original=replace(CLAIM, name="original"))
    decision = decide(of, observed, plan(of), TOOLS)
    assert kinds(decision) == [("Job", stages(of)["quantize"].job_name)]
    spec = decision.applies[0].body["spec"]["template"]["spec"]
    claims = {one["name"]: one["persistentVolumeClaim"] for one in spec["volumes"] if "persistentVolumeClaim" in one}
    assert claims["source"] == {"claimName": "original", "readOnly": True}
    words = spec["containers"][0]["args"]
    assert words[words.index("--root") + 1] == "/source"
    assert words[words.index("--model") + 1] == "a/b"
    assert words[words.index("--output") + 1].startswith("models/claim--original/")


##### Converting


def test_old_lmdeploy_converts_and_loads_the_workspace() -> None:
    engine = {"type": "LMDeploy", "version": "0.9.2.post1", "conversion": "TurboMind"}
    of = cached(engine=engine, model={**HUB, "trustRemoteCode": True}, parallelism={"tensor": 2})
    fetch, convert = stages(of)["fetch"], stages(of)["convert"]
    decision = decide(of, seen(done(fetch, fetched())), replace(plan(of), kv=KVAllocation()), TOOLS)
    assert kinds(decision) == [("Job", convert.job_name)]
    words = decision.applies[0].body["spec"]["template"]["spec"]["containers"][0]["args"]
    assert words[words.index("--tensor") + 1] == "2"
    result = {"ok": True, "directory": f"{DIRECTORY}--turbomind-tp2", "bytes": 1}
    both = seen(done(fetch, fetched()), done(convert, result))
    prepared = prepared_of(decide(of, both, plan(of), TOOLS).template)
    assert prepared is not None
    assert prepared.directory == result["directory"]


def test_new_lmdeploy_refuses_a_conversion_with_the_reason() -> None:
    of = cached(engine={"type": "LMDeploy", "conversion": "TurboMind"})
    refusals = decide(of, seen(), plan(of), TOOLS).refusals
    assert [refusal.reason for refusal in refusals] == ["ConversionUnsupported"]
    assert "0.10.0" in refusals[0].message


def test_names_of_jobs_are_short_and_distinct() -> None:
    of = cached(weightQuantization=AWQ)
    names = [artifact.job_name for artifact in artifacts_of(of)]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 52 for name in names)
