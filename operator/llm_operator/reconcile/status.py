"""The whole status of an LLMDeployment, computed anew from what is seen. Pure: the time comes in as an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llm_operator.api.finding import Finding
from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import (
    Condition,
    ConditionStatus,
    EngineStatus,
    LLMDeploymentStatus,
    MeasuredStatus,
    ModelStatus,
    PlanStatus,
    ProgressStatus,
    WebUIStatus,
)
from llm_operator.foreign import read_object
from llm_operator.live.pods import Pod
from llm_operator.live.scheduling import asked_by
from llm_operator.manifests.chat_page import page_endpoint
from llm_operator.manifests.common import (
    ANNOTATION_ENGINE,
    JSON,
    LABEL_DEPLOYMENT,
    LABEL_INPUTS,
    container_of,
    inputs_hash,
)
from llm_operator.manifests.model_volume import Prepared
from llm_operator.manifests.pod import CONTAINER
from llm_operator.manifests.restart import restart_of
from llm_operator.manifests.service import endpoint
from llm_operator.pipeline.damage import damage_findings
from llm_operator.pipeline.status import cache_status, quantization_status, stage_findings
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.problems import Problem, together
from llm_operator.reconcile.decide import Decision, applied_template, prepared_of
from llm_operator.reconcile.diagnose import trouble_of
from llm_operator.reconcile.drift import drift_findings
from llm_operator.reconcile.exposure import exposure_findings
from llm_operator.reconcile.health import NOT_SEEN_YET
from llm_operator.reconcile.measured import deviation
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.page import page_findings
from llm_operator.reconcile.plan_record import PlanRecord, agrees, record_of
from llm_operator.reconcile.starting import Start, stuck_message
from llm_operator.reconcile.workload import counts_of, workload_of

MESSAGE_LIMIT = 4096
ARGUMENT_LIMIT = 2048
"""Of an argument in status.engine.args."""


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


def status_of(situation: Situation, now: str) -> LLMDeploymentStatus:
    """The status to be shown; equal to the one before when nothing changed.

    Args:
        situation: the object, what is seen of it, and what was decided.
        now: the time as RFC 3339 in UTC; only conditions whose status changed carry it.
    """
    resource, decision = situation.resource, situation.decision
    shown = situation.before
    if shown is not None and _stands(situation, shown):
        return shown
    progress = _progress(situation)
    known = _known_plan(situation)
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
        plan=_plan_status(situation, known),
        model=_model_status(known.model if known else situation.plan.model, prepared),
        cache=cache_status(prepared),
        quantization=quantization_status(prepared),
        progress=None if progress.complete else situation.progress or _start_progress(situation),
        measured=situation.measured,
    )


def judge(situation: Situation, progress: Progress) -> tuple[Finding, ...]:
    """All conditions, each with its reason; the first visit already writes every one."""
    trouble = _trouble(situation)
    ready = _ready(situation, progress, trouble)
    parked = _is_parked(progress, trouble)
    stalled = trouble is not None and trouble.stalls and not progress.complete
    reconciling = not stalled and not progress.complete and not parked
    return (
        ready,
        Finding("Reconciling", "True", ready.reason, ready.message)
        if reconciling
        else Finding("Reconciling", "False", "Stalled" if stalled else "UpToDate", ""),
        Finding("Stalled", "True", trouble.reason, trouble.text)
        if stalled and trouble is not None
        else Finding("Stalled", "False", "Progressing" if reconciling else "UpToDate", ""),
        _planned(situation),
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


def _progress(situation: Situation) -> Progress:
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
    current = sum(pod.ready for pod in _current_pods(situation))
    return Progress(wanted, total, ready, current, settled=False)


def _current_pods(situation: Situation) -> list[Pod]:
    """The pods of the template that should run."""
    template = situation.decision.template
    inputs = template["metadata"]["labels"][LABEL_INPUTS] if template else inputs_hash(situation.resource)
    pods = [pod for pod in situation.observed.pods if pod.inputs == inputs]
    return pods if template is None else [pod for pod in pods if pod.restarted_at == restart_of(template)]


def _page_trouble(situation: Situation) -> Problem | None:
    """Why the chat page is not, or no longer, written as the object asks."""
    return together(situation.decision.page_refusals) or situation.page_blocked


def _trouble(situation: Situation) -> Problem | None:
    decision, plan = situation.decision, situation.plan
    refused = together(decision.refusals)
    if refused is not None:
        return refused
    if decision.waiting is not None:
        return decision.waiting
    if decision.held and plan.verdict == "DoesNotFit":
        return Problem(plan.reason, plan.message, "Error")
    if situation.blocked is not None:
        return situation.blocked
    if decision.preparation is not None and decision.preparation.prepared is None:
        return decision.preparation.trouble
    return _pods_trouble(situation)


def _pods_trouble(situation: Situation) -> Problem | None:
    """What keeps the pods of the current spec from serving, or from existing."""
    child = situation.observed.workload
    refused = workload_of(child).refused(child) if child is not None else None
    if refused is not None:
        return refused
    template = situation.decision.template
    claims = tuple(claim for claim in situation.observed.claims.values() if claim is not None)
    asked = asked_by(template["spec"] if template else None, situation.plan.other_gpus, claims)
    trouble = trouble_of(_current_pods(situation), situation.resource.spec.engine.type, asked)
    if trouble is None:
        return workload_of(child).overdue(child) if child is not None else None
    # A new pod that finds no GPU while its predecessor still ends is a roll, not an alarm.
    return None if trouble.reason == "Unschedulable" and _ending(situation) else trouble


def _is_parked(progress: Progress, trouble: Problem | None) -> bool:
    """Nothing runs, as the spec asks, and what would keep it from running may pass by itself."""
    return progress.wanted == progress.total == 0 and trouble is not None and not trouble.stalls


def _ready(situation: Situation, progress: Progress, trouble: Problem | None) -> Finding:
    if progress.complete:
        if progress.wanted == 0:
            return Finding("Ready", "True", "Stopped", "replicas is 0: no pods, as configured")
        return Finding("Ready", "True", "ReplicasReady", f"{progress.current} of {progress.wanted} replicas ready")
    if trouble is not None and _is_parked(progress, trouble):
        text = f"replicas is 0: no pods, as configured; what would prevent a start: {trouble.text}"
        return Finding("Ready", "True", "Stopped", text)
    if trouble is not None:
        return Finding("Ready", "False", trouble.reason, trouble.text)
    if situation.decision.held:
        return Finding("Ready", "Unknown", *_held(situation))
    return _under_way(situation, progress)


def _under_way(situation: Situation, progress: Progress) -> Finding:
    """Nothing is wrong, and not every replica serves yet.

    Unknown and not False while an engine loads: health checks of GitOps tools read False as broken.
    """
    child = situation.observed.workload
    paused = workload_of(child).paused(child) if child is not None else ""
    if paused:
        return Finding("Ready", "Unknown", "DeploymentPaused", paused)
    loading = sum(pod.running and not pod.ready for pod in _current_pods(situation))
    text = f"{progress.current} of {progress.wanted} replicas ready with the current spec"
    if loading:
        return _loading(situation, f"{text}; {loading} loading the model")
    mounting = next((pod for pod in _current_pods(situation) if pod.mounts and not pod.deleting), None)
    if mounting is not None:
        text = f"{text}; pod {mounting.name} waits for its volumes and its network: {', '.join(mounting.mounts)}"
        text += (
            f"; each must exist and be mountable on the node: kubectl describe pod {mounting.name} shows which is not"
        )
    ending = _ending(situation)
    if ending:
        text = f"{text}; waiting for {ending} old pod{'s' * (ending > 1)} to end and free the GPUs"
    return Finding("Ready", "Unknown", "Progressing", text)


def _loading(situation: Situation, text: str) -> Finding:
    """How far the engine is that loads."""
    if situation.start is None:
        return Finding("Ready", "Unknown", "Loading", text)
    start, stuck = situation.start
    if stuck:
        return Finding("Ready", "False", "StartStuck", f"{text}; {stuck_message(start)}")
    told = start.progress.summary if start.progress is not None else start.unseen
    return Finding("Ready", "Unknown", "Loading", f"{text}: {told}" if told else text)


def _start_progress(situation: Situation) -> ProgressStatus | None:
    return situation.start[0].progress if situation.start is not None else None


def _ending(situation: Situation) -> int:
    """Pods that are going away: until they have, a new one may find no GPU."""
    return sum(pod.deleting for pod in situation.observed.pods)


def _held(situation: Situation) -> tuple[str, str]:
    """Why nothing is rendered yet, if nothing is wrong."""
    running = situation.decision.preparation.running if situation.decision.preparation else None
    if running is None:
        return ("Planning", situation.plan.message)
    told = situation.progress.summary if situation.progress else ""
    return running.reason, f"{running.message}: {told}" if told else running.message


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


def _stands(situation: Situation, status: LLMDeploymentStatus) -> bool:
    """Whether the status of an object that nothing runs of stays while a restarted operator gathers the facts for it.

    What it says is why nothing runs, such as a plan that does not fit. To say less for a moment would be two writes
    and a new warning for each such object whenever the operator restarts.
    """
    if situation.plan.verdict != "Pending" or not situation.decision.held or situation.decision.preparation is not None:
        return False
    ready = next((entry for entry in status.conditions if entry.type == "Ready"), None)
    said = ready is not None and ready.status != "True" and ready.reason != "Planning"
    current = status.observed_generation == situation.resource.metadata.generation
    return said and current and situation.observed.workload is None


def _known_plan(situation: Situation) -> LLMDeploymentStatus | None:
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


def _plan_status(situation: Situation, known: LLMDeploymentStatus | None) -> PlanStatus | None:
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


def _planned(situation: Situation) -> Finding:
    plan = situation.plan
    verdicts: dict[str, ConditionStatus] = {"Fits": "True", "DoesNotFit": "False"}
    record = _running_plan(situation)
    if record is not None:
        told = deviation(record.status, situation.measured)
        message = _of_another_plan(record, plan)
        text = f"{message}; {told}" if told else message
        return Finding("Planned", verdicts.get(record.verdict, "Unknown"), record.reason, text)
    known = _known_plan(situation)
    if known is not None:
        before = next(entry for entry in known.conditions if entry.type == "Planned")
        return Finding("Planned", before.status, before.reason, before.message)
    told = deviation(plan.status, situation.measured)
    message = f"{plan.message}; {told}" if told else plan.message
    return Finding("Planned", verdicts.get(plan.verdict, "Unknown"), plan.reason, message)


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
