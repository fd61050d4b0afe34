"""The whole status of an LLMDeployment, computed anew from what is seen. Pure: the time comes in as an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llm_operator.api.finding import Finding
from llm_operator.api.status import (
    Condition,
    EngineStatus,
    LLMDeploymentStatus,
    ModelStatus,
    ProgressStatus,
    WebUIStatus,
)
from llm_operator.foreign import read_object
from llm_operator.live.start_faults import REASONS
from llm_operator.manifests.chat_page import page_endpoint
from llm_operator.manifests.common import (
    ANNOTATION_ENGINE,
    JSON,
    LABEL_DEPLOYMENT,
    container_of,
)
from llm_operator.manifests.model_volume import Prepared
from llm_operator.manifests.pod import CONTAINER
from llm_operator.manifests.service import endpoint
from llm_operator.pipeline.damage import damage_findings
from llm_operator.pipeline.status import cache_status, quantization_status, stage_findings
from llm_operator.problems import Problem, together
from llm_operator.reconcile.drift import drift_findings
from llm_operator.reconcile.exposure import exposure_findings
from llm_operator.reconcile.health import NOT_SEEN_YET
from llm_operator.reconcile.page import page_findings
from llm_operator.reconcile.questions import is_unheard
from llm_operator.reconcile.ready import ready_findings
from llm_operator.reconcile.rendered import applied_template, prepared_of
from llm_operator.reconcile.shown_plan import known_plan, plan_finding, plan_status
from llm_operator.reconcile.situation import Progress, Situation, progress_of

MESSAGE_LIMIT = 4096
HEARD = frozenset(
    {*REASONS, "ClaimUnbound", "SecretMissing", "ConfigMapMissing", "SecretKeyMissing", "ConfigMapKeyMissing"}
)
"""Reasons that events tell, wholly or in part."""
ARGUMENT_LIMIT = 2048
"""Of an argument in status.engine.args."""


def status_of(situation: Situation, now: str) -> LLMDeploymentStatus:
    """The status to be shown; equal to the one before when nothing changed.

    Args:
        situation: the object, what is seen of it, and what was decided.
        now: the time as RFC 3339 in UTC; only conditions whose status changed carry it.
    """
    resource, decision = situation.resource, situation.decision
    shown = situation.before
    if shown is not None and (_stands(situation) or _was_heard(situation)):
        return shown
    progress = progress_of(situation)
    known = known_plan(situation)
    before = {condition.type: condition for condition in (shown.conditions if shown else ())}
    findings = judge(situation, progress)
    prepared = _prepared(situation)
    return LLMDeploymentStatus(
        observed_generation=resource.metadata.generation,
        conditions=[
            _dated(finding, before.get(finding.type), resource.metadata.generation, now) for finding in findings
        ],
        replicas=progress.total,
        ready_replicas=progress.ready,
        selector=f"{LABEL_DEPLOYMENT}={resource.metadata.name}",
        endpoint=endpoint(resource),
        web_ui=WebUIStatus(endpoint=page_endpoint(resource)) if resource.spec.web_ui is not None else None,
        engine=engine_of_template(decision.template or applied_template(resource, situation.observed)),
        plan=plan_status(situation, known),
        model=_model_status(known.model if known else situation.plan.model, prepared),
        cache=cache_status(prepared),
        quantization=quantization_status(prepared),
        progress=None if progress.complete else situation.progress or _start_progress(situation),
        measured=situation.measured,
    )


def judge(situation: Situation, progress: Progress) -> tuple[Finding, ...]:
    """All conditions, each with its reason; the first visit already writes every one."""
    return (
        *ready_findings(situation, progress),
        plan_finding(situation),
        *(Finding(*entry) for entry in stage_findings(situation.decision.preparation, _prepared(situation))),
        _available(progress),
        *_health(situation),
        *page_findings(situation.resource, situation.observed, _page_trouble(situation)),
        *exposure_findings(situation.resource, policed=situation.policed),
        *damage_findings(situation.resource, situation.observed.jobs, _before(situation, "ModelDamaged")),
        *drift_findings(situation.drift),
    )


def _health(situation: Situation) -> tuple[Finding, ...]:
    """Whether what serves also works; what was said stands while a restarted operator has not looked yet."""
    found, said = situation.health, _before(situation, "Healthy")
    if found is None:
        return ()
    if found.reason == NOT_SEEN_YET and said is not None and said.reason != "NoReadyReplica":
        return (Finding("Healthy", said.status, said.reason, said.message),)
    return (found,)


def _before(situation: Situation, kind: str) -> Condition | None:
    """A condition as it was reported last."""
    conditions = situation.before.conditions if situation.before is not None else ()
    return next((one for one in conditions if one.type == kind), None)


def _page_trouble(situation: Situation) -> Problem | None:
    """Why the chat page is not, or no longer, written as the object asks."""
    return together(situation.decision.page_refusals) or situation.page_blocked


def _start_progress(situation: Situation) -> ProgressStatus | None:
    return situation.start[0].progress if situation.start is not None else None


def _prepared(situation: Situation) -> Prepared | None:
    """The prepared model that is, or is about to be, served."""
    preparation = situation.decision.preparation
    if preparation is not None:
        return preparation.prepared
    return prepared_of(situation.decision.template or applied_template(situation.resource, situation.observed))


def _model_status(model: ModelStatus | None, prepared: Prepared | None) -> ModelStatus | None:
    """What the files tell, with the commit that really was fetched."""
    if prepared is None or prepared.revision is None:
        return model
    return (model or ModelStatus()).model_copy(update={"resolved_revision": prepared.revision})


def _available(progress: Progress) -> Finding:
    if progress.ready > 0:
        several = progress.ready != 1
        text = f"{progress.ready} replica{'s' * several} available"
        return Finding("Available", "True", "Serving", text)
    if progress.wanted == 0:
        return Finding("Available", "False", "Stopped", "replicas is 0")
    return Finding("Available", "False", "NoReadyReplica", "no replica is available")


def _stands(situation: Situation) -> bool:
    """Whether the status of an object that nothing runs of stays while a restarted operator gathers the facts for it.

    What it says is why nothing runs, such as a plan that does not fit. To say less for a moment would be two writes
    and a new warning for each such object whenever the operator restarts.
    """
    if situation.plan.verdict != "Pending" or not situation.decision.held or situation.decision.preparation is not None:
        return False
    ready = _ready_before(situation)
    said = ready is not None and ready.status != "True" and ready.reason != "Planning"
    return said and situation.observed.workload is None


def _was_heard(situation: Situation) -> bool:
    """Whether the status stands until a restarted operator has heard again what something waits for."""
    ready = _ready_before(situation)
    said = ready is not None and ready.status == "False" and ready.reason in HEARD
    return said and is_unheard(situation.observed)


def _ready_before(situation: Situation) -> Condition | None:
    """Ready as it was reported last, of the present generation."""
    status = situation.before
    current = status is not None and status.observed_generation == situation.resource.metadata.generation
    return _before(situation, "Ready") if current else None


def _dated(finding: Finding, before: Condition | None, generation: int, now: str) -> Condition:
    unchanged = before is not None and before.status == finding.status
    return Condition(
        type=finding.type,
        status=finding.status,
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before is not None and unchanged else now,
        reason=finding.reason,
        message=finding.message[:MESSAGE_LIMIT],
    )


def engine_of_template(template: JSON | None) -> EngineStatus | None:
    """What a pod template runs, as the status shows it; None without one."""
    if template is None:
        return None
    engine: Mapping[str, str | None] = read_object(template["metadata"]["annotations"][ANNOTATION_ENGINE])
    container = container_of(template, CONTAINER)
    return EngineStatus(
        type=str(engine["type"]),
        backend=engine.get("backend"),
        version=str(engine["version"]),
        image=container["image"],
        # A dollar is written as two: what the spec takes may be twice as long here.
        args=[text[:ARGUMENT_LIMIT] for text in container["args"]],
    )


def transitions(before: Iterable[Condition], after: Iterable[Condition]) -> list[Condition]:
    """The conditions worth an event: Ready, Stalled and Drifted that changed, and engines that stop to work."""
    known = {condition.type: (condition.status, condition.reason) for condition in before}
    return [
        condition
        for condition in after
        if known.get(condition.type) != (condition.status, condition.reason)
        and _is_news(condition, first=condition.type not in known)
    ]


def _is_news(condition: Condition, *, first: bool) -> bool:
    if condition.type == "Ready":
        return not (first and condition.reason == "Progressing")
    # That the trouble has ended, Ready says.
    worst = {"Stalled": "True", "Drifted": "True", "Healthy": "False"}
    return worst.get(condition.type) == condition.status
