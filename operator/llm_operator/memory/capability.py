"""What a card can do, and versions as numbers: what the engines' refusals are made of."""

from __future__ import annotations

from collections.abc import Iterator

from llm_operator.memory.types import KVQuantization, PlanInputError, PlanRequest


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


def below(request: PlanRequest, major: int, minor: int) -> bool:
    """Return whether the card's compute capability is known and lower."""
    found = request.gpu.compute_capability
    return found is not None and found < (major, minor)


def card(request: PlanRequest) -> str:
    """Return the card with its compute capability, for messages."""
    found = request.gpu.compute_capability
    return f"{request.gpu.product} (compute capability {found[0]}.{found[1]})" if found else request.gpu.product


def fp8_cache(request: PlanRequest) -> Iterator[str]:
    """Yield why the card has no FP8 KV cache."""
    if request.kv_quantization is KVQuantization.FP8 and below(request, 8, 9):
        yield f"an FP8 KV cache needs compute capability 8.9; this is {card(request)}: use Int8"
