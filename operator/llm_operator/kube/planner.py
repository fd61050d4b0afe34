"""Plans for the reconciler: model facts and GPU inventory on one side, the pure planner on the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Self

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.api.status import MeasuredStatus
from llm_operator.engines import RefusedError
from llm_operator.facts import Fact, Known, Pending, Unknowable
from llm_operator.kube import tasks
from llm_operator.kube.client import UNREADABLE, ApiClient
from llm_operator.kube.hub import ModelFacts
from llm_operator.kube.inspected_facts import known_facts
from llm_operator.kube.inventory import FAILED_SECONDS, GPU_UNKNOWN, REFRESH_SECONDS, Inventory
from llm_operator.kube.keys import Key
from llm_operator.kube.learned import Learned, rendered_share
from llm_operator.kube.measurements import Measurements
from llm_operator.kube.model_facts import Ask, Model, ModelFactsCache, model_of
from llm_operator.kube.operator_process import Options
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.manifests.common import inputs_hash
from llm_operator.memory.calibration import Calibration
from llm_operator.pipeline.inspection import Looked
from llm_operator.planning import GpuFacts, PlanInputError, PlanRequest, PlanResult, learned_from, plan
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.observed import Observed
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
from llm_operator.telemetry.metrics import Metrics

log = logging.getLogger("llm_operator.planner")

# Results kept, so that the next look at an object costs nothing; a few kilobytes each.
MOST_RESULTS = 4096


@dataclass(frozen=True, slots=True)
class _Hold:
    """An object waits for facts.

    Attributes:
        inputs: hash of the inputs that it waits with.
        until: end, by the clock of the planner.
        shown: end, as RFC 3339.
    """

    inputs: str
    until: float
    shown: str


def _model_decides(spec: LLMDeploymentSpec) -> bool:
    """Whether the model's files decide anything where the GPU is not known; its heads decide on tensor parallelism."""
    return look_decides(spec) or (spec.parallelism.tensor or 1) > 1


def _after(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


class ClusterPlanner:
    """Plans of all objects; asks for facts in the background and requeues whom they concern."""

    def __init__(
        self,
        client: ApiClient,
        queue: WorkQueue[Key],
        options: Options,
        clock: Callable[[], float] = time.monotonic,
        ask: Ask | None = None,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._options = options
        self._facts = ModelFactsCache(self._model_known, lambda model: bool(self._users.get(model)), ask)
        self._inventory = Inventory(client, self._inventory_changed)
        self._measurements = Measurements(client, queue, self._learn)
        self._learned = Learned(client, options.lease_namespace, options.learned_name, options.calibration)
        self._pinned: dict[Key, tuple[str, Calibration]] = {}
        self._requests: dict[Key, PlanRequest] = {}
        self._users: dict[Model, set[Key]] = {}
        self._models: dict[Key, Model] = {}
        self._holds: dict[Key, _Hold] = {}
        self._resources: dict[Key, str] = {}
        self._look = asyncio.Event()
        self._results: dict[PlanRequest, PlanResult] = {}
        self._refresher: asyncio.Task[None] | None = None

    @classmethod
    def make(cls, client: ApiClient, queue: WorkQueue[Key], _: Metrics, options: Options) -> Self:
        """As the process wires it."""
        return cls(client, queue, options)

    def outcome(self, key: Key, resource: LLMDeployment, looked: Looked) -> PlanOutcome:
        """The plan with the facts known now.

        Args:
            key: the object.
            resource: the object.
            looked: what a Job of the model tools told of the model's files; it speaks where the hub does not.
        """
        gpu = resource.spec.gpu
        outcome = self._outcome(key, resource, looked)
        others = self._inventory.others(gpu.resource_name, gpu.product)
        return replace(outcome, other_gpus=others) if others else outcome

    def _outcome(self, key: Key, resource: LLMDeployment, looked: Looked) -> PlanOutcome:
        spec = resource.spec
        self._resources[key] = spec.gpu.resource_name
        self._use(key, model_of(spec))
        self._keep_refreshing()
        model = known_facts(spec, self._facts.of(spec), looked)
        gpu = self._gpu(spec)
        away = isinstance(model, Pending) or (isinstance(model, Unknowable) and model.reason == "HubUnreachable")
        if isinstance(gpu, Unknowable) and away and not _model_decides(spec):
            # There will be no plan, and nothing else waits for the model: what the hub says later changes nothing, and
            # to name it then would be two more writes at each restart.
            return unknown_outcome(spec, gpu.reason, gpu.message, for_now=True)
        if not isinstance(model, Known):
            return self._without(key, resource, model)
        facts = model.value
        if isinstance(gpu, Pending):
            self._look.set()
            return self._without(key, resource, gpu)
        self._holds.pop(key, None)
        if isinstance(gpu, Unknowable):
            outcome = unknown_outcome(
                spec, gpu.reason, gpu.message, architecture=facts.shape.architecture, for_now=True
            )
            against = impossible(spec, facts.shape)
            if against is not None:
                outcome = replace(outcome, verdict="DoesNotFit", reason="DoesNotFit", message=against)
            outcome = replace(outcome, model=model_without_plan(facts.shape, facts.revision))
            return with_quantization(outcome, spec, facts.shape, None)
        return with_quantization(self._planned(key, resource, facts, gpu.value), spec, facts.shape, gpu.value)

    def _gpu(self, spec: LLMDeploymentSpec) -> Fact[GpuFacts]:
        given = gpu_given(spec.gpu)
        if given is not None:
            return Known(given)
        if not self._options.gpu_inventory:
            return Unknowable("GPUUnknown", GPU_UNKNOWN)
        return self._inventory.of(spec.gpu.resource_name, spec.gpu.product)

    def _without(self, key: Key, resource: LLMDeployment, missing: Pending | Unknowable) -> PlanOutcome:
        """No plan yet, or none at all.

        What failed may come at any time, or never: under Enforce a bounded time is waited for it.
        """
        spec = resource.spec
        if isinstance(missing, Unknowable):
            self._holds.pop(key, None)
            # A repository may be published, nodes may be labeled.
            return unknown_outcome(spec, missing.reason, missing.message, for_now=model_of(spec) is not None)
        if not missing.failed:
            return unknown_outcome(spec, missing.reason, missing.message, pending=True)
        inputs, now = inputs_hash(resource), self._clock()
        hold = self._holds.get(key)
        if hold is None or hold.inputs != inputs:
            wait = self._options.plan_wait_seconds
            hold = self._holds[key] = _Hold(inputs, now + wait, _after(wait))
            self._queue.add_after(key, wait)
        if now < hold.until and spec.plan_policy == "Enforce":
            text = f"{missing.message}; planPolicy Enforce waits for it until {hold.shown}, then serves without a plan"
            return unknown_outcome(spec, missing.reason, text, pending=True, for_now=True)
        return unknown_outcome(spec, missing.reason, missing.message, for_now=True)

    def _use(self, key: Key, model: Model | None) -> None:
        """An object asks for a model, and for no other any more."""
        before = self._models.get(key)
        if before == model:
            return
        if before is not None:
            self._models.pop(key)
            self._users[before].discard(key)
            if not self._users[before]:
                del self._users[before]
        if model is not None:
            self._models[key] = model
            self._users.setdefault(model, set()).add(key)

    def measured(self, key: Key, resource: LLMDeployment, observed: Observed) -> MeasuredStatus | None:
        """What the running engine said of itself, as far as it was read."""
        planned = resource.status.plan if resource.status else None
        bytes_per_token = planned.kv_bytes_per_token if planned else None
        return self._measurements.of(key, resource, observed, bytes_per_token)

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._resources.pop(key, None)
        self._holds.pop(key, None)
        self._pinned.pop(key, None)
        self._requests.pop(key, None)
        self._use(key, None)
        self._measurements.forget(key)

    def _calibration(self, key: Key, resource: LLMDeployment) -> Calibration:
        """What was known when this spec was first planned: a start of its own, or of others, does not plan it anew."""
        inputs = inputs_hash(resource)
        pinned = self._pinned.get(key)
        if pinned is None or pinned[0] != inputs:
            pinned = self._pinned[key] = (inputs, self._learned.calibration)
        return pinned[1]

    def _learn(self, key: Key, resource: LLMDeployment, tokens: int) -> None:
        """Count a start whose engine told what its cache holds, where what runs is what was planned."""
        request, status = self._requests.get(key), resource.status
        if request is None or status is None or status.plan is None or status.engine is None:
            return
        share, given = rendered_share(status.engine.args), request.gpu_memory_utilization
        if share is None or status.engine.version != request.version or (given is not None and share != given):
            return
        if given is None:
            request = replace(request, memory_percent=round(100 * share))
        request = replace(request, context_length=status.plan.context_length)
        try:
            found = learned_from(request, status.plan.tensor, tokens)
        except PlanInputError:  # of sizes that are beyond all reason nothing is learned either
            return
        if found is not None:
            self._learned.saw(*found)

    def _planned(self, key: Key, resource: LLMDeployment, facts: ModelFacts, gpu: GpuFacts) -> PlanOutcome:
        spec = resource.spec
        try:
            request = request_from_spec(spec, facts.shape, gpu)
        except RefusedError as refused:
            # The reconciler's own check says the same and stalls the object.
            return unknown_outcome(spec, "SpecRefused", str(refused), architecture=facts.shape.architecture)
        request = replace(request, calibration=self._calibration(key, resource))
        self._requests[key] = request
        result = self._results.get(request)
        if result is None:
            if len(self._results) >= MOST_RESULTS:
                self._results.clear()
            try:
                result = self._results[request] = plan(request)
            except PlanInputError as error:
                # A size beyond all reason, such as a GPU of 1 MiB: nothing can be computed, and nothing is blocked.
                return unknown_outcome(spec, "PlanUnknown", str(error), architecture=facts.shape.architecture)
        return outcome_of(spec, request, result, facts.revision)

    def _model_known(self, model: Model) -> None:
        for key in self._users.get(model, ()):
            self._queue.add(key)

    def _inventory_changed(self) -> None:
        for key in self._resources:
            self._queue.add(key)

    def _keep_refreshing(self) -> None:
        if self._options.gpu_inventory and self._refresher is None:
            self._refresher = tasks.forever(self._refresh, "gpu-inventory")

    async def _refresh(self) -> None:
        while True:
            self._look.clear()
            resources = frozenset(self._resources.values())
            try:
                await self._inventory.refresh(resources)
            except UNREADABLE as error:
                log.warning("the nodes could not be read, again in %.0f s: %s", FAILED_SECONDS, error)
                self._inventory.failed(str(error) or type(error).__name__)
                # Objects that wait set the event at each look; an API server that is away is not asked without pause.
                await asyncio.sleep(FAILED_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), REFRESH_SECONDS)
