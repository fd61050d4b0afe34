"""Plans for the reconciler: model facts and GPU inventory on one side, the pure planner on the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import Self

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.api.status import MeasuredStatus
from llm_operator.engines import RefusedError
from llm_operator.kube import tasks
from llm_operator.kube.client import ApiClient
from llm_operator.kube.hub import ModelFacts
from llm_operator.kube.inspected_facts import known_facts
from llm_operator.kube.inventory import REFRESH_SECONDS, UNREADABLE, Inventory
from llm_operator.kube.measurements import Measurements
from llm_operator.kube.model_facts import RETRIED, ModelFactsCache
from llm_operator.kube.operator_process import Options
from llm_operator.kube.workqueue import Key, WorkQueue
from llm_operator.planning import GpuFacts, PlanInputError, PlanRequest, PlanResult, plan
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.outcome import PlanOutcome
from llm_operator.reconcile.planned import (
    gpu_given,
    look_decides,
    model_without_plan,
    outcome_of,
    request_from_spec,
    unknown_outcome,
    with_quantization,
)
from llm_operator.reconcile.prepare import Looked
from llm_operator.telemetry.metrics import Metrics

log = logging.getLogger("llm_operator.planner")

GPU_UNKNOWN = "the GPU's memory is not known: set spec.gpu.memory, or label the nodes with GPU feature discovery"
# Results kept, so that the next look at an object costs nothing; a few kilobytes each.
MOST_RESULTS = 4096


class ClusterPlanner:
    """Plans of all objects; asks for facts in the background and requeues whom they concern."""

    def __init__(self, client: ApiClient, queue: WorkQueue, options: Options) -> None:
        self._queue = queue
        self._options = options
        self._facts = ModelFactsCache(self._model_known)
        self._inventory = Inventory(client, self._inventory_changed)
        self._measurements = Measurements(client, queue)
        self._waiting: dict[tuple[str, str], set[Key]] = {}
        self._resources: dict[Key, str] = {}
        self._look = asyncio.Event()
        self._results: dict[PlanRequest, PlanResult] = {}
        self._refresher: asyncio.Task[None] | None = None

    @classmethod
    def make(cls, client: ApiClient, queue: WorkQueue, _: Metrics, options: Options) -> Self:
        """As the process wires it."""
        return cls(client, queue, options)

    def outcome(self, key: Key, resource: LLMDeployment, looked: Looked) -> PlanOutcome:
        """The plan with the facts known now.

        Args:
            key: the object.
            resource: the object.
            looked: what a Job of the model tools told of the model's files; it speaks where the hub does not.
        """
        spec = resource.spec
        self._resources[key] = spec.gpu.resource_name
        self._keep_refreshing()
        facts = known_facts(spec, self._facts.of(spec), looked)
        if facts.pending:
            self._wait(key, spec)
            if looked[0] == "Running" and self._nothing_to_plan(spec):
                return unknown_outcome(spec, "GPUUnknown", GPU_UNKNOWN)
            return unknown_outcome(spec, facts.reason, facts.message, pending=True)
        if facts.shape is None:
            if facts.reason in RETRIED:
                self._wait(key, spec)
            return unknown_outcome(spec, facts.reason, facts.message)
        gpu = gpu_given(spec.gpu) or self._inventory.of(spec.gpu.resource_name, spec.gpu.product)
        if gpu is None and self._options.gpu_inventory and spec.gpu.resource_name not in self._inventory.asked:
            self._look.set()
            return unknown_outcome(spec, "ReadingNodes", "reading the nodes' GPUs", pending=True)
        if gpu is None:
            outcome = replace(
                unknown_outcome(spec, "GPUUnknown", GPU_UNKNOWN, architecture=facts.shape.architecture),
                model=model_without_plan(facts.shape, facts.revision),
            )
        else:
            outcome = self._planned(spec, facts, gpu)
        return with_quantization(outcome, spec, facts.shape, gpu)

    def _nothing_to_plan(self, spec: LLMDeploymentSpec) -> bool:
        """Whether the GPU is not known, now that the nodes were read, and the model's files decide nothing else."""
        resource_name = spec.gpu.resource_name
        read = not self._options.gpu_inventory or resource_name in self._inventory.asked
        known = gpu_given(spec.gpu) or self._inventory.of(resource_name, spec.gpu.product)
        return read and known is None and not look_decides(spec)

    def measured(self, key: Key, resource: LLMDeployment, observed: Observed) -> MeasuredStatus | None:
        """What the running engine said of itself, as far as it was read."""
        planned = resource.status.plan if resource.status else None
        bytes_per_token = planned.kv_bytes_per_token if planned else None
        return self._measurements.of(key, resource, observed, bytes_per_token)

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._resources.pop(key, None)
        self._measurements.forget(key)
        for keys in self._waiting.values():
            keys.discard(key)

    def _planned(self, spec: LLMDeploymentSpec, facts: ModelFacts, gpu: GpuFacts) -> PlanOutcome:
        assert facts.shape is not None  # noqa: S101
        try:
            request = request_from_spec(spec, facts.shape, gpu)
        except RefusedError as refused:
            # The reconciler's own check says the same and stalls the object.
            return unknown_outcome(spec, "SpecRefused", str(refused), architecture=facts.shape.architecture)
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

    def _wait(self, key: Key, spec: LLMDeploymentSpec) -> None:
        source = spec.model.hugging_face
        if source is not None:
            self._waiting.setdefault((source.repository, source.revision or ""), set()).add(key)

    def _model_known(self, model: tuple[str, str]) -> None:
        for key in self._waiting.pop(model, set()):
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
                log.warning("the nodes could not be read, again in %.0f s: %s", REFRESH_SECONDS, error)
                self._inventory.give_up(resources)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), REFRESH_SECONDS)
