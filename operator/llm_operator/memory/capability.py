"""What a card can do, for the engines' refusals."""

from __future__ import annotations

from collections.abc import Iterator

from llm_operator.memory.types import KVQuantization, PlanRequest


def below(request: PlanRequest, major: int, minor: int) -> bool:
    """Return whether the card's compute capability is known and lower."""
    found = request.gpu.compute_capability
    return found is not None and found < (major, minor)


def card(request: PlanRequest) -> str:
    """Return the card with its compute capability, for messages."""
    found = request.gpu.compute_capability
    return f"{request.gpu.product} (compute capability {found[0]}.{found[1]})" if found else request.gpu.product


def fp8_cache(request: PlanRequest, least: tuple[int, int] = (8, 9)) -> Iterator[str]:
    """Yield why the card has no FP8 KV cache. least: compute capability that it needs."""
    if request.kv_quantization is KVQuantization.FP8 and below(request, *least):
        yield f"an FP8 KV cache needs compute capability {least[0]}.{least[1]}; this is {card(request)}: use Int8"
