"""From a snapshot to what is to be done, and from what became of that to the status. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import LLMDeploymentStatus
from llm_operator.live.pods import Pod
from llm_operator.manifests.model_volume import FETCHER
from llm_operator.manifests.tools import CONTAINER
from llm_operator.reconcile.decide import Decision, decide
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.snapshot import Executed, LogSource, Outcome, Snapshot
from llm_operator.reconcile.status import Situation, status_of

MISSING_CLAIM_SECONDS = 5.0
"""Claims are not watched: one that is missing is looked up again at this pace."""


def evaluate(snapshot: Snapshot) -> Outcome:
    """What is to be written, and what is to be followed until the next look."""
    decision = decide(snapshot.resource, snapshot.observed, snapshot.plan, snapshot.tools)
    claim_missing = decision.preparation is not None and decision.preparation.claim_missing
    return Outcome(decision, _followed(snapshot, decision), MISSING_CLAIM_SECONDS if claim_missing else None)


def status_after(snapshot: Snapshot, outcome: Outcome, executed: Executed, now: str) -> LLMDeploymentStatus:
    """The status to be shown.

    Args:
        snapshot: what the outcome was evaluated from.
        outcome: what was to be done.
        executed: what became of it.
        now: the time as RFC 3339 in UTC.
    """
    situation = Situation(
        snapshot.resource,
        executed.seen_in(snapshot.observed),
        executed.left,
        snapshot.plan,
        blocked=executed.blocked.get("engine"),
        measured=snapshot.measured,
        page_blocked=executed.blocked.get("chat"),
        drift=executed.drift,
        progress=snapshot.progress.get(outcome.follow) if outcome.follow is not None else None,
        policed=snapshot.tools.network.enabled,
        start=snapshot.start,
        health=snapshot.health,
    )
    return status_of(situation, now)


def log_sources(resource: LLMDeployment, observed: Observed) -> tuple[LogSource, ...]:
    """Every log that may tell how far a stage is."""
    tools = (pod for job in observed.jobs.values() for pod in job.pods)
    return (*_running(resource, tools), *_fetching(resource, observed))


def _followed(snapshot: Snapshot, decision: Decision) -> LogSource | None:
    """The log of the stage that runs; None if none runs."""
    resource, observed, preparation = snapshot.resource, snapshot.observed, decision.preparation
    running = preparation.running if preparation is not None and preparation.prepared is None else None
    sources: tuple[LogSource, ...] = ()
    if running is not None and running.job in observed.jobs:
        sources = _running(resource, observed.jobs[running.job].pods)
    elif decision.template is not None:
        sources = _fetching(resource, observed)
    return sources[0] if sources else None


def _running(resource: LLMDeployment, pods: Iterable[Pod]) -> tuple[LogSource, ...]:
    """Logs of the model tools."""
    return tuple(LogSource(resource.metadata.namespace, pod.name, CONTAINER) for pod in pods if pod.running)


def _fetching(resource: LLMDeployment, observed: Observed) -> tuple[LogSource, ...]:
    """Logs of the containers that fetch a model in the engine's own pods."""
    pods = (pod for pod in observed.pods if pod.initializing == FETCHER and not pod.deleting)
    return tuple(LogSource(resource.metadata.namespace, pod.name, FETCHER) for pod in pods)
