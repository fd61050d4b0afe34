"""What objects want of the sources, and what these know, as the reconciler sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from llm_operator.api.resource import LLMDeployment
from llm_operator.facts import Unknowable
from llm_operator.manifests.common import inputs_hash
from llm_operator.reconcile.evaluate import evaluate
from llm_operator.reconcile.model_facts import not_inspected
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.plan_facts import PlanFacts
from llm_operator.reconcile.snapshot import Snapshot
from llm_operator.reconcile.wants import Wants

AT = datetime(2026, 1, 1, tzinfo=UTC)


def facts(of: LLMDeployment) -> PlanFacts:
    """Nothing can be known of its model and its GPU."""
    return PlanFacts(not_inspected(of.spec), Unknowable("GPUUnknown", "no GPU is known"))


def wants(of: LLMDeployment, **fields: Any) -> Wants:
    """What an object wants, by name."""
    return Wants(inputs_hash(of), of.spec.gpu.resource_name, **fields)


def wanted(of: LLMDeployment, observed: Observed) -> Wants:
    """What is wanted of an object after one look at it."""
    return evaluate(Snapshot(of.without_status(), observed, facts(of)), AT).wants
