"""Layers with a state, towers, indexers, and formats that an engine chooses by card or by checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from llm_operator.engines.lmdeploy.memory import TurboMindMemory
from llm_operator.models import AttentionKind, parse_config
from llm_operator.planning import GpuFacts, KVQuantization, PlanRequest, Verdict, gpu_by_name, plan
from llm_operator.planning.kv_cache import allocate, bytes_per_token, state_bytes, states_of_sequence
from llm_operator.planning.parallel import objections
from llm_operator.planning.weights import quantized_bytes, weight_bytes
from tests.support.engine_names import Backend, Engine
from tests.support.planning import GIB, VERSIONS, card, config, request

H200 = gpu_by_name("NVIDIA-H200", 8)
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
NVFP4 = {
    "quant_method": "modelopt",
    "quant_algo": "NVFP4",
    "kv_cache_quant_algo": "FP8",
    "exclude_modules": ["lm_head"],
}


def on_vllm(model: str, **more: Any) -> PlanRequest:
    return request(model, Engine.VLLM, gpu=H200, **more)


def quantized(model: str, method: dict[str, Any], gpu: GpuFacts = H200, engine: Engine = Engine.VLLM) -> PlanRequest:
    return PlanRequest(parse_config(config(model) | {"quantization_config": method}), engine, VERSIONS[engine], gpu)


def test_a_block_of_attention_holds_a_state() -> None:
    """vLLM logs for Qwen3.5-27B: "Setting attention block size to 784 tokens"."""
    given = on_vllm("qwen3.5-27b")
    (states,) = given.shape.states
    assert state_bytes(states, given, 1) == 48 * 128 * 128 * 4 + (2 * 16 * 128 + 48 * 128) * 3 * 2
    one = allocate(given, 1, 100 * GIB, 784, 8192)
    assert one.block_bytes == 784 * 4096 * 16, "sixteen layers of attention, and of each third of the others"
    assert one.tokens == one.blocks * 784 // (1 + 3 * 2), "a request holds its tokens once and two states of each group"


def test_a_state_is_shared_by_heads_between_ranks() -> None:
    given = on_vllm("qwen3-next-80b-a3b")
    (states,) = given.shape.states
    assert state_bytes(states, given, 2) * 2 == state_bytes(states, given, 1)
    assert any("keep a state" in told for told in objections(given, 3))


def test_latents_beside_states_take_blocks_of_128_tokens() -> None:
    given = on_vllm("kimi-linear-48b-a3b")
    made = allocate(given, 1, 64 * GIB, 4096, 8192)
    assert made.block_bytes % (128 * 576 * 2) == 0


def test_lmdeploy_sets_the_states_of_a_full_batch_aside() -> None:
    few = request("qwen3.5-27b", Engine.LMDEPLOY, Backend.PYTORCH, gpu=H200, tensor=1, max_concurrent_sequences=32)
    many = request("qwen3.5-27b", Engine.LMDEPLOY, Backend.PYTORCH, gpu=H200, tensor=1, max_concurrent_sequences=512)
    first, second = plan(few).plan, plan(many).plan
    assert first is not None
    assert second is not None
    lost = first.kv_bytes_per_gpu - second.kv_bytes_per_gpu
    assert lost >= 0.75 * 480 * states_of_sequence(few, 1)
    full = plan(request("qwen3.5-27b", Engine.LMDEPLOY, Backend.PYTORCH, gpu=gpu_by_name("NVIDIA-A100-SXM4-80GB", 1)))
    assert full.verdict is Verdict.DOES_NOT_FIT
    assert "maxConcurrentSequences" in full.reasons[0]


def on_turbomind(model: str = "qwen3.5-27b", **more: Any) -> PlanRequest:
    return request(model, Engine.LMDEPLOY, Backend.TURBOMIND, **{"gpu": H200, **more})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (replace(on_turbomind(), version="0.15.0"), "TurboMind before 0.16.0 keeps the states"),
        (quantized("qwen3.5-27b", FP8, engine=Engine.LMDEPLOY), "quantized weights of Qwen3_5"),
        (on_turbomind(gpu=replace(H200, compute_capability=(10, 0))), "delta nets"),
    ],
)
def test_turbomind_with_states_that_nobody_knows_is_unknown_and_blocks_nobody(given: PlanRequest, reason: str) -> None:
    found = plan(given)
    assert found.verdict is Verdict.UNKNOWN
    assert reason in found.reasons[0]


@pytest.mark.parametrize("changes", [{"layer_types": ["linear_attention"] * 64}, {"full_attention_interval": 65}])
@pytest.mark.parametrize("backend", [Backend.TURBOMIND, Backend.PYTORCH, None])
def test_a_model_without_attention_is_unknown_to_all(changes: dict[str, Any], backend: Backend | None) -> None:
    original = config("qwen3.5-27b")
    text = {name: value for name, value in original["text_config"].items() if name != "layer_types"}
    engine = Engine.LMDEPLOY if backend else Engine.VLLM
    asked = PlanRequest(
        parse_config(original | {"text_config": text | changes}), engine, VERSIONS[engine], H200, backend=backend
    )
    found = plan(asked)
    assert found.verdict is Verdict.UNKNOWN
    assert "no layer of attention" in found.reasons[0]


def test_turbomind_refuses_delta_nets_with_other_heads() -> None:
    changed = config("qwen3.5-27b")
    changed = changed | {"text_config": changed["text_config"] | {"linear_value_head_dim": 64}}
    found = plan(replace(on_turbomind(), shape=parse_config(changed)))
    assert found.verdict is Verdict.DOES_NOT_FIT
    assert "key and value heads of 128" in found.reasons[0]


def test_turbomind_shares_its_cache_between_blocks_and_states() -> None:
    """Qwen3.5-27B: 16 layers of attention with 4 KV heads of 256, 48 with a state of 36 MiB on each of two ranks."""
    given = on_turbomind(tensor=2, context_length=32_768)
    found = plan(given).plan
    assert found is not None
    assert found.kv_bytes_per_token == 16 * 2 * 256 * 2 * 2
    assert states_of_sequence(given, 2) == 48 * (24 * 128 * 128 * 2 + (2 * 16 * 128 + 48 * 128) // 2 * 4 * 2)
    whole = found.kv_bytes_per_gpu // found.kv_bytes_per_token
    one = 32_768 * found.kv_bytes_per_token
    assert found.kv_tokens == pytest.approx(whole * one / (one + states_of_sequence(given, 2)), rel=0.01)
    assert found.kv_tokens < whole


def test_turbomind_holds_fewer_tokens_beside_a_full_batch() -> None:
    few, many = (
        plan(on_turbomind(tensor=2, context_length=8192, max_concurrent_sequences=batch)).plan for batch in (16, 1024)
    )
    assert few is not None
    assert many is not None
    assert few.kv_tokens >= many.kv_tokens > many.kv_tokens_low
    lost = (few.kv_tokens_low - many.kv_tokens_low) * few.kv_bytes_per_token
    assert lost == pytest.approx(1008 * states_of_sequence(on_turbomind(), 2), rel=0.05)


def test_turbomind_serves_the_oldest_request_whatever_the_batch() -> None:
    """1,024 states would take more than the whole cache."""
    found = plan(on_turbomind(tensor=1, context_length=32_768))
    assert found.verdict is Verdict.FITS
    assert found.plan is not None
    assert found.plan.kv_tokens_low >= 32_768


@hypothesis.given(
    budget=st.integers(0, 200 * GIB),
    need=st.integers(1, 8192),
    sequences=st.integers(1, 2048),
    tensor=st.sampled_from((1, 2, 4, 8)),
    model=st.sampled_from(("qwen3.5-27b", "qwen3.5-35b-a3b")),
)
def test_more_memory_never_holds_fewer_tokens_beside_states(
    budget: int, need: int, sequences: int, tensor: int, model: str
) -> None:
    asked = on_turbomind(model)
    less, more = (TurboMindMemory().pages(asked, tensor, size) for size in (budget, budget + GIB // 32))
    assert less.likely(need, sequences) <= more.likely(need, sequences)
    assert less.surely(need, sequences) <= more.surely(need, sequences)
    assert less.beside(sequences) <= less.surely(need, sequences) <= less.likely(need, sequences) <= less.beside(0)
    served = min(less.likely(need, sequences) // need, sequences)
    if served > 1:
        assert served * need <= less.beside(served), "what is said to fit has room beside its own states"


def test_an_image_encoder_is_padded_and_shared_by_turbomind() -> None:
    given = on_turbomind()
    tower = given.shape.tower
    assert tower is not None
    added = weight_bytes(given, 1).total - weight_bytes(on_vllm("qwen3.5-27b"), 1).tensors
    padding = tower.layers * (4 * 1152 + 3) * 16 * (128 - 72) * 2
    assert added == pytest.approx(padding, rel=0.05)
    assert weight_bytes(given, 2).total * 2 == pytest.approx(weight_bytes(given, 1).total, rel=0.001)
    assert weight_bytes(given, 32).total > weight_bytes(given, 16).total / 2, "32 ranks do not divide 16 heads"


def test_an_architecture_that_lmdeploy_lacks_is_refused_by_name() -> None:
    found = plan(request("minimax-m2", Engine.LMDEPLOY, Backend.PYTORCH, gpu=H200))
    assert found.verdict is Verdict.DOES_NOT_FIT
    assert "does not support MiniMaxM2ForCausalLM" in found.reasons[0]


def test_an_indexer_has_a_cache_of_its_own() -> None:
    given = on_vllm("deepseek-v3.2")
    kinds = {group.kind: group for group in given.shape.attention}
    assert kinds[AttentionKind.INDEX].key_dim == 128 + 4
    assert bytes_per_token(given, 8) == 61 * (576 * 2 + 132)
    eight = on_vllm("deepseek-v3.2", kv_quantization=KVQuantization.FP8)
    assert bytes_per_token(eight, 8) == 61 * (656 + 132)


def test_windows_may_have_heads_of_their_own() -> None:
    """MiMo-V2-Flash: 8 KV heads in windows, 4 in full layers, keys of 192 and values of 128."""
    given = on_vllm("mimo-v2-flash", tensor=4)
    full, local = given.shape.attention
    assert (full.layers, full.kv_heads, local.layers, local.kv_heads) == (9, 4, 39, 8)
    assert weight_bytes(given, 8).total * 8 == pytest.approx(weight_bytes(given, 1).total, rel=0.05)


def test_a_tower_is_sharded_by_vllm_and_whole_in_lmdeploy() -> None:
    vllm = weight_bytes(on_vllm("qwen2.5-vl-7b-instruct"), 4).tensors
    lmdeploy = weight_bytes(request("qwen2.5-vl-7b-instruct", Engine.LMDEPLOY, Backend.PYTORCH, gpu=H200), 4).tensors
    assert lmdeploy - vllm > 0.9 * GIB


def test_the_first_images_take_room_beside_the_cache() -> None:
    found = plan(on_vllm("qwen2.5-vl-7b-instruct", tensor=1)).plan
    assert found is not None
    peak = next(part for part in found.overheads if part.name == "activations or sampler")
    assert peak.likely > GIB


def test_nvfp4_takes_four_and_a_half_bits_and_brings_its_cache_format() -> None:
    given = quantized("llama-3.1-8b", NVFP4)
    how = given.shape.quantization
    assert how is not None
    assert quantized_bytes(4096, 4096, how, wide_zeros=False) == 4096 * 4096 * 4.5 / 8
    assert bytes_per_token(given, 1) == 32 * 8 * 2 * 128, "one byte an element"
    assert bytes_per_token(quantized("llama-3.1-8b", NVFP4, engine=Engine.LMDEPLOY), 1) == 32 * 8 * 2 * 128 * 2


def test_mxfp4_is_padded_as_the_kernels_of_the_card_need() -> None:
    hopper = weight_bytes(request("gpt-oss-120b", Engine.VLLM, gpu=gpu_by_name("NVIDIA-H100-80GB-HBM3", 1)), 1)
    ampere = weight_bytes(request("gpt-oss-120b", Engine.VLLM, gpu=gpu_by_name("NVIDIA-A100-SXM4-80GB", 1)), 1)
    assert ampere.tensors / hopper.tensors == pytest.approx(2944 * 3072 / 2880**2, rel=0.01)


@pytest.mark.parametrize(
    ("method", "bits"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}, 4.156),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}}, 8),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "a": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}, "targets": ["Linear"]}
                },
                "ignore": ["lm_head"],
            },
            4.5,
        ),
    ],
)
def test_bits_of_a_weight_by_format(method: dict[str, Any], bits: float) -> None:
    a100 = gpu_by_name("NVIDIA-A100-SXM4-80GB", 1)
    how = quantized("llama-3.1-8b", method, a100).shape.quantization
    assert how is not None
    assert quantized_bytes(4096, 14336, how, wide_zeros=False) * 8 / (4096 * 14336) == pytest.approx(bits, rel=0.002)


@pytest.mark.parametrize(
    ("product", "count", "rendered"), [("Tesla-T4", 2, True), ("NVIDIA-L4", 1, False), ("NVIDIA-H200", 2, False)]
)
def test_small_cards_get_a_utilization_that_the_first_check_passes(product: str, count: int, rendered: bool) -> None:
    found = plan(request("qwen3-8b", Engine.VLLM, gpu=gpu_by_name(product, count), tensor=count)).plan
    assert found is not None
    share = found.settings.gpu_memory_utilization
    assert (share is not None) is rendered
    if share is not None:
        taken = sum(part.high for part in found.overheads if part.name in ("context", "libraries", "NCCL"))
        assert share * found.gpu_memory_bytes <= found.gpu_memory_bytes - taken
        assert found.settings.kv_cache_memory_bytes == found.kv_bytes_per_gpu


@pytest.mark.parametrize("share", [None, 0.92])
def test_vllm_gets_no_more_sequences_than_it_has_blocks_for_their_states(share: float | None) -> None:
    """Qwen3.6-27B-FP8 on one H100 dies of 1,024 sequences: 856 blocks (vllm-project/recipes, pull request 551)."""
    fp8 = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    given = replace(
        request("qwen3.5-27b", Engine.VLLM, gpu=gpu_by_name("NVIDIA-H100-80GB-HBM3", 1), gpu_memory_utilization=share),
        shape=parse_config(config("qwen3.5-27b") | fp8),
    )
    result = plan(given)
    assert result.verdict is Verdict.FITS
    assert result.plan is not None
    assert result.plan.settings.max_sequences == 512
    asked = plan(replace(given, max_concurrent_sequences=1024))
    assert asked.verdict is Verdict.DOES_NOT_FIT
    assert "maxConcurrentSequences 1,024" in asked.reasons[0]
    assert {"maxConcurrentSequences": 256} in [dict(offer.change) for offer in asked.counter_offers]
    assert plan(replace(given, max_concurrent_sequences=1024, enforce_eager=True)).verdict is Verdict.FITS


def test_mxfp4_on_blackwell_is_padded_more_before_0_33() -> None:
    given = request("gpt-oss-120b", Engine.VLLM, gpu=card(180, 1, (10, 0)))
    older = weight_bytes(replace(given, version="0.26.0"), 1).total
    assert older > 1.03 * weight_bytes(given, 1).total
