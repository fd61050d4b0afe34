"""Weight bytes on one rank, as the request's engine holds them."""

from __future__ import annotations

from llm_operator.memory import weights
from llm_operator.memory.types import PlanRequest
from llm_operator.memory.weights import WeightBytes, quantized_bytes
from llm_operator.planning.engine import memory_of

__all__ = ["quantized_bytes", "weight_bytes", "weight_groups"]


def weight_bytes(request: PlanRequest, tensor: int) -> WeightBytes:
    """Return the bytes of the served weights on one of `tensor` ranks."""
    return weights.weight_bytes(memory_of(request), request, tensor)


def weight_groups(request: PlanRequest, tensor: int) -> dict[str, int]:
    """Return the bytes on one of `tensor` ranks by what the tensors are for."""
    return weights.weight_groups(memory_of(request), request, tensor)
