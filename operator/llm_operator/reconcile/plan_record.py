"""Which plan an engine's pods were rendered from: a part of their revision. Pure.

The plan of today's facts may be another one: a GPU was added, a branch has moved. What runs is described by its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import PlanStatus
from llm_operator.manifests.common import inputs_hash
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.running import kept_of
from llm_operator.reconcile.workload import counts_of, workload_of

MESSAGE_CHARACTERS = 1024
VERDICTS = ("Fits", "DoesNotFit", "Unknown")


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan as it was when the pods were rendered; `status` has no explanation."""

    verdict: str
    reason: str
    message: str
    status: PlanStatus | None


def record(plan: PlanOutcome) -> dict[str, Any]:
    """A plan as a revision keeps it."""
    numbers = _numbers(plan.status)
    return {
        "verdict": plan.verdict,
        "reason": plan.reason,
        "message": plan.message[:MESSAGE_CHARACTERS],
        "plan": numbers.to_json() if numbers is not None else None,
    }


def record_of(observed: Observed) -> PlanRecord | None:
    """The plan of what runs; None if it is not recorded, or the record cannot be read."""
    kept = kept_of(observed)
    return read_record(kept.plan) if kept is not None and kept.plan is not None else None


def read_record(body: Mapping[str, Any]) -> PlanRecord | None:
    """A record as somebody may have written it; None if it cannot be read."""
    verdict, reason, message = body.get("verdict"), body.get("reason"), body.get("message")
    if (
        not isinstance(verdict, str)
        or verdict not in VERDICTS
        or not isinstance(reason, str)
        or not isinstance(message, str)
    ):
        return None
    if not reason.isalnum() or not reason.isascii() or not reason[:1].isalpha() or len(reason) > 64:
        return None
    try:
        plan = body.get("plan")
        status = PlanStatus.model_validate(plan, by_alias=True, by_name=False) if plan is not None else None
    except ValidationError:
        return None
    return PlanRecord(verdict, reason, message[:MESSAGE_CHARACTERS], status)


def agrees(record: PlanRecord, plan: PlanOutcome) -> bool:
    """Whether the plan of today's facts is the one of what runs."""
    return record.verdict == plan.verdict and record.status == _numbers(plan.status)


def provisional(resource: LLMDeployment, observed: Observed) -> bool:
    """Whether the pods were rendered without a plan and have never been Ready: they are rendered again with one."""
    child = observed.workload
    record = record_of(observed)
    if child is None or record is None or record.verdict != "Unknown":
        return False
    counts = counts_of(child)
    if not counts.seen or (counts.ready and counts.updated == counts.total):
        return False
    pods = [pod for pod in observed.pods if pod.inputs == inputs_hash(resource)]
    if not pods and not counts.total:
        return True
    return not workload_of(child).has_served(child) and not any(pod.ready for pod in pods)


def _numbers(status: PlanStatus | None) -> PlanStatus | None:
    return status.model_copy(update={"explanation": None}) if status is not None else None
