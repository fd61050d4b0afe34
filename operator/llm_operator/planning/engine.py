"""The engine of a request, as planning asks it."""

from __future__ import annotations

from dataclasses import replace

from llm_operator.engines.registry import UnknownEngineError, engine_of
from llm_operator.memory.engine import EngineMemory
from llm_operator.memory.types import PlanInputError, PlanRequest


def memory_of(request: PlanRequest) -> EngineMemory:
    """Return how the request's engine spends memory.

    Raises:
        PlanInputError: the engine, or its backend, is not known.
    """
    try:
        return engine_of(request.engine).memory(request.backend)
    except UnknownEngineError as error:
        raise PlanInputError(str(error)) from error


def as_loaded(request: PlanRequest) -> PlanRequest:
    """Return the request with the quantization that its engine does while it loads the weights."""
    found = None if request.weight_format == "Auto" else memory_of(request).while_loading(request)
    return request if request.loaded_as == found else replace(request, loaded_as=found)
