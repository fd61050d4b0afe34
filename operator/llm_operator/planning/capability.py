"""What an engine of a version can run on a card at all, before any byte is counted.

Sources: LMDeploy 0.18.0 turbomind/supported_models.py, messages.py and its quantization pages; vLLM 0.33.0
config/cache.py, v1/attention/backends and the architectures in its wheel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llm_operator.models import CheckpointQuantization, Role
from llm_operator.planning.quantizing import quantization_problems
from llm_operator.planning.types import (
    Backend,
    Engine,
    KVQuantization,
    PlanInputError,
    PlanRequest,
    WeightQuantization,
    gib,
)
from llm_operator.planning.weights import quantization_in_force, weight_bytes

TURBOMIND = frozenset(
    {
        "Qwen2ForCausalLM",
        "Qwen2MoeForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "LlamaForCausalLM",
        "InternLM2ForCausalLM",
        "InternLM3ForCausalLM",
        "Glm4MoeLiteForCausalLM",
        "GptOssForCausalLM",
        "MixtralForCausalLM",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
        "InternVLChatModel",
        "InternVLForConditionalGeneration",
        "InternS1ForConditionalGeneration",
    }
)
TURBOMIND_BEFORE_0_14 = TURBOMIND | {
    "MistralForCausalLM",
    "DeepseekV2ForCausalLM",
    "ChatGLMModel",
    "ChatGLMForConditionalGeneration",
}
# LMDeploy 0.18.0, pytorch/models/module_map.py, as far as this project knows the architecture.
LMDEPLOY_PYTORCH = frozenset(
    {
        "BaiChuanForCausalLM",
        "BaichuanForCausalLM",
        "ChatGLMForConditionalGeneration",
        "ChatGLMModel",
        "DeepseekForCausalLM",
        "DeepseekV2ForCausalLM",
        "DeepseekV32ForCausalLM",
        "DeepseekV3ForCausalLM",
        "DeepseekV4ForCausalLM",
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "Gemma3ForConditionalGeneration",
        "GemmaForCausalLM",
        "Glm4ForCausalLM",
        "Glm4MoeForCausalLM",
        "Glm4MoeLiteForCausalLM",
        "Glm4vForConditionalGeneration",
        "GlmMoeDsaForCausalLM",
        "GptOssForCausalLM",
        "HYV3ForCausalLM",
        "InternLM2ForCausalLM",
        "InternLM3ForCausalLM",
        "InternLMForCausalLM",
        "InternS1ForConditionalGeneration",
        "InternVLChatModel",
        "InternVLForConditionalGeneration",
        "KimiK25ForConditionalGeneration",
        "Llama4ForConditionalGeneration",
        "LlamaForCausalLM",
        "LlavaForConditionalGeneration",
        "MiniCPM3ForCausalLM",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "Phi3ForCausalLM",
        "PhiMoEForCausalLM",
        "QWenLMHeadModel",
        "Qwen2ForCausalLM",
        "Qwen2MoeForCausalLM",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "Qwen3NextForCausalLM",
        "Qwen3OmniMoeForConditionalGeneration",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
        "SDARForCausalLM",
        "SDARMoeForCausalLM",
        "Starcoder2ForCausalLM",
    }
)
TURBOMIND_GROUPS = {"awq": (128,), "gptq": (128,), "compressed-tensors": (32, 128), "mxfp4": (32,)}


def version_tuple(version: str) -> tuple[int, ...]:
    """Return a version as numbers. Raises PlanInputError when it is none."""
    parts = version.removeprefix("v").split(".")
    numbers = []
    for part in parts[:3]:
        if not part.isascii() or not part.isdigit():
            break
        numbers.append(int(part))
    if len(numbers) < 2:
        raise PlanInputError(f"engine version {version!r} is none; expected numbers such as 0.18.0")
    return tuple(numbers)


def refusals(request: PlanRequest) -> tuple[str, ...]:
    """Return what the engine cannot do for this request on this card; empty where nothing stands against it.

    A card of unknown compute capability is refused nothing that depends on it.
    """
    return tuple(_refusals(request))


def awq_recipe(request: PlanRequest) -> WeightQuantization | None:
    """Return how this project would quantize the model for this engine and card; None where it cannot.

    With the usual calibration, or without data where auto_awq knows no other way. The KV cache is left out of account.
    """
    for recipe in (WeightQuantization(), WeightQuantization(samples=0)):
        if not refusals(replace(request, weight_quantization=recipe, kv_quantization=KVQuantization.NONE)):
            return recipe
    return None


def _refusals(request: PlanRequest) -> Iterator[str]:
    yield from _card(request)
    yield from _requested_quantization(request)
    quantization = quantization_in_force(request)
    if request.engine is Engine.VLLM:
        yield from _vllm(request)
    elif request.backend is Backend.TURBOMIND:
        yield from _turbomind(request, quantization)
    else:
        yield from _pytorch(request, quantization)


def below(request: PlanRequest, major: int, minor: int) -> bool:
    """Return whether the card's compute capability is known and lower."""
    found = request.gpu.compute_capability
    return found is not None and found < (major, minor)


def card(request: PlanRequest) -> str:
    """Return the card with its compute capability, for messages."""
    found = request.gpu.compute_capability
    return f"{request.gpu.product} (compute capability {found[0]}.{found[1]})" if found else request.gpu.product


def _card(request: PlanRequest) -> Iterator[str]:
    if request.engine is Engine.VLLM and below(request, 7, 5):
        yield f"vLLM {request.version} has no code for {card(request)}; it needs 7.5 or newer"
    if request.engine is Engine.LMDEPLOY and below(request, 7, 0):
        yield f"LMDeploy {request.version} has no code for {card(request)}; it needs 7.0 or newer"


def _requested_quantization(request: PlanRequest) -> Iterator[str]:
    if request.weight_quantization is not None:
        # Which GPU does it is not this plan's affair.
        yield from quantization_problems(request.shape, request.weight_quantization, None)


def _turbomind(request: PlanRequest, quantization: CheckpointQuantization | None) -> Iterator[str]:
    shape, kv = request.shape, request.kv_quantization
    known = TURBOMIND if version_tuple(request.version) >= (0, 14) else TURBOMIND_BEFORE_0_14
    if shape.architecture not in known:
        yield f"TurboMind {request.version} does not support {shape.architecture}: use engine.backend PyTorch"
    elif shape.has_window and shape.architecture != "GptOssForCausalLM":
        yield f"TurboMind has no sliding window, which {shape.architecture} uses here: use engine.backend PyTorch"
    if kv is KVQuantization.FP8:
        yield "TurboMind takes no FP8 KV cache: use Int8 or Int4, or engine.backend PyTorch"
    elif kv is not KVQuantization.NONE and shape.is_latent:
        yield f"TurboMind quantizes no KV cache of {shape.architecture}"
    elif kv is not KVQuantization.NONE and shape.head_dim != 128:
        yield f"TurboMind's {kv.value} KV cache needs head_dim 128; this model has {shape.head_dim}"
    if quantization is None:
        return
    yield from _turbomind_weights(request, quantization)


def _turbomind_weights(request: PlanRequest, quantization: CheckpointQuantization) -> Iterator[str]:
    method, group = quantization.method, quantization.group_size
    floating = method == "fp8" or quantization.version == "float"
    groups = TURBOMIND_GROUPS.get(method)
    if groups is not None and group not in groups and not floating:
        yield f"TurboMind serves {method} with group size {' or '.join(map(str, groups))}; this one has {group}"
    if method == "awq" and quantization.version != "gemm":
        yield f"TurboMind serves AWQ of version gemm; this one is {quantization.version}"
    if method == "gptq" and (quantization.desc_act or not quantization.symmetric):
        yield "TurboMind serves GPTQ with desc_act false and sym true only"
    if floating and below(request, 8, 9):
        yield f"FP8 weights need compute capability 8.9 in TurboMind; this is {card(request)}"


def unknowns(request: PlanRequest) -> tuple[str, ...]:
    """Return why nothing can be computed for this engine, although the model is known; empty where it can."""
    if request.shape.unplanned:
        ranks = request.tensor or request.gpu.count
        held = gib(weight_bytes(request, ranks).total)
        return (
            f"{request.shape.architecture}: {request.shape.unplanned}; its weights take {held} on each of {ranks} GPUs."
            " No plan is made, and nothing is held back",
        )
    if request.engine is Engine.LMDEPLOY and request.backend is Backend.TURBOMIND and request.shape.states:
        return (
            f"how TurboMind keeps the states of {request.shape.architecture}'s linear attention was not measured: no"
            " plan is made for it, and nothing is held back",
        )
    return ()


def _pytorch(request: PlanRequest, quantization: CheckpointQuantization | None) -> Iterator[str]:
    if request.shape.architecture not in LMDEPLOY_PYTORCH:
        yield f"LMDeploy's pytorch backend does not support {request.shape.architecture}: use engine.type VLLM"
    if request.kv_quantization is not KVQuantization.NONE and request.shape.is_latent:
        yield f"LMDeploy's pytorch backend quantizes no KV cache of {request.shape.architecture}"
    yield from _fp8_cache(request)
    if quantization is not None and quantization.method == "fp8" and below(request, 9, 0):
        yield f"FP8 weights need compute capability 9.0 in LMDeploy's pytorch backend; this is {card(request)}"
    if quantization is not None and Role.QUERY not in quantization.skipped and quantization.method == "mxfp4":
        yield "LMDeploy's pytorch backend serves MXFP4 experts only"


def _vllm(request: PlanRequest) -> Iterator[str]:
    kv = request.kv_quantization
    if kv in (KVQuantization.INT8, KVQuantization.INT4) and request.shape.is_latent:
        yield f"vLLM's {kv.value} KV cache is per head; {request.shape.architecture} keeps a latent: use FP8 or None"
    yield from _fp8_cache(request)
    if request.context_length is not None and request.context_length > request.shape.context_length:
        yield (
            f"vLLM refuses contextLength {request.context_length}: the model was made for at most"
            f" {request.shape.context_length} tokens"
        )


def _fp8_cache(request: PlanRequest) -> Iterator[str]:
    if request.kv_quantization is KVQuantization.FP8 and below(request, 8, 9):
        yield f"an FP8 KV cache needs compute capability 8.9; this is {card(request)}: use Int8"
