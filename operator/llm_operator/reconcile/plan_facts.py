"""From what is known of a model and of GPUs to the plan that a new pod template is rendered from. Pure."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import RefusedError
from llm_operator.facts import Fact, Known, Pending, Unknowable
from llm_operator.manifests.common import inputs_hash
from llm_operator.memory.calibration import NOTHING_LEARNED, Calibration
from llm_operator.pipeline.inspection import Looked
from llm_operator.planning import GpuFacts, PlanInputError, PlanRequest, PlanResult, plan
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.inspected_facts import known_facts
from llm_operator.reconcile.model_facts import ModelFacts, model_of
from llm_operator.reconcile.planned import (
    gpu_given,
    impossible,
    look_decides,
    model_without_plan,
    outcome_of,
    request_from_spec,
    unknown_outcome,
    with_quantization,
)

MOST_RESULTS = 4096
"""Results kept, so that the next look at an object costs nothing; a few kilobytes each."""


@dataclass(frozen=True, slots=True)
class Hold:
    """An object waits for facts that cannot be had at the moment.

    Attributes:
        inputs: hash of the inputs that it waits with.
        until: when it is served without a plan.
    """

    inputs: str
    until: datetime


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What the sources know that a plan of one object depends on.

    Attributes:
        hub: what the hub says of the model; Unknowable for a model that no hub has.
        gpu: the GPU that a pod could get, by the nodes.
        other_gpus: what the nodes have, if none has the GPU that the spec requests; empty otherwise.
        calibration: what engines measured, as it was when these inputs were first planned.
        hold: what this object waits for since an earlier look.
        wait_seconds: for this long an object with planPolicy Enforce waits for facts that cannot be had at the moment.
    """

    hub: Fact[ModelFacts]
    gpu: Fact[GpuFacts]
    other_gpus: str = ""
    calibration: Calibration = field(default_factory=lambda: NOTHING_LEARNED)
    hold: Hold | None = None
    wait_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and what it came from.

    Attributes:
        outcome: what the reconciler does with it.
        hold: what the object waits for from now on; None: for nothing.
        request: what the planner was asked; None: nothing, for want of facts.
    """

    outcome: PlanOutcome
    hold: Hold | None = None
    request: PlanRequest | None = None


def planned(resource: LLMDeployment, facts: PlanFacts, looked: Looked, now: datetime) -> Planned:
    """The plan with the facts known now.

    Args:
        resource: the object.
        facts: what the sources know.
        looked: what a Job of the model tools found in the model's files; it counts if the hub does not answer.
        now: the time in UTC.
    """
    found = _planned(resource, facts, looked, now)
    if not facts.other_gpus:
        return found
    return replace(found, outcome=replace(found.outcome, other_gpus=facts.other_gpus))


def _planned(resource: LLMDeployment, facts: PlanFacts, looked: Looked, now: datetime) -> Planned:
    spec = resource.spec
    model = known_facts(spec, facts.hub, looked)
    given = gpu_given(spec.gpu)
    gpu: Fact[GpuFacts] = Known(given) if given is not None else facts.gpu
    away = isinstance(model, Pending) or (isinstance(model, Unknowable) and model.reason == "HubUnreachable")
    if isinstance(gpu, Unknowable) and away and not _model_decides(spec):
        # There will be no plan, and nothing else waits for the model: what the hub says later changes nothing, and
        # to name it then would be two more writes at each restart.
        return Planned(unknown_outcome(spec, gpu.reason, gpu.message, for_now=True), facts.hold)
    if not isinstance(model, Known):
        return _without(resource, facts, model, now)
    if isinstance(gpu, Pending):
        return _without(resource, facts, gpu, now)
    shape = model.value.shape
    if isinstance(gpu, Known):
        found = _with_all(resource, facts, model.value, gpu.value)
        return replace(found, outcome=with_quantization(found.outcome, spec, shape, gpu.value))
    outcome = unknown_outcome(spec, gpu.reason, gpu.message, architecture=shape.architecture, for_now=True)
    against = impossible(spec, shape)
    if against is not None:
        outcome = replace(outcome, verdict="DoesNotFit", reason="DoesNotFit", message=against)
    outcome = replace(outcome, model=model_without_plan(shape, model.value.revision))
    return Planned(with_quantization(outcome, spec, shape, None))


def _model_decides(spec: LLMDeploymentSpec) -> bool:
    """Whether the model's files decide anything if the GPU is not known; its heads decide on tensor parallelism."""
    return look_decides(spec) or (spec.parallelism.tensor or 1) > 1


def _without(resource: LLMDeployment, facts: PlanFacts, missing: Pending | Unknowable, now: datetime) -> Planned:
    """No plan yet, or none at all.

    What failed may come at any time, or never: under Enforce a bounded time is waited for it.
    """
    spec = resource.spec
    if isinstance(missing, Unknowable):
        # A repository may be published, nodes may be labeled.
        return Planned(unknown_outcome(spec, missing.reason, missing.message, for_now=model_of(spec) is not None))
    if not missing.failed:
        return Planned(unknown_outcome(spec, missing.reason, missing.message, pending=True), facts.hold)
    inputs, hold = inputs_hash(resource), facts.hold
    if hold is None or hold.inputs != inputs:
        hold = Hold(inputs, now + timedelta(seconds=facts.wait_seconds))
    if now < hold.until and spec.plan_policy == "Enforce":
        until = hold.until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = f"{missing.message}; planPolicy Enforce waits for it until {until}, then serves without a plan"
        return Planned(unknown_outcome(spec, missing.reason, text, pending=True, for_now=True), hold)
    return Planned(unknown_outcome(spec, missing.reason, missing.message, for_now=True), hold)


def _with_all(resource: LLMDeployment, facts: PlanFacts, model: ModelFacts, gpu: GpuFacts) -> Planned:
    spec = resource.spec
    try:
        request = request_from_spec(spec, model.shape, gpu)
    except RefusedError as refused:
        # The reconciler's own check says the same and stalls the object.
        return Planned(unknown_outcome(spec, "SpecRefused", str(refused), architecture=model.shape.architecture))
    request = replace(request, calibration=facts.calibration)
    try:
        result = _result(request)
    except PlanInputError as error:
        # A size beyond all reason, such as a GPU of 1 MiB: nothing can be computed, and nothing is blocked.
        outcome = unknown_outcome(spec, "PlanUnknown", str(error), architecture=model.shape.architecture)
        return Planned(outcome, request=request)
    return Planned(outcome_of(spec, request, result, model.revision), request=request)


@functools.lru_cache(maxsize=MOST_RESULTS)
def _result(request: PlanRequest) -> PlanResult:
    return plan(request)
