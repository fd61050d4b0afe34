"""A grid of plans: tensor parallelism x KV policy x weight format, the best marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llm_operator.memory.types import KVQuantization, PlanRequest, WeightQuantization
from llm_operator.planning.capability import awq_recipe
from llm_operator.planning.parallel import accepted
from llm_operator.planning.types import PlanResult, Verdict
from llm_operator.planning.verdict import check, decide

MOST_CELLS = 10_000


@dataclass(frozen=True, slots=True)
class ComparedPlan:
    """One cell of the grid. weight_quantization None: the checkpoint as it is. best: see `compare`."""

    tensor: int
    kv_quantization: KVQuantization
    weight_quantization: WeightQuantization | None
    result: PlanResult
    best: bool = False


def compare(
    request: PlanRequest,
    tensors: Sequence[int] | None = None,
    kv_quantizations: Sequence[KVQuantization] | None = None,
    weight_quantizations: Sequence[WeightQuantization | None] | None = None,
) -> tuple[ComparedPlan, ...]:
    """Plan every combination; absent: accepted tensor parallelisms, every KV policy, weights as they are and AWQ.

    The best fits, takes the fewest GPUs, and of those serves most requests at a time without touching weights or
    cache more than it must: 16-bit weights before AWQ and the mildest KV policy break ties. Raises PlanInputError.
    """
    check(request)
    tensors = accepted(request, request.gpu.count) if tensors is None else tensors
    policies = tuple(KVQuantization) if kv_quantizations is None else kv_quantizations
    if weight_quantizations is None:
        awq = awq_recipe(request)
        weight_quantizations = (None, awq) if awq is not None else (request.weight_quantization,)
    cells = [
        _cell(request, tensor, policy, weights)
        for tensor in tensors[:MOST_CELLS]
        for policy in policies
        for weights in weight_quantizations
    ]
    best = max((cell for cell in cells if cell.result.verdict is Verdict.FITS), key=_rank, default=None)
    return tuple(replace(cell, best=cell is best) for cell in cells)


def _cell(
    request: PlanRequest, tensor: int, policy: KVQuantization, weights: WeightQuantization | None
) -> ComparedPlan:
    changed = replace(request, tensor=tensor, kv_quantization=policy, weight_quantization=weights)
    check(changed)
    return ComparedPlan(tensor, policy, weights, decide(changed))


def _rank(cell: ComparedPlan) -> tuple[int, int, int, int]:
    plan = cell.result.plan
    mildness = list(KVQuantization).index(cell.kv_quantization)
    requests = plan.max_concurrent_requests if plan is not None else 0
    return (-cell.tensor, requests, 0 if cell.weight_quantization else 1, -mildness)
