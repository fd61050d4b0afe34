"""What the conditions of one object are judged from, and how many of its replicas are there. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from llm_operator.api.finding import Finding
from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import (
    LLMDeploymentStatus,
    MeasuredStatus,
    ProgressStatus,
)
from llm_operator.live.pods import Pod
from llm_operator.manifests.common import (
    LABEL_INPUTS,
    inputs_hash,
)
from llm_operator.manifests.restart import restart_of
from llm_operator.pipeline.job_view import ENDED
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.problems import Problem
from llm_operator.reconcile.decision import Decision
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.starting import Start
from llm_operator.reconcile.workload import counts_of


@dataclass(frozen=True, slots=True)
class Progress:
    """How many replicas of what are there."""

    wanted: int
    total: int
    ready: int
    """Pods, of whichever spec, that answer."""
    current: int
    """Pods of the current spec that answer."""
    settled: bool
    """Everything is written, the Deployment controller has seen the latest template, no pod of an older one is left."""

    @property
    def complete(self) -> bool:
        """Every wanted replica serves the current spec and nothing else runs."""
        return self.settled and self.current == self.wanted == self.total


@dataclass(frozen=True, slots=True)
class Situation:
    """What the conditions are judged from."""

    resource: LLMDeployment
    observed: Observed
    decision: Decision
    plan: PlanOutcome
    before: LLMDeploymentStatus | None = None
    """The status that is shown; for what is not known yet, and the times of conditions."""
    blocked: Problem | None = None
    """A write that the API server refused."""
    measured: MeasuredStatus | None = None
    page_blocked: Problem | None = None
    """A write of the chat page that the API server refused."""
    drift: tuple[Problem, ...] = ()
    """What of the children is not as it should be, and is left so."""
    progress: ProgressStatus | None = None
    """How far the stage before serving is that runs now."""
    policed: bool = True
    """The operator makes NetworkPolicies."""
    start: tuple[Start, bool] | None = None
    """The engine that loads, and whether it does not get on; None if none loads or nothing is known of it."""
    health: Finding | None = None
    """Whether what serves also works, where somebody looks."""


def progress_of(situation: Situation) -> Progress:
    """How many replicas of what are there."""
    resource, child = situation.resource, situation.observed.workload
    wanted = resource.spec.replicas
    if child is None:
        return Progress(wanted, 0, 0, 0, settled=False)
    counts = counts_of(child)
    total, ready = counts.total, counts.ready
    # What is left to write was refused. Pods may serve well without it, and a Service of another object lead elsewhere.
    written = not situation.decision.unwritten
    settled = counts.seen and written and situation.decision.template is not None and total == counts.updated
    # Only when no old pod is left is every ready pod one of the current spec; before that the pods themselves tell.
    if settled:
        return Progress(wanted, total, ready, ready, settled=True)
    current = sum(pod.ready for pod in current_pods(situation))
    return Progress(wanted, total, ready, current, settled=False)


def current_pods(situation: Situation) -> list[Pod]:
    """The pods of the template that should run."""
    template = situation.decision.template
    inputs = template["metadata"]["labels"][LABEL_INPUTS] if template else inputs_hash(situation.resource)
    pods = [pod for pod in situation.observed.pods if pod.inputs == inputs]
    return pods if template is None else [pod for pod in pods if pod.restarted_at == restart_of(template)]


def ending(situation: Situation) -> int:
    """Pods that are going away and hold their GPUs until they have ended: a new one may find none.

    One whose containers have ended holds nothing, for however long a finalizer keeps it.
    """
    return sum(pod.deleting and pod.phase not in ENDED for pod in situation.observed.pods)
