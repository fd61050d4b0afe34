"""The KV cache as the request's engine lays it out."""

from __future__ import annotations

from llm_operator.memory import kv_cache
from llm_operator.memory.kv_cache import Allocation
from llm_operator.memory.types import PlanRequest
from llm_operator.models import StateLayers
from llm_operator.planning.engine import memory_of

__all__ = [
    "Allocation",
    "allocate",
    "blocks_per_request",
    "bytes_per_token",
    "least",
    "state_bytes",
    "states_of_sequence",
]


def bytes_per_token(request: PlanRequest, tensor: int) -> int:
    """Return KV bytes of one token on one rank, all layers counted, before blocks, slabs and windows."""
    return kv_cache.bytes_per_token(memory_of(request), request, tensor)


def state_bytes(layers: StateLayers, request: PlanRequest, tensor: int) -> int:
    """Return the bytes of one sequence's state in one layer on one of `tensor` ranks."""
    return memory_of(request).state_bytes(layers, request, tensor)


def states_of_sequence(request: PlanRequest, tensor: int) -> int:
    """Return the bytes of one sequence's states of all layers on one rank."""
    return kv_cache.states_of_sequence(memory_of(request), request, tensor)


def allocate(request: PlanRequest, tensor: int, budget: int, context: int, batched_tokens: int) -> Allocation:
    """Return what the engine makes of `budget` bytes of KV cache on one rank.

    context: longest request in tokens. batched_tokens: prefill tokens of one step.
    """
    return memory_of(request).allocate(request, tensor, budget, context, batched_tokens)


def least(request: PlanRequest, tensor: int, budget: int, context: int, batched_tokens: int) -> Allocation:
    """Return what surely holds tokens in `budget` bytes on one rank, beside the states of a full batch."""
    return memory_of(request).least(request, tensor, budget, context, batched_tokens)


def blocks_per_request(request: PlanRequest, tensor: int, context: int, batched_tokens: int) -> int:
    """Return the blocks that a request of `context` tokens holds at its longest on one of `tensor` ranks."""
    return memory_of(request).blocks_per_request(request, tensor, context, batched_tokens)
