"""The condition Planned and status.plan: the plan of what runs, of today's facts, or the one shown before. Pure."""

from __future__ import annotations

from llm_operator.api.finding import Finding
from llm_operator.api.status import (
    ConditionStatus,
    LLMDeploymentStatus,
    PlanStatus,
)
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.measured import deviation
from llm_operator.reconcile.plan_record import PlanRecord, agrees, record_of
from llm_operator.reconcile.situation import Situation


def known_plan(situation: Situation) -> LLMDeploymentStatus | None:
    """The status with this generation's plan, while a restarted operator still gathers the facts for it."""
    status, meta = situation.before, situation.resource.metadata
    if situation.plan.verdict != "Pending" or status is None:
        return None
    # What keeps a new object waiting is news.
    if situation.plan.for_now and situation.decision.template is None:
        return None
    # What runs was planned from the same inputs, whatever else the generation changed.
    if status.observed_generation != meta.generation and situation.decision.template is None:
        return None
    return status if any(entry.type == "Planned" for entry in status.conditions) else None


def _running_plan(situation: Situation) -> PlanRecord | None:
    """The plan of what runs, if it is another one than that of today's facts."""
    if situation.decision.template is None:
        return None
    record = record_of(situation.observed)
    return None if record is None or agrees(record, situation.plan) else record


def plan_status(situation: Situation, known: LLMDeploymentStatus | None) -> PlanStatus | None:
    """The plan to be shown.

    Args:
        situation: the object, and what was decided.
        known: the status whose plan stands, see known_plan().
    """
    record = _running_plan(situation)
    if record is None:
        return known.plan if known else situation.plan.status
    before = situation.before.plan if situation.before else None
    # The record has no explanation; the status may still have it.
    same = before is not None and before.model_copy(update={"explanation": None}) == record.status
    return before if same else record.status


def _of_another_plan(record: PlanRecord, plan: PlanOutcome) -> str:
    """What is said beside the plan of what runs."""
    if plan.verdict in ("Pending", "Unknown"):
        return record.message
    verdict = "" if plan.verdict == "Fits" else f"{plan.reason}: "
    return (
        f"{record.message}; by what is known today the plan is another: {verdict}{plan.message}; it takes effect with "
        "the next change of the spec that replaces the pods"
    )


def plan_finding(situation: Situation) -> Finding:
    """The condition Planned."""
    plan = situation.plan
    verdicts: dict[str, ConditionStatus] = {"Fits": "True", "DoesNotFit": "False"}
    record = _running_plan(situation)
    if record is not None:
        text = _with_deviation(_of_another_plan(record, plan), record.status, situation)
        return Finding("Planned", verdicts.get(record.verdict, "Unknown"), record.reason, text)
    known = known_plan(situation)
    if known is not None:
        before = next(entry for entry in known.conditions if entry.type == "Planned")
        return Finding("Planned", before.status, before.reason, before.message)
    text = _with_deviation(plan.message, plan.status, situation)
    return Finding("Planned", verdicts.get(plan.verdict, "Unknown"), plan.reason, text)


def _with_deviation(message: str, plan: PlanStatus | None, situation: Situation) -> str:
    """A message, with how far what runs differs from the plan."""
    differs = deviation(plan, situation.measured)
    return f"{message}; {differs}" if differs else message
