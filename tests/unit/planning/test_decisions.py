"""Verdicts: tensor parallelism, capabilities, counter-offers, bad requests, JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from llm_operator.models import parse_config
from llm_operator.planning import (
    KVQuantization,
    PlanInputError,
    PlanRequest,
    Verdict,
    WeightQuantization,
    compare,
    document,
    gpu_by_name,
    plan,
    plan_document,
    unknown,
)
from llm_operator.planning.parallel import accepted
from tests.support.engine_names import Backend, Engine
from tests.support.planning import ENGINES, GIB, card, config, request


@pytest.mark.parametrize(("engine", "backend"), ENGINES)
def test_qwq_takes_1_2_4_8_ranks_only(engine: Engine, backend: Backend) -> None:
    given = request("qwq-32b", engine, backend, card(80, 8))
    assert accepted(given, 16) == (1, 2, 4, 8)


@pytest.mark.parametrize(("engine", "backend"), ENGINES)
def test_ranks_that_divide_the_heads_but_not_the_kv_heads_are_refused(engine: Engine, backend: Backend) -> None:
    values = config("llama-3.1-8b") | {"num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 128}
    given = replace(request("llama-3.1-8b", engine, backend, card(80, 8)), shape=parse_config(values), tensor=3)
    result = plan(given)
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert "4 KV heads" in result.reasons[0]


def test_awq_groups_must_survive_the_split_in_vllm() -> None:
    # 29568 inputs are 231 groups of 128: two ranks would split one, as in the first AWQ files of this model.
    quantized = request("qwen2.5-72b-instruct", Engine.VLLM, gpu=card(80, 2), weight_quantization=WeightQuantization())
    assert accepted(quantized, 8) == (1,)
    assert accepted(replace(quantized, engine=Engine.LMDEPLOY, version="0.18.0"), 8) == (1, 2, 4, 8)


def test_a_vision_tower_does_not_count_as_heads() -> None:
    given = request("gemma-3-27b-it", Engine.VLLM, gpu=card(80, 8))
    assert given.shape.heads == 32
    assert accepted(given, 16) == (1, 2, 4, 8, 16)


def test_the_smallest_tensor_parallelism_that_fits_is_chosen() -> None:
    for gibibytes, expected in ((24, 4), (47, 2), (80, 1)):
        got = plan(request("qwq-32b", gpu=card(gibibytes, 8))).plan
        assert got is not None
        assert got.tensor == expected


def test_more_ranks_than_the_node_has_are_refused_and_say_so() -> None:
    result = plan(request("qwq-32b", gpu=card(47.5, 2), tensor=4))
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert "needs 4 GPUs on one node; there are 2" in result.reasons[0]
    assert {"parallelism.tensor": 2} in [dict(offer.change) for offer in result.counter_offers]


A6000 = gpu_by_name("NVIDIA-RTX-A6000", 2)
V100 = gpu_by_name("Tesla-V100-SXM2-32GB", 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (request(engine=Engine.VLLM, gpu=V100), "no code for Tesla-V100"),
        (
            request(engine=Engine.VLLM, gpu=gpu_by_name("Tesla-T4", 1), kv_quantization=KVQuantization.FP8),
            "FP8 KV cache needs compute capability 8.0",
        ),
        (
            request("gpt-oss-20b", Engine.VLLM, kv_quantization=KVQuantization.FP8),
            "FP8 KV cache needs compute capability 8.9",
        ),
        (request(backend=Backend.PYTORCH, kv_quantization=KVQuantization.FP8), "FP8 KV cache needs"),
        (request(kv_quantization=KVQuantization.FP8), "TurboMind takes no FP8 KV cache"),
        (request("llama-3.2-1b", kv_quantization=KVQuantization.INT4), "head_dim 128; this model has 64"),
        (request("mistral-7b-v0.3"), "TurboMind 0.18.0 does not support MistralForCausalLM"),
        (request("gemma-2-2b"), "does not support Gemma2ForCausalLM"),
        (request("deepseek-v2-lite", backend=Backend.PYTORCH, kv_quantization=KVQuantization.INT8), "quantizes no KV"),
        (request("deepseek-v2-lite", Engine.VLLM, kv_quantization=KVQuantization.INT8), "keeps a latent"),
        (request("qwen3-8b-fp8", backend=Backend.PYTORCH), "9.0 in LMDeploy's pytorch backend"),
        (request(engine=Engine.VLLM, context_length=100_000), "vLLM refuses contextLength 100,000"),
        (request("qwen2.5-7b-instruct-awq", weight_quantization=WeightQuantization()), "already quantized (awq)"),
        (request("gpt-oss-20b", weight_quantization=WeightQuantization()), "does not know GptOssForCausalLM"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_before_any_byte_is_counted(given: PlanRequest, message: str) -> None:
    result = plan(given)
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert any(message in reason for reason in result.reasons)
    assert result.plan is None


def test_a_v100_still_serves_with_lmdeploy() -> None:
    assert plan(request(gpu=V100)).verdict is Verdict.FITS
    offers = [dict(offer.change) for offer in plan(request(engine=Engine.VLLM, gpu=V100)).counter_offers]
    assert offers[0]["engine.type"] == "LMDeploy"


@pytest.mark.parametrize(("ranks", "percent", "reported"), [(1, 80, 4_928), (4, 85, 42_880)])
def test_glm_flash_on_v100_had_the_tokens_of_every_heads_keys_and_values(
    ranks: int, percent: int, reported: int
) -> None:
    """InternLM/lmdeploy, issues 4366 and 4367: what the kernels of 4-bit weights take there is not known."""
    kept = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
    body = config("glm-4.7-flash") | {"quantization_config": {**kept, "modules_to_not_convert": ["self_attn"]}}
    gpu = gpu_by_name("Tesla-V100-SXM2-32GB", ranks)
    asked = PlanRequest(
        shape=parse_config(body),
        engine=Engine.LMDEPLOY,
        version="0.12.1",
        gpu=gpu,
        tensor=ranks,
        memory_percent=percent,
    )
    then = plan(asked).plan
    now = plan(replace(asked, version="0.18.0")).plan
    assert then is not None
    assert now is not None
    assert 0.4 * reported < then.kv_tokens < 1.05 * reported
    assert now.kv_bytes_per_token == 47 * 576 * 2
    assert then.kv_bytes_per_token == 47 * 576 * 2 * 2 * 20 // ranks


def test_an_unknown_compute_capability_refuses_nothing() -> None:
    given = request(engine=Engine.VLLM, gpu=card(80, 1, None), kv_quantization=KVQuantization.FP8)
    assert plan(given).verdict is Verdict.FITS


def test_versions_before_0_14_of_lmdeploy_still_knew_mistral() -> None:
    assert plan(replace(request("mistral-7b-v0.3"), version="0.13.0")).verdict is Verdict.FITS


def test_a_context_that_does_not_fit_is_refused_with_the_one_that_does() -> None:
    given = request("qwen2.5-1.5b", gpu=card(7, 1), context_length=131_072)
    result = plan(given)
    assert result.verdict is Verdict.DOES_NOT_FIT
    changes = [dict(offer.change) for offer in result.counter_offers]
    contexts = [change["contextLength"] for change in changes if set(change) == {"contextLength"}]
    assert len(contexts) == 1
    assert isinstance(contexts[0], int)
    assert 2048 <= contexts[0] < 131_072
    assert contexts[0] % 1024 == 0
    assert any("kvCache.quantization" in change for change in changes)


def test_an_absent_context_is_the_models_cut_to_what_fits() -> None:
    result = plan(request("llama-3.1-8b", Engine.VLLM, gpu=card(24, 1, (8, 9))))
    assert result.verdict is Verdict.FITS
    assert result.plan is not None
    assert 2048 <= result.plan.context_length < 131_072
    assert any("cut to" in reason for reason in result.reasons)


def test_a_share_that_leaves_the_runtime_no_room_is_refused_with_the_one_that_does() -> None:
    result = plan(request("internlm2_5-7b-chat", gpu=card(24, 1), memory_percent=98))
    assert result.verdict is Verdict.DOES_NOT_FIT
    (change,) = [
        dict(offer.change) for offer in result.counter_offers if set(offer.change) == {"kvCache.memoryPercent"}
    ]
    assert isinstance(change["kvCache.memoryPercent"], int)
    assert change["kvCache.memoryPercent"] < 98


def test_the_memory_of_a_larger_gpu_is_the_least_that_fits() -> None:
    given = request("qwq-32b", gpu=card(24, 1))
    (offer,) = [offer for offer in plan(given).counter_offers if "gpu.memory" in offer.change]
    gibibytes = offer.plan.gpu_memory_bytes // GIB
    assert offer.change == {"gpu.memory": f"{gibibytes}Gi"}
    smaller = replace(given, gpu=replace(given.gpu, memory_bytes=(gibibytes - 1) * GIB))
    assert plan(smaller).verdict is Verdict.DOES_NOT_FIT


def test_one_percentage_means_the_same_for_both_engines() -> None:
    lmdeploy = plan(request(gpu=card(48), memory_percent=40)).plan
    vllm = plan(request(engine=Engine.VLLM, gpu=card(48), memory_percent=40)).plan
    assert lmdeploy is not None
    assert vllm is not None
    assert lmdeploy.settings.ratio_percent == 40
    assert lmdeploy.settings.kv_cache_memory_bytes is None
    assert vllm.settings.ratio_percent is None
    assert vllm.settings.kv_cache_memory_bytes == vllm.kv_bytes_per_gpu
    assert vllm.kv_bytes_per_gpu == pytest.approx(lmdeploy.kv_bytes_per_gpu, rel=0.02)
    assert vllm.kv_tokens == pytest.approx(lmdeploy.kv_tokens, rel=0.02)


def test_kv_memory_in_bytes_is_taken_as_it_is() -> None:
    got = plan(request(engine=Engine.VLLM, gpu=card(48), kv_memory_bytes=20 * GIB)).plan
    assert got is not None
    assert (got.kv_tokens, got.kv_tokens_low, got.memory_percent) == (163_840, 163_840, None)
    assert got.settings.kv_cache_memory_bytes == 20 * GIB
    assert plan(request(engine=Engine.VLLM, gpu=card(48), kv_memory_bytes=40 * GIB)).verdict is Verdict.DOES_NOT_FIT


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"memory_percent": 0}, "memoryPercent is 0; expected 1 to 99"),
        ({"memory_percent": 100}, "memoryPercent is 100"),
        ({"tensor": -1}, "tensor is -1"),
        ({"context_length": 0}, "contextLength is 0"),
        ({"gpu": card(0)}, "GPU memory is 0 bytes; expected 0.25 GiB"),
        ({"gpu": card(1 << 40)}, "GPU memory is 1,099,511"),
        ({"gpu": card(24, 0)}, "GPU count is 0"),
        ({"kv_memory_bytes": 1 << 30}, "is vLLM's"),
        ({"engine": Engine.VLLM, "gpu_memory_utilization": float("nan")}, "utilization is nan"),
        ({"engine": Engine.VLLM, "kv_memory_bytes": 1 << 30, "memory_percent": 40}, "exclude each other"),
    ],
)
def test_a_request_without_sense_is_an_error(more: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanInputError, match=message):
        plan(request(**more))


def test_every_mistake_of_a_request_is_told_at_once() -> None:
    with pytest.raises(PlanInputError, match=r"memoryPercent is 0.*contextLength is -5.*version 'newest'"):
        plan(replace(request(memory_percent=0, context_length=-5), version="newest"))


def test_json_has_exactly_the_documented_fields() -> None:
    results = {"good": plan(request()), "bad": plan(request("qwq-32b", gpu=card(24))), "odd": unknown("no config")}
    items = json.loads(json.dumps(document(results)))["items"]
    assert [item["name"] for item in items] == ["good", "bad", "odd"]
    assert [item["verdict"] for item in items] == ["Fits", "DoesNotFit", "Unknown"]
    for item in items:
        assert set(item) == {"name", "verdict", "reasons", "plan", "counterOffers"}
    fields = {
        "tensor", "gpusPerReplica", "gpuMemoryBytes", "weightBytesPerGpu", "kvBytesPerToken", "kvTokens", "kvTokensLow",
        "maxConcurrentRequests", "contextLength", "explanation",
    }  # fmt: skip
    assert set(items[0]["plan"]) == fields
    assert all(isinstance(items[0]["plan"][name], int) for name in fields - {"explanation"})
    for offer in items[1]["counterOffers"]:
        assert set(offer) == {"change", "plan"}
        assert set(offer["plan"]) == fields
    assert items[2]["plan"] is None


def test_every_number_of_a_plan_is_explained_with_its_inputs() -> None:
    got = plan(request("qwq-32b")).plan
    assert got is not None
    numbers = plan_document(got)
    terms = {term.name: term for term in got.terms}
    for name in ("weightBytesPerGpu", "kvBytesPerToken", "kvTokens", "maxConcurrentRequests"):
        assert terms[name].value == numbers[name]
        assert terms[name].formula
        assert terms[name].inputs
    assert terms["freeBytes"].value == got.gpu_memory_bytes - got.weight_bytes_per_gpu - sum(
        part.likely for part in got.overheads if part.name in ("context and libraries", "NCCL")
    )
    assert all(part.likely <= part.high and part.source for part in got.overheads)
    assert len(got.explanation) < 8192


def test_comparison_covers_the_grid_and_marks_one() -> None:
    cells = compare(request("qwq-32b", gpu=card(47.5, 8)))
    assert {cell.tensor for cell in cells} == {1, 2, 4, 8}
    assert {cell.kv_quantization for cell in cells} == set(KVQuantization)
    assert {cell.weight_quantization is None for cell in cells} == {True, False}
    (best,) = [cell for cell in cells if cell.best]
    assert best.tensor == 1
    assert best.weight_quantization is not None


def test_vllm_is_told_the_batch_a_plan_counts_on_where_it_is_not_the_default() -> None:
    roomy = plan(request(engine=Engine.VLLM, gpu=gpu_by_name("NVIDIA-H200"))).plan
    assert roomy is not None
    assert (roomy.settings.max_sequences, roomy.settings.max_batched_tokens) == (None, None)
    tight = plan(request("qwq-32b", Engine.VLLM, gpu=gpu_by_name("NVIDIA-H100-80GB-HBM3"))).plan
    assert tight is not None
    assert (tight.settings.max_sequences, tight.settings.max_batched_tokens) == (256, 2048)
    own = plan(
        request("qwq-32b", Engine.VLLM, gpu=gpu_by_name("NVIDIA-H100-80GB-HBM3"), max_concurrent_sequences=64)
    ).plan
    assert own is not None
    assert own.settings.max_sequences is None


@pytest.mark.parametrize("model", ["gemma-3-27b-it", "qwq-32b", "internlm2_5-7b-chat"])
def test_tokens_do_not_drop_where_vllms_defaults_jump_with_the_card(model: str) -> None:
    tokens = []
    for gibibytes in (66, 69.9, 70.1, 80, 159.9, 160.1):
        result = plan(request(model, Engine.VLLM, gpu=card(gibibytes), tensor=1))
        tokens.append(result.plan.kv_tokens if result.verdict is Verdict.FITS and result.plan else 0)
    assert tokens == sorted(tokens)
    assert tokens[-1] > 0


@pytest.mark.parametrize(("engine", "backend"), ENGINES)
def test_what_does_not_fit_still_tells_its_weights_and_sets_no_impossible_flag(
    engine: Engine, backend: Backend
) -> None:
    got = plan(request("qwq-32b", engine, backend, card(24))).plan
    assert got is not None
    assert got.weight_bytes_per_gpu > 60 * GIB
    assert (got.kv_tokens, got.max_concurrent_requests) == (0, 0)
    settings = got.settings
    assert (settings.context_length, settings.ratio_percent, settings.kv_cache_memory_bytes) == (
        None,
        None,
        None,
    )


def test_without_the_hybrid_manager_every_layer_keeps_every_token() -> None:
    given = request("gemma-3-1b-it", Engine.VLLM, gpu=gpu_by_name("NVIDIA-H200"), kv_memory_bytes=26 << 30)
    hybrid, whole = plan(given).plan, plan(replace(given, hybrid_cache=False)).plan
    assert hybrid is not None
    assert whole is not None
    # 26 layers of 1 KV head of 256: 1024 bytes each, 2048 blocks of 16 tokens for the whole context.
    assert whole.kv_tokens == (26 << 30) // (16 * 1024 * 26) * 32768 // 2048
    assert hybrid.kv_tokens > whole.kv_tokens


@pytest.mark.parametrize(("engine", "backend"), ENGINES)
def test_a_little_more_memory_does_not_turn_a_fit_into_a_refusal(engine: Engine, backend: Backend) -> None:
    # Found by the property test: the context was cut to the low estimate as soon as that held one block.
    given = request("phi-3-mini-4k", engine, backend, card(4, 4, (8, 0)), tensor=4)
    fits = [
        plan(replace(given, gpu=card(4 + step / 8, 4, (8, 0))), offers=False).verdict is Verdict.FITS
        for step in range(33)
    ]
    assert fits == sorted(fits)


COMPRESSED: dict[str, Any] = {"group_size": 128, "symmetric": True, "strategy": "group"}


@pytest.mark.parametrize(
    ("backend", "given", "message"),
    [
        (
            Backend.PYTORCH,
            {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True},
            "does not read gptq weights",
        ),
        (Backend.TURBOMIND, {"quant_method": "awq", "bits": 3, "group_size": 128}, "awq weights of 4 bits only"),
        (Backend.PYTORCH, {"quant_method": "awq", "bits": 3, "group_size": 128}, "awq weights of 4 bits only"),
        (
            Backend.TURBOMIND,
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            "does not read bitsandbytes weights",
        ),
        (Backend.PYTORCH, {"quant_method": "bitsandbytes", "load_in_4bit": True}, "does not read bitsandbytes weights"),
        (Backend.TURBOMIND, {"quant_method": "modelopt", "quant_algo": "NVFP4"}, "does not read modelopt weights"),
        (Backend.TURBOMIND, COMPRESSED | {"type": "float", "num_bits": 8}, "compressed-tensors of 4-bit integers only"),
        (Backend.PYTORCH, COMPRESSED | {"type": "float", "num_bits": 8}, "in groups of 32 only"),
    ],
)
def test_weights_that_lmdeploy_does_not_read_are_refused(backend: Backend, given: dict[str, Any], message: str) -> None:
    if "num_bits" in given:
        group = {"targets": ["Linear"], "weights": given}
        given = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}
    shape = parse_config({**config("llama-3.1-8b"), "quantization_config": given})
    result = plan(replace(request(backend=backend, gpu=card(140, capability=(9, 0))), shape=shape))
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert any(message in reason for reason in result.reasons), result.reasons


def test_fp8_weights_are_held_once_on_hopper() -> None:
    # DeepSeek-V3: 671 GB of FP8 weights.
    given = request("deepseek-v3", backend=Backend.PYTORCH, gpu=card(139.8, 8, (9, 0)), tensor=8, context_length=32_768)
    assert plan(given).verdict is Verdict.FITS
