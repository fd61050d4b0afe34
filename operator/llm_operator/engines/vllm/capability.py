"""What vLLM can run on a card at all, before any byte is counted.

Sources: vLLM 0.33.0 config/cache.py, v1/attention/backends and the architectures in its wheel.
"""

from __future__ import annotations

from collections.abc import Iterator

from llm_operator.memory.capability import fp8_cache
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


def unknowns(request: PlanRequest) -> tuple[str, ...]:
    """Return why nothing can be computed for this version, although the model is known; empty where it can."""
    last = VLLM_LAST.get(request.shape.architecture)
    if last is None or release(request.version)[:2] <= last:
        return ()
    return (
        f"vLLM dropped {request.shape.architecture} after {last[0]}.{last[1]}; whether {request.version} serves it with"
        " transformers' classes is not known. No plan is made, and nothing is held back",
    )


def refusals(request: PlanRequest) -> Iterator[str]:
    """Yield what vLLM cannot serve on this card."""
    kv = request.kv_quantization
    if kv in (KVQuantization.INT8, KVQuantization.INT4) and request.shape.is_latent:
        yield f"vLLM's {kv.value} KV cache is per head; {request.shape.architecture} keeps a latent: use FP8 or None"
    yield from fp8_cache(request)
    if request.context_length is not None and request.context_length > request.shape.context_length:
        yield (
            f"vLLM refuses contextLength {request.context_length}: the model was made for at most"
            f" {request.shape.context_length} tokens"
        )
