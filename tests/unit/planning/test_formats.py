"""model.format beside config.json, what an engine does with either, and code of the repository."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from llm_operator.api.model import ModelFormat
from llm_operator.models import parse_config
from llm_operator.planning import GpuFacts, PlanResult, Verdict, plan
from tests.support.engine_names import Backend, Engine
from tests.support.planning import ENGINES, card, config, request

BIG = card(140, 8, (9, 0))
PLAIN = config("llama-3.1-8b")
GROUP = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "group_size": 32, "symmetric": True}}
HOW: dict[str, dict[str, Any] | None] = {
    "none": None,
    "AWQ": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"},
    "GPTQ": {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False},
    "FP8": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "CompressedTensors": {"quant_method": "compressed-tensors", "config_groups": {"group_0": GROUP}},
    "auto-round": {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True},
    "modelopt": {"quant_method": "modelopt", "quant_algo": "FP8"},
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "fbgemm": {"quant_method": "fbgemm_fp8"},
}
INTERNLM = config("internlm2_5-7b-chat") | {
    "auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config"},
}
WORDS = get_args(ModelFormat)


def planned(engine: Engine, backend: Backend, how: str, word: str = "Auto", **more: Any) -> PlanResult:
    values = PLAIN | ({} if HOW[how] is None else {"quantization_config": HOW[how]})
    gpu: GpuFacts = more.pop("gpu", BIG)
    given = request("llama-3.1-8b", engine, backend, gpu, weight_format=word)
    return plan(replace(given, shape=parse_config(values), **more))


@pytest.mark.parametrize(("engine", "backend"), ENGINES)
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("how", HOW)
def test_a_format_that_config_json_does_not_say_is_refused_or_said(
    engine: Engine, backend: Backend, how: str, word: str
) -> None:
    result = planned(engine, backend, how, word)
    if word in ("Auto", how) or (how == "none" and word == "HF"):
        assert not any("model.format" in reason for reason in result.reasons)
    elif result.verdict is Verdict.FITS:
        assert any("model.format" in reason or "quantizes" in reason for reason in result.reasons), result.reasons
    if how in WORDS and any("but config.json" in reason for reason in result.reasons):
        assert not any("engine.type" in offer.change for offer in result.counter_offers)


@pytest.mark.parametrize(
    ("engine", "backend", "version", "word", "verdict"),
    [
        (Engine.VLLM, Backend.TURBOMIND, "0.33.0", "AWQ", Verdict.DOES_NOT_FIT),
        (Engine.VLLM, Backend.TURBOMIND, "0.23.0", "AWQ", Verdict.FITS),  # no --quantization on its command line
        (Engine.VLLM, Backend.TURBOMIND, "0.33.0", "CompressedTensors", Verdict.DOES_NOT_FIT),
        (Engine.VLLM, Backend.TURBOMIND, "0.33.0", "MXFP4", Verdict.UNKNOWN),
        (Engine.LMDEPLOY, Backend.PYTORCH, "0.18.0", "AWQ", Verdict.DOES_NOT_FIT),
        (Engine.LMDEPLOY, Backend.TURBOMIND, "0.18.0", "AWQ", Verdict.FITS),  # each tensor tells its own format
        (Engine.LMDEPLOY, Backend.TURBOMIND, "0.12.3", "AWQ", Verdict.DOES_NOT_FIT),
        (Engine.LMDEPLOY, Backend.TURBOMIND, "0.12.3", "FP8", Verdict.UNKNOWN),
    ],
)
def test_what_engines_make_of_weights_that_are_not_quantized(
    engine: Engine, backend: Backend, version: str, word: str, verdict: Verdict
) -> None:
    assert planned(engine, backend, "none", word, version=version).verdict is verdict


@pytest.mark.parametrize(("engine", "backend"), [(Engine.VLLM, Backend.TURBOMIND), (Engine.LMDEPLOY, Backend.PYTORCH)])
def test_fp8_over_16_bit_weights_is_planned_as_quantized_while_loading(engine: Engine, backend: Backend) -> None:
    plain, loading = planned(engine, backend, "none"), planned(engine, backend, "none", "FP8")
    stored = planned(engine, backend, "FP8")
    assert plain.plan is not None
    assert loading.plan is not None
    assert stored.plan is not None
    assert loading.plan.weight_bytes_per_gpu == pytest.approx(stored.plan.weight_bytes_per_gpu, rel=0.01)
    assert loading.plan.weight_bytes_per_gpu < 0.62 * plain.plan.weight_bytes_per_gpu
    assert any("while it loads them" in reason for reason in loading.reasons)


def test_fp8_while_loading_needs_what_the_kernels_need_and_is_not_planned_with_image_encoders() -> None:
    old = planned(Engine.LMDEPLOY, Backend.PYTORCH, "none", "FP8", gpu=card(48, 1, (8, 6)))
    assert old.verdict is Verdict.DOES_NOT_FIT
    seeing = request("qwen2.5-vl-7b-instruct", Engine.VLLM, gpu=BIG, weight_format="FP8")
    assert plan(seeing).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("how", "version", "capability", "message"),
    [
        ("bitsandbytes", "0.33.0", (9, 0), "no longer reads bitsandbytes"),
        ("bitsandbytes", "0.27.1", (9, 0), ""),
        ("fbgemm", "0.33.0", (9, 0), "--allow-deprecated-quantization"),
        ("modelopt", "0.26.0", (8, 6), "compute capability 8.9"),
        ("modelopt", "0.33.0", (8, 6), ""),
        ("modelopt", "0.33.0", (7, 5), "compute capability 8.0"),
    ],
)
def test_what_a_release_of_vllm_does_not_read_is_refused(
    how: str, version: str, capability: tuple[int, int], message: str
) -> None:
    result = planned(Engine.VLLM, Backend.TURBOMIND, how, version=version, gpu=card(140, 1, capability))
    assert (result.verdict is Verdict.FITS) == (not message), result.reasons
    assert any(message in reason for reason in result.reasons)


def test_deprecated_weights_are_planned_where_the_command_line_allows_them() -> None:
    assert planned(Engine.VLLM, Backend.TURBOMIND, "fbgemm", deprecated_weights=True).verdict is Verdict.FITS


@pytest.mark.parametrize("backend", [Backend.TURBOMIND, Backend.PYTORCH])
@pytest.mark.parametrize("how", ["modelopt", "auto-round", "fbgemm", "bitsandbytes"])
def test_lmdeploy_reads_only_methods_by_their_own_names(how: str, backend: Backend) -> None:
    result = planned(Engine.LMDEPLOY, backend, how)
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert "does not read" in result.reasons[0]


def test_mxfp4_is_turbominds_alone_in_lmdeploy() -> None:
    assert plan(request("gpt-oss-20b", Engine.LMDEPLOY, Backend.TURBOMIND, BIG)).verdict is Verdict.FITS
    assert plan(request("gpt-oss-20b", Engine.LMDEPLOY, Backend.PYTORCH, BIG)).verdict is Verdict.DOES_NOT_FIT


@pytest.mark.parametrize("kind", [{"bits": 3, "sym": True}, {"bits": 4, "sym": False}])
def test_gptq_of_other_kinds_is_refused_since_vllm_has_one_class_for_it(kind: dict[str, Any]) -> None:
    given = {"quant_method": "gptq", "group_size": 128, "desc_act": False, **kind}
    shape = parse_config(PLAIN | {"quantization_config": given})
    result = plan(replace(request("llama-3.1-8b", Engine.VLLM, gpu=BIG), shape=shape))
    assert result.verdict is Verdict.DOES_NOT_FIT


@pytest.mark.parametrize("place", ["text_config", "llm_config"])
def test_a_quantization_is_found_in_nested_configs(place: str) -> None:
    inner = {**config("qwen2.5-7b-instruct"), "quantization_config": HOW["AWQ"]}
    values: dict[str, Any] = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", place: inner}
    if place == "text_config":
        values["vision_config"] = {"model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336}
    else:
        values |= {"architectures": ["InternVLChatModel"], "vision_config": {"model_type": "intern_vit_6b"}}
    assert parse_config(values).quantization is not None


@pytest.mark.parametrize(("engine", "backend"), ENGINES)
@pytest.mark.parametrize(
    ("trusted", "verdict", "said"),
    [(None, Verdict.FITS, True), (False, Verdict.DOES_NOT_FIT, True), (True, Verdict.FITS, False)],
)
def test_a_model_that_needs_its_own_code_says_so(
    engine: Engine, backend: Backend, trusted: bool | None, verdict: Verdict, said: bool
) -> None:
    given = replace(request("internlm2_5-7b-chat", engine, backend, BIG), shape=parse_config(INTERNLM))
    result = plan(replace(given, trust_remote_code=trusted))
    assert result.verdict is verdict
    assert any("model.trustRemoteCode" in reason for reason in result.reasons) == said


@pytest.mark.parametrize(("engine", "backend"), ENGINES)
def test_code_that_nobody_needs_is_not_asked_for(engine: Engine, backend: Backend) -> None:
    own = {"auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"}, "model_type": "deepseek_v3"}
    shape = parse_config(config("llama-3.1-8b") | own)
    result = plan(replace(request("llama-3.1-8b", engine, backend, BIG), shape=shape, trust_remote_code=False))
    assert result.verdict is Verdict.FITS
    assert not any("trustRemoteCode" in reason for reason in result.reasons)
