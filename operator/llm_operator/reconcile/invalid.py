"""The status of an object of which nothing can be decided: its spec, or what belongs to it, cannot be read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import Condition, ConditionStatus, ConditionType, LLMDeploymentStatus
from llm_operator.reconcile.status import MESSAGE_LIMIT


def invalid_status(raw: Mapping[str, Any], problems: str, now: str) -> LLMDeploymentStatus:
    """Stalled with what is wrong; replicas and endpoint stay as they were, because nothing is touched.

    Args:
        raw: the object as JSON.
        problems: every field that is wrong, and how.
        now: RFC 3339 time in UTC.
    """
    generation = raw["metadata"].get("generation", 0)
    status = raw.get("status") or {}
    before = {entry.get("type"): entry for entry in status.get("conditions") or []}

    def condition(kind: ConditionType, state: ConditionStatus, reason: str, message: str) -> Condition:
        known = before.get(kind, {})
        return Condition(
            type=kind,
            status=state,
            observed_generation=generation,
            last_transition_time=known["lastTransitionTime"] if known.get("status") == state else now,
            reason=reason,
            message=message[:MESSAGE_LIMIT],
        )

    available = before.get("Available", {}).get("status", "Unknown")
    return LLMDeploymentStatus(
        observed_generation=generation,
        conditions=[
            condition("Ready", "False", "InvalidSpec", problems),
            condition("Reconciling", "False", "Stalled", ""),
            condition("Stalled", "True", "InvalidSpec", problems),
            condition("Planned", "Unknown", "InvalidSpec", "the spec cannot be read"),
            condition("Available", available, "InvalidSpec", "the last good workload is left as it is"),
        ],
        replicas=status.get("replicas", 0),
        ready_replicas=status.get("readyReplicas", 0),
        selector=status.get("selector"),
        endpoint=status.get("endpoint"),
    )


def unread_status(resource: LLMDeployment, message: str, now: str) -> LLMDeploymentStatus:
    """The status as it was, but Ready: what belongs to the object may not be read, so nothing is changed.

    Args:
        resource: the object.
        message: the API server's.
        now: RFC 3339 time in UTC.
    """
    before, generation = resource.status, resource.metadata.generation
    known = {entry.type: entry for entry in (before.conditions if before is not None else ())}
    text = f"nothing is changed while the operator lacks a right: {message}; grant it, as the chart's roles do"

    def condition(kind: ConditionType, state: ConditionStatus) -> Condition:
        same = kind in known and known[kind].status == state
        return Condition(
            type=kind,
            status=state,
            observed_generation=generation,
            last_transition_time=known[kind].last_transition_time if same else now,
            reason="ReadRefused",
            message=text[:MESSAGE_LIMIT],
        )

    new = {"Ready": condition("Ready", "Unknown"), "Reconciling": condition("Reconciling", "True")}
    conditions = [*new.values(), *(entry for kind, entry in known.items() if kind not in new)]
    status = before or LLMDeploymentStatus(observed_generation=0, conditions=[])
    return status.model_copy(update={"conditions": conditions})
