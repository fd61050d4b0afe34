"""What plans depend on: models by the hub, GPUs by the nodes, and what engines measured, for all objects."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Self

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.facts import Fact, Unknowable
from llm_operator.kube import tasks
from llm_operator.kube.client import UNREADABLE, ApiClient
from llm_operator.kube.inventory import FAILED_SECONDS, GPU_UNKNOWN, REFRESH_SECONDS, Inventory
from llm_operator.kube.keys import Key
from llm_operator.kube.learned import Learned
from llm_operator.kube.model_facts import Ask, ModelFactsCache
from llm_operator.kube.operator_process import Options
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.manifests.common import inputs_hash
from llm_operator.memory.calibration import Calibration
from llm_operator.planning import GpuFacts
from llm_operator.reconcile.measured import start_of
from llm_operator.reconcile.model_facts import Model
from llm_operator.reconcile.plan_facts import Hold, PlanFacts
from llm_operator.reconcile.wants import Rendered, Wants
from llm_operator.telemetry.metrics import Metrics

log = logging.getLogger("llm_operator.planner")


class PlanSource:
    """The facts of all objects' plans; reads them in the background and adds the keys that they concern."""

    def __init__(self, client: ApiClient, queue: WorkQueue[Key], options: Options, ask: Ask | None = None) -> None:
        self._queue = queue
        self._options = options
        self._facts = ModelFactsCache(self._model_known, lambda model: bool(self._users.get(model)), ask)
        self._inventory = Inventory(client, self._inventory_changed)
        self._learned = Learned(client, options.lease_namespace, options.learned_name, options.calibration)
        self._pinned: dict[Key, tuple[str, Calibration]] = {}
        self._users: dict[Model, set[Key]] = {}
        self._models: dict[Key, Model] = {}
        self._holds: dict[Key, Hold] = {}
        self._resources: dict[Key, str] = {}
        self._look = asyncio.Event()
        self._refresher: asyncio.Task[None] | None = None

    @classmethod
    def make(cls, client: ApiClient, queue: WorkQueue[Key], _: Metrics, options: Options) -> Self:
        """As the process wires it."""
        return cls(client, queue, options)

    def known(self, key: Key, resource: LLMDeployment) -> PlanFacts:
        """What is known now."""
        gpu = resource.spec.gpu
        return PlanFacts(
            hub=self._facts.known(resource.spec),
            gpu=self._gpu(resource.spec),
            other_gpus=self._inventory.others(gpu.resource_name, gpu.product),
            calibration=self._calibration(key, inputs_hash(resource)),
            hold=self._holds.get(key),
            wait_seconds=self._options.plan_wait_seconds,
        )

    def follow(self, key: Key, wants: Wants) -> None:
        """Have the hub and the nodes read for an object, and remember with which measurements it is planned."""
        self._resources[key] = wants.resource_name
        self._use(key, wants.model)
        if wants.model is not None:
            self._facts.want(wants.model)
        # Neither its own starts nor those of others plan an object anew.
        self._pinned[key] = (wants.inputs, self._calibration(key, wants.inputs))
        if not self._options.gpu_inventory:
            return
        if self._refresher is None:
            self._refresher = tasks.forever(self._refresh, "gpu-inventory")
        if wants.resource_name not in self._inventory.asked:
            self._look.set()

    def holds(self, key: Key, hold: Hold | None) -> None:
        """An object waits for facts; None: it does not."""
        if hold is None:
            self._holds.pop(key, None)
        else:
            self._holds[key] = hold

    def learn(self, rendered: Rendered, tokens: int) -> None:
        """Count a start whose engine logged what its cache holds, if what runs is what was planned."""
        found = start_of(rendered, tokens)
        if found is not None:
            self._learned.saw(*found)

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._resources.pop(key, None)
        self._holds.pop(key, None)
        self._pinned.pop(key, None)
        self._use(key, None)

    def _gpu(self, spec: LLMDeploymentSpec) -> Fact[GpuFacts]:
        if not self._options.gpu_inventory:
            return Unknowable("GPUUnknown", GPU_UNKNOWN)
        return self._inventory.of(spec.gpu.resource_name, spec.gpu.product)

    def _calibration(self, key: Key, inputs: str) -> Calibration:
        """What was known when this spec was first planned."""
        pinned = self._pinned.get(key)
        return pinned[1] if pinned is not None and pinned[0] == inputs else self._learned.calibration

    def _use(self, key: Key, model: Model | None) -> None:
        """An object requests a model, and for no other any longer."""
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

    def _model_known(self, model: Model) -> None:
        for key in self._users.get(model, ()):
            self._queue.add(key)

    def _inventory_changed(self) -> None:
        for key in self._resources:
            self._queue.add(key, news=False)

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
