"""What vLLM can run on a card at all, before any byte is counted.

Sources: vLLM 0.33.0 config/cache.py, v1/attention/backends and the architectures in its wheel.
"""

from __future__ import annotations

from collections.abc import Iterator

from llm_operator.memory.capability import fp8_cache
from llm_operator.memory.types import KVQuantization, PlanRequest


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
