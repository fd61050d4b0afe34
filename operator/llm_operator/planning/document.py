"""Results as JSON: what `kubectl llm plan -o json` prints and what status.plan holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llm_operator.planning.types import Plan, PlanResult


def plan_document(plan: Plan) -> dict[str, object]:
    """Return a plan with the field names of status.plan; integers in bytes and tokens."""
    return {
        "tensor": plan.tensor,
        "gpusPerReplica": plan.gpus_per_replica,
        "gpuMemoryBytes": plan.gpu_memory_bytes,
        "weightBytesPerGpu": plan.weight_bytes_per_gpu,
        "kvBytesPerToken": plan.kv_bytes_per_token,
        "kvTokens": plan.kv_tokens,
        "kvTokensLow": plan.kv_tokens_low,
        "maxConcurrentRequests": plan.max_concurrent_requests,
        "contextLength": plan.context_length,
        "explanation": plan.explanation,
    }


def result_document(name: str, result: PlanResult) -> dict[str, object]:
    """Return one entry of `items`."""
    return {
        "name": name,
        "verdict": result.verdict.value,
        "reasons": list(result.reasons),
        "plan": None if result.plan is None else plan_document(result.plan),
        "counterOffers": [
            {"change": dict(offer.change), "plan": plan_document(offer.plan)} for offer in result.counter_offers
        ],
    }


def document(results: Mapping[str, PlanResult] | Iterable[tuple[str, PlanResult]]) -> dict[str, object]:
    """Return {"items": [...]}; pairs instead of a mapping where names repeat."""
    pairs = results.items() if isinstance(results, Mapping) else results
    return {"items": [result_document(name, result) for name, result in pairs]}
