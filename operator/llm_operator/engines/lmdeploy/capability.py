"""What LMDeploy's backends can run on a card at all, before any byte is counted.

Sources: LMDeploy 0.18.0 turbomind/supported_models.py, messages.py and its quantization pages.
"""

from __future__ import annotations

from collections.abc import Iterator

from llm_operator.memory.capability import below, card, fp8_cache
from llm_operator.memory.types import KVQuantization, PlanRequest
from llm_operator.memory.versions import release
from llm_operator.models import CheckpointQuantization

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
        "InternS2PreviewForConditionalGeneration",
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
        "DeepseekVLV2ForCausalLM",
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
        "InternS1_1_ForConditionalGeneration",
        "InternS1ProForConditionalGeneration",
        "InternS2PreviewForConditionalGeneration",
        "InternVLChatModel",
        "InternVLForConditionalGeneration",
        "KimiK25ForConditionalGeneration",
        "Kimi_K25ForConditionalGeneration",
        "Llama4ForConditionalGeneration",
        "LlamaForCausalLM",
        "LlavaForConditionalGeneration",
        "LlavaNextForConditionalGeneration",
        "MiniCPM3ForCausalLM",
        "MiniCPMV",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "MllamaForConditionalGeneration",
        "Phi3ForCausalLM",
        "Phi3VForCausalLM",
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
# Elements of a key head and of the state of a value head (0.16.0, src/turbomind/models/llama/GatedDeltaNetLayer.cc).
DELTA_NET_HEAD = (128, 128 * 128)
METHODS = frozenset({"awq", "gptq", "fp8", "mxfp4", "compressed-tensors"})
"""Of quantized checkpoints that TurboMind reads; it compares the word in config.json (turbomind/converter.py)."""
PYTORCH_METHODS = frozenset({"awq", "fp8", "compressed-tensors"})
"""Of those that the PyTorch backend reads (0.12.3 to 0.18.0, pytorch/config.py, QuantizationConfig.from_config)."""
COMPRESSED_SINCE = (0, 17)
TURBOMIND_GROUPS = {"awq": (128,), "gptq": (128,), "compressed-tensors": (32, 128), "mxfp4": (32,)}


def turbomind_refusals(request: PlanRequest, quantization: CheckpointQuantization | None) -> Iterator[str]:
    """Yield what TurboMind of this version cannot serve."""
    shape, kv = request.shape, request.kv_quantization
    known = TURBOMIND if release(request.version) >= (0, 14) else TURBOMIND_BEFORE_0_14
    if shape.architecture not in known:
        yield f"TurboMind {request.version} does not support {shape.architecture}: use engine.backend PyTorch"
    elif shape.has_window and shape.architecture != "GptOssForCausalLM":
        yield f"TurboMind has no sliding window, which {shape.architecture} uses here: use engine.backend PyTorch"
    elif any((layers.group_size, layers.recurrent) != DELTA_NET_HEAD for layers in shape.states):
        yield f"TurboMind's delta nets need key and value heads of 128, which {shape.architecture} has not here"
    if kv is KVQuantization.FP8:
        yield "TurboMind takes no FP8 KV cache: use Int8 or Int4, or engine.backend PyTorch"
    elif kv is not KVQuantization.NONE and shape.is_latent:
        yield f"TurboMind quantizes no KV cache of {shape.architecture}"
    elif kv is not KVQuantization.NONE and shape.head_dim != 128:
        yield f"TurboMind's {kv.value} KV cache needs head_dim 128; this model has {shape.head_dim}"
    if quantization is None:
        return
    yield from _unknown_weights(quantization, METHODS, "TurboMind")
    yield from _turbomind_weights(request, quantization)


def _unknown_weights(quantization: CheckpointQuantization, methods: frozenset[str], backend: str) -> Iterator[str]:
    """Yield why a backend does not read such weights. methods: those that it reads."""
    named = quantization.named or quantization.method
    if named not in methods or quantization.method not in methods:
        other = "engine.backend TurboMind or " if named in METHODS - methods else ""
        yield f"{backend} does not read {named[:60]} weights: use {other}engine.type VLLM"
    elif quantization.method in ("awq", "gptq") and quantization.bits != 4:
        yield f"LMDeploy serves {quantization.method} weights of 4 bits only; these have {quantization.bits}"


def _turbomind_weights(request: PlanRequest, quantization: CheckpointQuantization) -> Iterator[str]:
    method, group = quantization.method, quantization.group_size
    if method == "compressed-tensors" and (quantization.version == "float" or quantization.bits != 4):
        yield "TurboMind serves compressed-tensors of 4-bit integers only (pack-quantized): use engine.type VLLM"
        return
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


def _pytorch_weights(request: PlanRequest, quantization: CheckpointQuantization) -> Iterator[str]:
    if quantization.method == "compressed-tensors" and release(request.version) < COMPRESSED_SINCE:
        yield f"LMDeploy's pytorch backend {request.version} reads no compressed-tensors: use 0.17.0 or newer"
        return
    served = (quantization.bits, quantization.group_size, quantization.symmetric, quantization.version)
    if quantization.method == "compressed-tensors" and served != (4, 32, True, "int"):
        yield "LMDeploy's pytorch backend serves compressed-tensors of symmetric 4-bit integers in groups of 32 only"


def pytorch_refusals(request: PlanRequest, quantization: CheckpointQuantization | None) -> Iterator[str]:
    """Yield what the PyTorch backend cannot serve."""
    if request.shape.architecture not in LMDEPLOY_PYTORCH:
        yield f"LMDeploy's pytorch backend does not support {request.shape.architecture}: use engine.type VLLM"
    if request.kv_quantization is not KVQuantization.NONE and request.shape.is_latent:
        yield f"LMDeploy's pytorch backend quantizes no KV cache of {request.shape.architecture}"
    yield from fp8_cache(request)
    if quantization is not None:
        yield from _unknown_weights(quantization, PYTORCH_METHODS, "LMDeploy's pytorch backend")
        yield from _pytorch_weights(request, quantization)
    if quantization is not None and quantization.method == "fp8" and below(request, 9, 0):
        yield f"FP8 weights need compute capability 9.0 in LMDeploy's pytorch backend; this is {card(request)}"
