"""What vLLM can run on a card at all, before any byte is counted.

Sources: vLLM 0.33.0 config/cache.py, v1/attention/backends and the architectures in its wheel.
"""

from __future__ import annotations

from collections.abc import Iterator

from llm_operator.engines.vllm import compressed, formats
from llm_operator.memory.capability import below, card, fp8_cache
from llm_operator.memory.formats import code_needed, needs_code
from llm_operator.memory.types import KVQuantization, PlanRequest
from llm_operator.memory.versions import release

# The last versions of vLLM with their own classes for these (0.33.0, registry.py, _PREVIOUSLY_SUPPORTED_MODELS).
VLLM_LAST = {
    "AquilaForCausalLM": (0, 24),
    "AyaVisionForConditionalGeneration": (0, 24),
    "BaiChuanForCausalLM": (0, 23),
    "BaichuanForCausalLM": (0, 23),
    "BambaForCausalLM": (0, 23),
    "Dots1ForCausalLM": (0, 23),
    "InternLMForCausalLM": (0, 23),
    "MPTForCausalLM": (0, 28),
    "MiniMaxForCausalLM": (0, 23),
    "MiniMaxM1ForCausalLM": (0, 23),
    "MiniMaxText01ForCausalLM": (0, 23),
    "MllamaForConditionalGeneration": (0, 10),
    "MptForCausalLM": (0, 28),
    "QWenLMHeadModel": (0, 23),
    "XverseForCausalLM": (0, 23),
}

# The first release read here that has a class for these (registry.py of 0.20.2, 0.26.0 and 0.33.0).
VLLM_FIRST = {
    "BailingMoeV3ForCausalLM": (0, 33),
    "BailingMoeV3VLForConditionalGeneration": (0, 33),
    "Cohere2MoeForCausalLM": (0, 26),
    "DeepseekV4ForConditionalGeneration": (0, 33),
    "ExaoneMoeForCausalLM": (0, 33),
    "Gemma4UnifiedForConditionalGeneration": (0, 26),
    "GraniteMoeSWAForCausalLM": (0, 33),
    "GraniteSWAForCausalLM": (0, 33),
    "GraniteSpeechPlusForConditionalGeneration": (0, 26),
    "InternS2PreviewForConditionalGeneration": (0, 26),
    "KimiK3ForConditionalGeneration": (0, 33),
    "LagunaForCausalLM": (0, 26),
    "LlavaOnevision2ForConditionalGeneration": (0, 26),
    "MellumForCausalLM": (0, 26),
    "MiMoV2ForCausalLM": (0, 26),
    "MiMoV2OmniForCausalLM": (0, 26),
    "MiniCPMV4_6ForConditionalGeneration": (0, 26),
    "MiniCPMV4_7ForConditionalGeneration": (0, 33),
    "MiniCPMOcrForConditionalGeneration": (0, 33),
    "MiniMaxM3SparseForCausalLM": (0, 26),
    "MiniMaxM3SparseForConditionalGeneration": (0, 26),
    "MossTranscribeDiarizeForConditionalGeneration": (0, 26),
    "NemotronH_Omni_Reasoning_V3": (0, 33),
    "QianfanOCRForConditionalGeneration": (0, 26),
    "Qwen3_5ForCausalLM": (0, 33),
    "Qwen3_5MoeForCausalLM": (0, 33),
    "Step3p7ForConditionalGeneration": (0, 26),
    "UnlimitedOCRForCausalLM": (0, 26),
    "VaultGemmaForCausalLM": (0, 33),
    "VibeVoiceAsrForConditionalGeneration": (0, 33),
}
LMDEPLOY_ALONE = frozenset({"InternS1_1_ForConditionalGeneration"})
"""Known here and in no registry of vLLM up to 0.33.0."""
FLASHINFER_HEADS = frozenset({64, 128, 256})
SINKS = frozenset({"GptOssForCausalLM", "MiMoV2FlashForCausalLM", "MiMoV2ForCausalLM"})
"""Attention with sinks, which FlashInfer has no kernels for below 9.0."""
CONFIG_CLASSES = ("transformers", "vllm")
"""Whose configuration classes it reads without code of the repository (transformers_utils/config.py)."""


def unknowns(request: PlanRequest) -> tuple[str, ...]:
    """Return why nothing can be computed for this version, although the model is known; empty if it can."""
    found = list(formats.unknowns(request))
    last = VLLM_LAST.get(request.shape.architecture)
    if last is not None and release(request.version)[:2] > last:
        found.append(
            f"vLLM dropped {request.shape.architecture} after {last[0]}.{last[1]}; whether {request.version} serves it"
            " with transformers' classes is not known"
        )
    first = VLLM_FIRST.get(request.shape.architecture)
    if first is not None and release(request.version)[:2] < first:
        found.append(
            f"vLLM {first[0]}.{first[1]} is the first release known to serve {request.shape.architecture}; whether"
            f" {request.version} does is not known"
        )
    if request.shape.compressed and not request.hybrid_cache:
        found.append("what vLLM keeps of compressed caches with --disable-hybrid-kv-cache-manager is not known")
    if request.shape.architecture.startswith("SDAR"):
        found.append(f"vLLM {request.version} has no class for {request.shape.architecture}, a diffusion model of text")
    elif request.shape.architecture in LMDEPLOY_ALONE:
        found.append(f"vLLM {request.version} has no class for {request.shape.architecture}, LMDeploy has")
    return tuple(f"{text}. No plan is made, and nothing is blocked" for text in found)


def refusals(request: PlanRequest) -> Iterator[str]:
    """Yield what vLLM cannot serve on this card."""
    kv = request.kv_quantization
    if kv in (KVQuantization.INT8, KVQuantization.INT4) and request.shape.is_latent:
        yield f"vLLM's {kv.value} KV cache is per head; {request.shape.architecture} keeps a latent: use FP8 or None"
    if request.shape.compressed and below(request, 9, 0):
        yield f"vLLM has no attention for {request.shape.architecture} on {card(request)}; it needs 9.0 or newer"
    if not compressed.known_rates(request):
        rates = compressed.RATES
        yield f"vLLM compresses {rates} tokens of {request.shape.architecture} into one; config.json has other rates"
    yield from fp8_cache(request, (8, 0) if _flashinfer_serves(request) else (8, 9))
    if request.context_length is not None and request.context_length > request.shape.context_length:
        yield (
            f"vLLM refuses contextLength {request.context_length:,}: the model was made for at most"
            f" {request.shape.context_length:,} tokens"
        )
    if request.trust_remote_code is False and needs_code(request, *CONFIG_CLASSES):
        yield code_needed(request, f"vLLM {request.version}", "does not start without it")


def _flashinfer_serves(request: PlanRequest) -> bool:
    """Return whether FlashInfer, which reads FP8 caches from 8.0 on, can do the model's attention there.

    0.20.2 to 0.33.0, v1/attention/backends/flashinfer.py; Triton's kernels need 8.9. Public starts on RTX 3090.
    """
    shape = request.shape
    heads = {size for group in shape.attention for size in (group.key_dim, group.value_dim)}
    return not shape.is_latent and heads <= FLASHINFER_HEADS and shape.architecture not in SINKS


def notes(request: PlanRequest) -> Iterator[str]:
    """Yield what the plan cannot tell: whether the repository's code may run."""
    if request.trust_remote_code is None and needs_code(request, *CONFIG_CLASSES):
        yield code_needed(request, f"vLLM {request.version}", "does not start without it")
