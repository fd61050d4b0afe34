"""What an engine of a version can run on a card at all, before any byte is counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llm_operator.memory.types import KVQuantization, PlanRequest, WeightQuantization, gib
from llm_operator.memory.weights import quantization_in_force
from llm_operator.planning.engine import memory_of
from llm_operator.planning.quantizing import quantization_problems
from llm_operator.planning.weights import weight_bytes


def refusals(request: PlanRequest) -> tuple[str, ...]:
    """Return what the engine cannot do for this request on this card; empty if nothing stands against it.

    A card of unknown compute capability is refused nothing that depends on it.
    """
    return tuple(_refusals(request))


def awq_recipe(request: PlanRequest) -> WeightQuantization | None:
    """Return how this project would quantize the model for this engine and card; None if it cannot.

    With the usual calibration, or without data where auto_awq knows no other way. The KV cache is left out of account.
    """
    if request.weight_format not in ("Auto", "HF"):
        return None
    for recipe in (WeightQuantization(), WeightQuantization(samples=0)):
        if not refusals(replace(request, weight_quantization=recipe, kv_quantization=KVQuantization.NONE)):
            return recipe
    return None


def _refusals(request: PlanRequest) -> Iterator[str]:
    engine = memory_of(request)
    too_old = engine.too_old(request)
    if too_old is not None:
        yield too_old
    if request.weight_quantization is not None:
        # Which GPU does it is not this plan's affair.
        yield from quantization_problems(request.shape, request.weight_quantization, None)
    yield from engine.refusals(request, quantization_in_force(request))


def unknowns(request: PlanRequest) -> tuple[str, ...]:
    """Return why nothing can be computed for this engine, although the model is known; empty if it can."""
    if request.shape.unplanned:
        ranks = request.tensor or request.gpu.count
        held = gib(weight_bytes(request, ranks).total)
        return (
            f"{request.shape.architecture}: {request.shape.unplanned}; its weights take {held} on each of {ranks} GPUs."
            " No plan is made, and nothing is blocked",
        )
    if not request.shape.keeps_tokens:
        return (
            f"{request.shape.architecture}: config.json has no layer of attention, so that no cache of tokens can be"
            " counted. No plan is made, and nothing is blocked",
        )
    return memory_of(request).unknowns(request)
