"""Which plan a Deployment's pods were rendered from: an annotation of the Deployment, not of the pods. Pure.

The plan of today's facts may be another one: a GPU was added, a branch has moved. What runs is described by its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import PlanStatus
from llm_operator.foreign import read_object
from llm_operator.manifests.common import ANNOTATION_PLAN, compact_json, inputs_hash
from llm_operator.reconcile.observed import Child, Observed
from llm_operator.reconcile.outcome import PlanOutcome

MESSAGE_CHARACTERS = 1024
VERDICTS = ("Fits", "DoesNotFit", "Unknown")


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan as it was when the pods were rendered; `status` has no explanation."""

    verdict: str
    reason: str
    message: str
    status: PlanStatus | None


def record_text(plan: PlanOutcome) -> str:
    """The annotation's value."""
    numbers = _numbers(plan.status)
    return compact_json(
        {
            "verdict": plan.verdict,
            "reason": plan.reason,
            "message": plan.message[:MESSAGE_CHARACTERS],
            "plan": numbers.to_json() if numbers is not None else None,
        }
    )


def recorded_text(child: Child | None) -> str | None:
    """The annotation as it is there; None where there is none: an older operator made the Deployment."""
    if child is None:
        return None
    text = child.body()["metadata"]["annotations"].get(ANNOTATION_PLAN)
    return text if isinstance(text, str) else None


def record_of(child: Child | None) -> PlanRecord | None:
    """The plan of what runs; None where it is not recorded, or the record cannot be read."""
    body = read_object(recorded_text(child))
    verdict, reason, message = body.get("verdict"), body.get("reason"), body.get("message")
    if verdict not in VERDICTS or not isinstance(reason, str) or not isinstance(message, str):
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
    child = observed.deployment
    record = record_of(child)
    if child is None or record is None or record.verdict != "Unknown":
        return False
    if child.status.get("observedGeneration", 0) < child.generation:
        return False
    if child.status.get("readyReplicas", 0) and child.status.get("updatedReplicas") == child.status.get("replicas"):
        return False
    pods = [pod for pod in observed.pods if pod.inputs == inputs_hash(resource)]
    if not pods and not child.status.get("replicas", 0):
        return True
    # The Deployment controller says so once all new pods have been available, and keeps it (Kubernetes 1.36).
    condition = child.conditions.get("Progressing")
    served = condition is not None and condition.reason == "NewReplicaSetAvailable"
    return not served and not any(pod.ready for pod in pods)


def _numbers(status: PlanStatus | None) -> PlanStatus | None:
    return status.model_copy(update={"explanation": None}) if status is not None else None
