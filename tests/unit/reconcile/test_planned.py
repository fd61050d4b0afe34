"""From a spec to what the planner is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_operator.api.spec import GpuSpec
from llm_operator.engines import KVAllocation
from llm_operator.models import expected_bytes, parse_config
from llm_operator.planning import GpuFacts, PlanRequest, WeightQuantization, gpu_by_name, plan, quantization_needs
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.planned import (
    GPUS_PER_NODE,
    gpu_given,
    outcome_of,
    request_from_spec,
    unknown_outcome,
    with_quantization,
)
from tests.support.build import resource

CONFIGS = Path(__file__).parents[1] / "models" / "configs"
MODEL = {"huggingFace": {"repository": "org/model"}}
SHAPE = parse_config(json.loads((CONFIGS / "llama-3.1-8b.json").read_text()))


def request(engine: str, *words: str, **spec: Any) -> PlanRequest:
    of = resource(engine={"type": engine, "extraArgs": list(words)}, **spec)
    return request_from_spec(of.spec, SHAPE, gpu_by_name("NVIDIA-RTX-A6000"))


@pytest.mark.parametrize(
    ("engine", "words", "tokens"),
    [
        ("VLLM", [], None),
        ("VLLM", ["--max-num-batched-tokens", "512"], 512),
        ("VLLM", ["--max-num-batched-tokens=4K"], 4096),
        ("VLLM", ["--max-num-batched-tokens", "0"], None),
        ("VLLM", ["--disable-chunked-prefill"], 131_072),
        ("VLLM", ["--disable-chunked-prefill", "--max-num-batched-tokens", "512"], 512),
        ("LMDeploy", ["--max-prefill-token-num", "4096"], 4096),
        ("LMDeploy", ["--max-num-batched-tokens", "4096"], None),
    ],
)
def test_prefill_tokens_are_what_the_engine_will_have(engine: str, words: list[str], tokens: int | None) -> None:
    assert request(engine, *words).max_batched_tokens == tokens


def test_without_chunked_prefill_the_context_counts() -> None:
    assert request("VLLM", "--disable-chunked-prefill", contextLength=8192).max_batched_tokens == 8192
    assert request("VLLM", "--disable-chunked-prefill", contextLength=1024).max_batched_tokens == 2048, "the default"


def test_a_workspace_and_its_server_are_for_the_same_gpus() -> None:
    """The Job that converts takes parallelism.tensor or 1, so the plan must not choose another number."""

    def asked(**more: Any) -> int | None:
        engine = {"type": "LMDeploy", "version": "0.9.2.post1", "conversion": "TurboMind"}
        model = {**MODEL, "trustRemoteCode": True}
        of = resource(engine=engine, model=model, cache={"claimName": "models"}, **more)
        return request_from_spec(of.spec, SHAPE, gpu_by_name("NVIDIA-RTX-A6000")).tensor

    assert asked() == 1
    assert asked(parallelism={"tensor": 2}) == 2
    assert request("LMDeploy").tensor is None, "the plan chooses"


def test_a_plan_counts_on_no_more_sequences_than_tokens() -> None:
    settings = plan(request("VLLM", "--max-num-batched-tokens", "100")).plan
    assert settings is not None
    assert settings.max_concurrent_requests <= 100
    assert settings.settings.max_sequences is None, "vLLM lowers its default to the tokens by itself"
    short = plan(request("VLLM", "--max-num-batched-tokens", "100", contextLength=16)).plan
    assert short is not None
    assert short.max_concurrent_requests == 100


@pytest.mark.parametrize(
    ("recipe", "planned"),
    [
        ({}, WeightQuantization()),
        ({"groupSize": 64}, WeightQuantization(group_size=64)),
        ({"calibration": {"dataset": "None"}}, WeightQuantization(samples=0)),
        (
            {"calibration": {"samples": 16, "sequenceLength": 512, "batchSize": 2, "searchScale": True}},
            WeightQuantization(samples=16, sequence_length=512, batch_size=2, search_scale=True),
        ),
    ],
)
def test_the_recipe_of_the_weights_is_planned_for(recipe: dict[str, Any], planned: WeightQuantization) -> None:
    found = request("VLLM", model=MODEL, cache={"size": "100Gi"}, weightQuantization=recipe)
    assert found.weight_quantization == planned
    assert request("VLLM").weight_quantization is None


def asked(**spec: Any) -> tuple[tuple[str, ...], int | None]:
    """What the reconciler is told of a quantization on one A6000."""
    of = resource(model=MODEL, cache={"size": "100Gi"}, **spec).spec
    outcome = with_quantization(unknown_outcome(of, "Any", ""), of, SHAPE, gpu_by_name("NVIDIA-RTX-A6000"))
    return outcome.quantization_problems, outcome.quantization_memory_bytes


def test_the_reconciler_hears_what_quantizing_takes() -> None:
    assert asked() == ((), None)
    problems, memory = asked(weightQuantization={})
    assert problems == ()
    assert memory == quantization_needs(SHAPE, WeightQuantization()).host_bytes


def test_a_gpu_that_is_likely_too_small_is_only_tried_where_the_policy_says_so() -> None:
    large = {"calibration": {"samples": 1024}}
    (problem,), _ = asked(weightQuantization=large)
    assert "256 samples of 2048 tokens would fit" in problem
    assert asked(weightQuantization=large, planPolicy="Warn")[0] == ()


##### What comes back


def outcome(engine: str, gpu: GpuFacts | None = None, **spec: Any) -> PlanOutcome:
    """The plan of Llama-3.1-8B on one A6000, or on another GPU."""
    of = resource(engine={"type": engine}, **spec).spec
    given = request_from_spec(of, SHAPE, gpu or gpu_by_name("NVIDIA-RTX-A6000"))
    return outcome_of(of, given, plan(given), "abc")


def test_what_fits_is_told_in_numbers_and_rendered_with_them() -> None:
    found = outcome("VLLM")
    assert (found.verdict, found.reason, found.tensor, found.architecture) == ("Fits", "Fits", 1, "LlamaForCausalLM")
    assert found.status is not None
    assert found.model is not None
    tokens, requests = found.status.kv_tokens, found.status.max_concurrent_requests
    words = f"14.99 GiB of weights on each GPU and room for {tokens:,} KV tokens per replica at tensor parallelism 1: "
    assert found.message.endswith(f"{words}{requests:,} request of {found.context_length:,} tokens at a time")
    assert (found.model.architecture, found.model.parameters, found.model.resolved_revision) == (
        "LlamaForCausalLM", SHAPE.parameters, "abc",
    )  # fmt: skip
    assert found.model.weight_bytes == expected_bytes(SHAPE)
    assert found.kv.kv_cache_memory_bytes is not None
    assert found.kv.ratio_percent is None


def test_what_the_spec_says_stands_beside_the_plan() -> None:
    given = outcome("VLLM", kvCache={"memory": "4Gi"}, contextLength=4096)
    assert (given.verdict, given.context_length, given.kv.kv_cache_memory_bytes) == ("Fits", 4096, None)
    share = outcome("LMDeploy", kvCache={"memoryPercent": 50})
    assert (share.verdict, share.kv.ratio_percent) == ("Fits", 50)
    assert share.context_length is None or share.context_length <= SHAPE.context_length


def test_what_does_not_fit_has_numbers_and_offers() -> None:
    small = GpuFacts("small", 12 << 30, (8, 6), 1)
    found = outcome("VLLM", small)
    assert (found.verdict, found.reason) == ("DoesNotFit", "DoesNotFit")
    assert found.status is not None
    assert "GiB of weights and" not in found.message
    assert "; what fits instead: " in found.message
    assert "{'" not in found.message, "Python's form of a mapping is no YAML that people write"
    assert "weightQuantization" in found.message


def test_what_the_engine_cannot_do_at_all_has_no_numbers() -> None:
    old = GpuFacts("old", 48 << 30, (7, 0), 1)
    found = outcome("VLLM", old, kvCache={"quantization": "FP8"})
    assert (found.verdict, found.reason) == ("DoesNotFit", "DoesNotFit")
    assert found.message
    assert found.model is not None


@pytest.mark.parametrize(
    ("engine", "percent", "ratio"), [("VLLM", 80, None), ("LMDeploy", 80, 80), ("LMDeploy", None, None)]
)
def test_without_a_plan_the_spec_is_passed_on(engine: str, percent: int | None, ratio: int | None) -> None:
    of = resource(engine={"type": engine}, kvCache={"memoryPercent": percent} if percent else {}).spec
    found = unknown_outcome(of, "ModelUnknown", "why", architecture="A")
    assert found == PlanOutcome(
        "Unknown", "ModelUnknown", "why", 1, None, KVAllocation(ratio_percent=ratio), architecture="A"
    )
    more = resource(engine={"type": engine}, parallelism={"tensor": 4}, contextLength=1024).spec
    waits = unknown_outcome(more, "GatheringFacts", "", pending=True)
    assert (waits.verdict, waits.tensor, waits.context_length) == ("Pending", 4, 1024)


@pytest.mark.parametrize(
    ("gpu", "facts"),
    [
        (GpuSpec(product="NVIDIA-L4"), None),
        (GpuSpec(memory="40Gi"), ("GPU of 40Gi (spec.gpu.memory)", None)),
        (GpuSpec(memory="40Gi", product="NVIDIA-L40S"), ("NVIDIA-L40S", (8, 9))),
        (GpuSpec(memory="40Gi", product="Unheard-Of"), ("Unheard-Of", None)),
    ],
)
def test_a_gpu_that_the_spec_describes(gpu: GpuSpec, facts: tuple[str, tuple[int, int] | None] | None) -> None:
    found = gpu_given(gpu)
    if facts is None:
        assert found is None
    else:
        assert found == GpuFacts(facts[0], 40 << 30, facts[1], GPUS_PER_NODE, source="spec.gpu.memory")
    assert GPUS_PER_NODE == 8


def test_words_that_change_the_plan_reach_it() -> None:
    plain = request("VLLM")
    assert (plain.enforce_eager, plain.hybrid_cache) == (False, True)
    eager = request("VLLM", "--enforce-eager", "--disable-hybrid-kv-cache-manager")
    assert (eager.enforce_eager, eager.hybrid_cache) == (True, False)
