"""The planner's front door: a request in; verdict, numbers and counter-offers out."""

from __future__ import annotations

from dataclasses import replace

from llm_operator.memory.calibration import NOTHING_LEARNED
from llm_operator.memory.types import PlanRequest
from llm_operator.planning.offers import counter_offers
from llm_operator.planning.types import PlanResult, Verdict
from llm_operator.planning.verdict import check, decide


def plan(request: PlanRequest, *, offers: bool = True) -> PlanResult:
    """Say whether `request` fits, with which numbers, and what would fit instead.

    offers: compute counter-offers if it does not fit. Raises PlanInputError for a request that makes no sense.
    """
    check(request)
    result = decide(request)
    if request.calibration.records:
        # What was measured makes numbers better: it refuses nothing that the constants let through, and lets nothing
        # through, or on fewer GPUs, that they refuse.
        without = decide(replace(request, calibration=NOTHING_LEARNED))
        if result.verdict is not without.verdict or _gpus(result) < _gpus(without):
            result = without
    if offers and result.verdict is Verdict.DOES_NOT_FIT:
        return replace(result, counter_offers=counter_offers(request))
    return result


def _gpus(result: PlanResult) -> int:
    return result.plan.tensor if result.plan is not None else 0


def unknown(reason: str) -> PlanResult:
    """Return the verdict on something about which nothing can be computed; it blocks no one."""
    return PlanResult(Verdict.UNKNOWN, (reason,))
