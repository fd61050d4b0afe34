"""Ready, Reconciling and Stalled: what is wrong, by a chain of checks, or how far the replicas are. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from llm_operator.api.finding import Finding
from llm_operator.live.scheduling import asked_by
from llm_operator.live.start_faults import is_attached_elsewhere
from llm_operator.problems import Check, Problem, first, together
from llm_operator.reconcile.diagnose import trouble_of
from llm_operator.reconcile.situation import Progress, Situation, current_pods, ending
from llm_operator.reconcile.starting import stuck_message
from llm_operator.reconcile.waiting import predecessor, waits_for
from llm_operator.reconcile.workload import workload_of


def _spec_refused(of: Situation) -> Problem | None:
    return together(of.decision.refusals)


def _facts_missing(of: Situation) -> Problem | None:
    """What the spec cannot be rendered without, and what may come by itself."""
    return of.decision.waiting


def _does_not_fit(of: Situation) -> Problem | None:
    if of.decision.held and of.plan.verdict == "DoesNotFit":
        return Problem(of.plan.reason, of.plan.message, "Error")
    return None


def _write_refused(of: Situation) -> Problem | None:
    return of.blocked


def _stage_fails(of: Situation) -> Problem | None:
    preparation = of.decision.preparation
    return preparation.trouble if preparation is not None and _prepares(of) else None


OF_OBJECT: tuple[Check[Situation], ...] = (_spec_refused, _facts_missing, _does_not_fit, _write_refused, _stage_fails)
"""What keeps the engine from being rendered as the spec says."""


def _pods_refused(of: Situation) -> Problem | None:
    child = of.observed.workload
    return workload_of(child).refused(child) if child is not None else None


def _pods_fail(of: Situation) -> Problem | None:
    found = _worst_of_pods(of)
    if found is None:
        return None
    # A new pod that finds no GPU, or no volume, while its predecessor still ends is a roll, not an alarm.
    if ending(of) and (found.reason == "Unschedulable" or any(map(is_attached_elsewhere, current_pods(of)))):
        return None
    gone = predecessor(of.observed.pods, current_pods(of)) if found.reason == "Unschedulable" else ""
    return replace(found, message=f"{found.message}; {gone}") if gone else found


def _overdue(of: Situation) -> Problem | None:
    child = of.observed.workload
    found = workload_of(child).overdue(child) if child is not None else None
    # A pod that fails, and is left out above because of a roll, says more than that it takes long.
    return found if found is not None and _worst_of_pods(of) is None else None


OF_PODS: tuple[Check[Situation], ...] = (_pods_refused, _pods_fail, _overdue)
"""What keeps the pods of the current spec from serving, or from existing."""


def problem_of(situation: Situation) -> Problem | None:
    """What is wrong with an object; None if nothing is."""
    # While a stage before serving runs, the pods are those of an earlier spec.
    chain = OF_OBJECT if _prepares(situation) else (*OF_OBJECT, *OF_PODS)
    return first(chain, situation)


def _prepares(of: Situation) -> bool:
    """Whether the model is not there yet."""
    return of.decision.preparation is not None and of.decision.preparation.prepared is None


def _worst_of_pods(of: Situation) -> Problem | None:
    template = of.decision.template
    claims = tuple(claim for claim in of.observed.claims.values() if claim is not None)
    asked = asked_by(template["spec"] if template else None, of.plan.other_gpus, claims)
    return trouble_of(current_pods(of), of.resource.spec.engine.type, asked)


@dataclass(frozen=True, slots=True)
class Judged:
    """A situation, and what was found of it."""

    situation: Situation
    progress: Progress
    problem: Problem | None

    @property
    def parked(self) -> bool:
        """Nothing runs, as the spec asks, and what would keep it from running may pass by itself."""
        nothing = self.progress.wanted == self.progress.total == 0
        return nothing and self.problem is not None and not self.problem.stalls


def ready_findings(situation: Situation, progress: Progress) -> tuple[Finding, Finding, Finding]:
    """The conditions Ready, Reconciling and Stalled."""
    problem = problem_of(situation)
    judged = Judged(situation, progress, problem)
    ready = _with_unseen(situation, next(found for state in STATES if (found := state(judged)) is not None))
    if progress.complete or judged.parked:
        return ready, Finding("Reconciling", "False", "UpToDate", ""), Finding("Stalled", "False", "UpToDate", "")
    if problem is not None and problem.stalls:
        stalled = Finding("Stalled", "True", problem.reason, problem.text)
        return ready, Finding("Reconciling", "False", "Stalled", ""), stalled
    reconciling = Finding("Reconciling", "True", ready.reason, ready.message)
    return ready, reconciling, Finding("Stalled", "False", "Progressing", "")


def _with_unseen(situation: Situation, ready: Finding) -> Finding:
    """What is not seen for want of a right, beside what is not as it should be."""
    unseen = "; ".join(situation.observed.unseen)
    if not unseen or ready.status == "True":
        return ready
    return Finding(ready.type, ready.status, ready.reason, f"{ready.message}; {unseen}")


def _complete(of: Judged) -> Finding | None:
    progress = of.progress
    if not progress.complete:
        return None
    if progress.wanted == 0:
        return Finding("Ready", "True", "Stopped", "replicas is 0: no pods, as configured")
    return Finding("Ready", "True", "ReplicasReady", f"{progress.current} of {progress.wanted} replicas ready")


def _parked(of: Judged) -> Finding | None:
    if of.problem is None or not of.parked:
        return None
    text = f"replicas is 0: no pods, as configured; what would prevent a start: {of.problem.text}"
    return Finding("Ready", "True", "Stopped", text)


def _wrong(of: Judged) -> Finding | None:
    return Finding("Ready", "False", of.problem.reason, of.problem.text) if of.problem is not None else None


def _held(of: Judged) -> Finding | None:
    """Nothing is rendered yet, and nothing is wrong."""
    situation = of.situation
    if not situation.decision.held:
        return None
    running = situation.decision.preparation.running if situation.decision.preparation else None
    if running is None:
        return Finding("Ready", "Unknown", "Planning", situation.plan.message)
    far = situation.progress.summary if situation.progress else ""
    return Finding("Ready", "Unknown", running.reason, f"{running.message}: {far}" if far else running.message)


def _paused(of: Judged) -> Finding | None:
    child = of.situation.observed.workload
    paused = workload_of(child).paused(child) if child is not None else ""
    return Finding("Ready", "Unknown", "DeploymentPaused", paused) if paused else None


def _loading(of: Judged) -> Finding | None:
    """Unknown and not False while an engine loads: health checks of GitOps tools read False as broken."""
    loading = sum(pod.running and not pod.ready and not pod.node_lost for pod in current_pods(of.situation))
    if not loading:
        return None
    text = f"{_so_far(of.progress)}; {loading} loading the model"
    if of.situation.start is None:
        return Finding("Ready", "Unknown", "Loading", text)
    start, stuck = of.situation.start
    if stuck:
        return Finding("Ready", "False", "StartStuck", f"{text}; {stuck_message(start)}")
    far = start.progress.summary if start.progress is not None else start.unseen
    return Finding("Ready", "Unknown", "Loading", f"{text}: {far}" if far else text)


def _progressing(of: Judged) -> Finding:
    text = _so_far(of.progress)
    waiting = waits_for(current_pods(of.situation))
    text = f"{text}; {waiting}" if waiting else text
    old = ending(of.situation)
    if old:
        text = f"{text}; waiting for {old} old pod{'s' * (old > 1)} to end and free the GPUs"
    gone = predecessor(of.situation.observed.pods, current_pods(of.situation))
    text = f"{text}; {gone}" if gone else text
    return Finding("Ready", "Unknown", "Progressing", text)


def _so_far(progress: Progress) -> str:
    return f"{progress.current} of {progress.wanted} replicas ready with the current spec"


STATES: tuple[Callable[[Judged], Finding | None], ...] = (
    _complete,
    _parked,
    _wrong,
    _held,
    _paused,
    _loading,
    _progressing,
)
"""What Ready can say, in the order in which it counts; the last one always says something."""
