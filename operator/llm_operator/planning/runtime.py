"""Memory that is neither weights nor KV cache, as the request's engine takes it."""

from __future__ import annotations

from llm_operator.memory.overheads import Batch, Runtime
from llm_operator.memory.types import PlanRequest
from llm_operator.planning.engine import memory_of


def default_batch(request: PlanRequest) -> Batch:
    """Return the batch limits: the request's, else the engine's defaults for this card."""
    return memory_of(request).default_batch(request)


def runtime(request: PlanRequest, tensor: int, batch: Batch) -> Runtime:
    """Return the overheads of one rank."""
    return memory_of(request).runtime(request, tensor, batch)
