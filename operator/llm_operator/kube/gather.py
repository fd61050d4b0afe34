"""The beginning of a reconcile: everything that is known of one object, from every source, once."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import MeasuredStatus
from llm_operator.kube.cache import Cache
from llm_operator.kube.claims import Claims
from llm_operator.kube.client import ApiClient
from llm_operator.kube.job_controller import JobController
from llm_operator.kube.job_pods import JobPods
from llm_operator.kube.keys import Key
from llm_operator.kube.last_logs import LastLogs
from llm_operator.kube.pod_owners import PodOwners
from llm_operator.kube.progress import ProgressReader
from llm_operator.kube.revisions import Revisions
from llm_operator.kube.rollouts import with_rollout
from llm_operator.kube.starts import Starts
from llm_operator.kube.vital_signs import Paces, VitalSigns
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.live.claims import ClaimFacts
from llm_operator.pipeline.claims import needed_claims
from llm_operator.pipeline.inspection import Looked, inspection
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.decide import kept_rendering
from llm_operator.reconcile.evaluate import log_sources
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.plan_record import provisional
from llm_operator.reconcile.snapshot import LogSource, Snapshot
from llm_operator.settings import ToolSettings
from llm_operator.telemetry.objects import Served


class Planner(Protocol):
    """Says what will fit. Asks for facts in the background and adds the key again when they arrive."""

    def outcome(self, key: Key, resource: LLMDeployment, looked: Looked) -> PlanOutcome:
        """The plan with the facts known now, and with what a Job of the model tools told of the model's files."""
        ...

    def measured(self, key: Key, resource: LLMDeployment, observed: Observed) -> MeasuredStatus | None:
        """What the running engine said of itself."""
        ...

    def forget(self, key: Key) -> None:
        """The object is gone."""
        ...


class Gatherer:
    """The sources of what is known. What they do not know yet they ask for beside the reconciler, and add the key."""

    def __init__(  # noqa: PLR0913 - made in one place
        self,
        client: ApiClient,
        cache: Cache,
        queue: WorkQueue[Key],
        planner: Planner,
        claims: Claims,
        jobs: JobController,
        tools: ToolSettings,
        *,
        paces: Paces,
    ) -> None:
        self._client = client
        self._cache = cache
        self._planner = planner
        self._claims = claims
        self._interest = jobs.interest
        self._leftovers = jobs.leftovers
        self._tools = tools
        self._owners = PodOwners(client)
        self._revisions = Revisions(client, cache)
        self._job_pods = JobPods(client, queue.add_after)
        self._last_logs = LastLogs(client, queue)
        self._progress = ProgressReader(client, queue.add)
        self._vital_signs = VitalSigns(queue.add, paces=paces)
        self._starts = Starts(client, queue.add)

    async def gather(self, key: Key, resource: LLMDeployment) -> Snapshot:
        """Everything that is known of an object now.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        observed = await self._observe(key, resource)
        told = {source: self._progress.told(source) for source in log_sources(resource, observed)}
        return Snapshot(
            resource,
            observed,
            self._planner.outcome(key, resource, inspection(resource, observed, self._tools)),
            self._tools,
            measured=self._planner.measured(key, resource, observed),
            health=self._vital_signs.of(key, resource, observed),
            start=self._starts.of(key, resource, observed),
            progress={source: progress for source, progress in told.items() if progress is not None},
        )

    def follow(self, key: Key, source: LogSource | None) -> None:
        """Read one log for an object, and no other any more; its news adds the key."""
        self._progress.follow(key, source)

    def forget(self, key: Key) -> None:
        """An object is being deleted, or is gone."""
        if key not in self._cache.objects:
            self._planner.forget(key)
        self._progress.forget(key)
        self._last_logs.forget(key)
        self._vital_signs.forget(key)
        self._starts.forget(key)

    def served(self, key: Key) -> Served:
        """What the metrics tell of an object that is in the cache."""
        body = self._cache.objects[key]
        return Served(body, self._owners.restarts(body["metadata"]["uid"], self._cache.observed(key)))

    async def _observe(self, key: Key, resource: LLMDeployment) -> Observed:
        """What is there, with the Jobs of the model tools, and with the claims while a model or pod waits for them."""
        observed = await self._owners.own(key[0], resource.metadata.uid, self._cache.observed(key))
        observed = await with_rollout(self._client, key, observed)
        observed = await self._revisions.with_running(key, observed)
        observed = self._last_logs.added(key, observed, resource.spec.engine.type)
        if not self._tools.enabled:
            return observed
        jobs = await self._job_pods.with_refusals(key, self._interest.jobs_of(key, resource))
        claims: dict[str, ClaimFacts | None] = {}
        prepares = kept_rendering(resource, observed) is None or provisional(resource, observed)
        if prepares or any(pod.unschedulable is not None for pod in observed.pods):
            claims = await self._claims.look_up(key[0], needed_claims(resource))
        incomplete = dict(self._leftovers.of(key, resource))
        return dataclasses.replace(observed, jobs=jobs, claims=claims, incomplete=incomplete)
