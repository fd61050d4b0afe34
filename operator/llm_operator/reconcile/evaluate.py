"""From a snapshot to what is to be done, and from what became of that to the status. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import LLMDeploymentStatus
from llm_operator.live.pods import Pod
from llm_operator.manifests.common import JSON, inputs_hash
from llm_operator.manifests.model_volume import FETCHER
from llm_operator.manifests.tools import CONTAINER
from llm_operator.pipeline.inspection import inspection
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.decision import Decision
from llm_operator.reconcile.health import guards, health_of, serving_pods
from llm_operator.reconcile.last_words import deaths, with_last_words
from llm_operator.reconcile.measured import measured, pod_to_measure
from llm_operator.reconcile.model_facts import model_of
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.plan_facts import Planned, planned
from llm_operator.reconcile.plan_record import record_of
from llm_operator.reconcile.questions import subjects, with_heard
from llm_operator.reconcile.rendered import applied_template, expected_inputs, prepared_of
from llm_operator.reconcile.situation import Situation
from llm_operator.reconcile.snapshot import Executed, Outcome, Snapshot
from llm_operator.reconcile.starting import loading_pod
from llm_operator.reconcile.status import engine_of_template, status_of
from llm_operator.reconcile.wants import Loading, LogSource, Measuring, Rendered, Serving, Wants

MISSING_CLAIM_SECONDS = 5.0
"""Claims are not watched: one that is missing is looked up again at this pace."""


def evaluate(snapshot: Snapshot, now: datetime) -> Outcome:
    """What is to be written, and what is to be followed until the next look.

    Args:
        snapshot: everything that is known.
        now: the time in UTC.
    """
    resource, tools = snapshot.resource, snapshot.tools
    observed = seen(snapshot)
    plan = planned(resource, snapshot.facts, inspection(resource, observed, tools), now)
    decision = decide(resource, observed, plan.outcome, tools)
    return Outcome(
        decision,
        plan.outcome,
        _wants(snapshot, decision, plan),
        plan.hold,
        _look_again(snapshot, decision, plan, now),
    )


def seen(snapshot: Snapshot) -> Observed:
    """What is observed, with what dead engines said last and what was said of what waits."""
    observed = with_heard(snapshot.observed, snapshot.heard)
    return with_last_words(observed, snapshot.last_words, snapshot.resource.spec.engine.type)


def status_after(
    snapshot: Snapshot, outcome: Outcome, executed: Executed, before: LLMDeploymentStatus | None, now: str
) -> LLMDeploymentStatus:
    """The status to be shown.

    Args:
        snapshot: what the outcome was evaluated from.
        outcome: what was to be done.
        executed: what became of it.
        before: the status that is shown. Times of conditions, and what a restarted operator has not found out again
            yet, are taken over from it.
        now: the time as RFC 3339 in UTC.
    """
    resource, observed = snapshot.resource, executed.seen_in(seen(snapshot))
    pod = _to_measure(resource, observed)
    situation = Situation(
        resource,
        observed,
        executed.left,
        outcome.plan,
        before=before,
        blocked=executed.blocked.get("engine"),
        measured=measured(pod, snapshot.reading, before.measured if before is not None else None),
        page_blocked=executed.blocked.get("chat"),
        drift=executed.drift,
        progress=snapshot.progress.get(outcome.wants.log) if outcome.wants.log is not None else None,
        policed=snapshot.tools.network.enabled,
        start=snapshot.start,
        health=health_of(resource, observed.pods, snapshot.vitals, snapshot.silent_seconds),
    )
    return status_of(situation, now)


def log_sources(resource: LLMDeployment, observed: Observed) -> tuple[LogSource, ...]:
    """Every log that may tell how far a stage is."""
    tools = (pod for job in observed.jobs.values() for pod in job.pods)
    return (*_running(resource, tools), *_fetching(resource, observed))


def _look_again(snapshot: Snapshot, decision: Decision, plan: Planned, now: datetime) -> float | None:
    """The earliest time of those that nothing reports."""
    times = [snapshot.look_again_seconds] if snapshot.look_again_seconds is not None else []
    if decision.preparation is not None and decision.preparation.claim_missing:
        times.append(MISSING_CLAIM_SECONDS)
    if plan.hold is not None and now < plan.hold.until:
        times.append((plan.hold.until - now).total_seconds())
    return min(times, default=None)


def _wants(snapshot: Snapshot, decision: Decision, plan: Planned) -> Wants:
    resource, observed = snapshot.resource, snapshot.observed
    engine = resource.spec.engine.type
    loading, serving = loading_pod(observed), serving_pods(observed.pods)
    template = decision.template or applied_template(resource, observed)
    return Wants(
        inputs=inputs_hash(resource),
        resource_name=resource.spec.gpu.resource_name,
        model=model_of(resource.spec),
        log=_followed(snapshot, decision),
        # As the kubelet reports them: what was read of them must not end the reading.
        deaths=deaths(observed, engine),
        events=subjects(observed),
        loading=Loading(loading, _size(template, plan.outcome)) if loading is not None else None,
        serving=Serving(engine, serving) if not guards(resource) else None,
        measuring=_measuring(resource, observed, template, plan),
    )


def _size(template: JSON | None, plan: PlanOutcome) -> int | None:
    """Bytes of the files that an engine reads."""
    prepared = prepared_of(template)
    if prepared is not None and prepared.bytes:
        return prepared.bytes
    return plan.model.weight_bytes if plan.model is not None else None


def _to_measure(resource: LLMDeployment, observed: Observed) -> Pod | None:
    """The pod whose word on its KV cache is taken; None: none serves."""
    if not any(pod.ready for pod in observed.pods):
        return None
    return pod_to_measure(observed.pods, expected_inputs(resource, observed))


def _measuring(resource: LLMDeployment, observed: Observed, template: JSON | None, plan: Planned) -> Measuring | None:
    pod = _to_measure(resource, observed)
    if pod is None:
        return None
    running = engine_of_template(template)
    record = record_of(observed)
    numbers = record.status if record is not None else plan.outcome.status
    backend = running.backend if running is not None else resource.spec.engine.backend
    rendered = None
    if plan.request is not None and numbers is not None and running is not None:
        args = tuple(running.args)
        rendered = Rendered(plan.request, running.version, args, numbers.tensor, numbers.context_length)
    per_token = numbers.kv_bytes_per_token if numbers is not None else None
    return Measuring(pod, resource.spec.engine.type, backend, per_token, rendered)


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
