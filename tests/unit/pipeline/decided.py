"""What a decision holds."""

from __future__ import annotations

from typing import Any

from llm_operator.api.resource import LLMDeployment
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.decision import Decision
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.situation import Situation
from llm_operator.reconcile.status import status_of
from tests.support.build import NOW, plan
from tests.support.model_jobs import (
    TOOLS,
)

AWQ: dict[str, Any] = {"method": "AWQ"}


def kinds(decision: Decision) -> list[tuple[str, str]]:
    return [(apply.body["kind"], apply.body["metadata"]["name"]) for apply in decision.applies]


def conditions(of: LLMDeployment, observed: Observed, outcome: PlanOutcome | None = None) -> dict[str, tuple[str, str]]:
    outcome = outcome or plan(of)
    situation = Situation(of, observed, decide(of, observed, outcome, TOOLS), outcome)
    return {entry.type: (entry.status, entry.reason) for entry in status_of(situation, NOW).conditions}


def container(decision: Decision, name: str = "engine") -> dict[str, Any]:
    assert decision.template is not None
    spec = decision.template["spec"]
    found: dict[str, Any] = next(
        one for one in [*spec["containers"], *spec.get("initContainers", [])] if one["name"] == name
    )
    return found
