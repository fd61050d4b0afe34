"""The beginning of a reconcile: everything that is known of one object, from every source, once."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from llm_operator.api.resource import LLMDeployment
from llm_operator.kube.cache import Cache
from llm_operator.kube.claims import NOT_READ, Claims
from llm_operator.kube.client import ApiClient
from llm_operator.kube.job_controller import JobController
from llm_operator.kube.job_pods import JobPods
from llm_operator.kube.keys import Key
from llm_operator.kube.last_logs import LastLogs
from llm_operator.kube.measurements import Measurements
from llm_operator.kube.object_events import ObjectEvents
from llm_operator.kube.pod_owners import PodOwners
from llm_operator.kube.progress import ProgressReader
from llm_operator.kube.revisions import Revisions
from llm_operator.kube.rollouts import with_rollout
from llm_operator.kube.sources import Source, Sources
from llm_operator.kube.starts import Starts
from llm_operator.kube.vital_signs import Paces, VitalSigns
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.live.claims import ClaimFacts
from llm_operator.pipeline.claims import needed_claims
from llm_operator.reconcile.evaluate import log_sources
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.plan_facts import Hold, PlanFacts
from llm_operator.reconcile.plan_record import provisional
from llm_operator.reconcile.rendered import kept_rendering
from llm_operator.reconcile.snapshot import Outcome, Snapshot
from llm_operator.reconcile.wants import Rendered
from llm_operator.settings import ToolSettings
from llm_operator.telemetry.objects import Served


class PlanFactsSource(Source, Protocol):
    """What plans depend on."""

    def known(self, key: Key, resource: LLMDeployment) -> PlanFacts:
        """What is known now."""
        ...

    def holds(self, key: Key, hold: Hold | None) -> None:
        """An object waits for facts; None: it does not."""
        ...

    def learn(self, rendered: Rendered, tokens: int) -> None:
        """An engine that was seen starting says what its cache holds."""
        ...


class Gatherer:
    """The cache and the sources, as one snapshot of an object."""

    def __init__(  # noqa: PLR0913 - made in one place
        self,
        client: ApiClient,
        cache: Cache,
        queue: WorkQueue[Key],
        plans: PlanFactsSource,
        claims: Claims,
        jobs: JobController,
        *,
        tools: ToolSettings,
        paces: Paces,
    ) -> None:
        self._client = client
        self._cache = cache
        self._plans = plans
        self._claims = claims
        self._interest = jobs.interest
        self._leftovers = jobs.leftovers
        self._tools = tools
        self._silent_seconds = paces.silent_seconds
        self._owners = PodOwners(client)
        self._revisions = Revisions(client, cache)
        self._job_pods = JobPods(client)
        self._last_logs = LastLogs(client, queue)
        self._progress = ProgressReader(client, queue.add)
        self._vital_signs = VitalSigns(queue.add, paces=paces)
        self._starts = Starts(client, queue.add)
        self._measurements = Measurements(client, queue, plans.learn)
        self._events = ObjectEvents(client, queue.add)
        beside = (self._last_logs, self._progress, self._vital_signs, self._starts, self._events)
        self._beside = Sources(beside)
        """What follows pods and Jobs."""
        self._sources = Sources((plans, self._measurements, *beside))

    async def gather(self, key: Key, resource: LLMDeployment) -> Snapshot:
        """Everything that is known of an object now.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        observed, look_again = await self._observe(key, resource)
        # From here on nothing waits: all of it is of one moment.
        sources = log_sources(resource, observed)
        progress = ((source, self._progress.known(source)) for source in sources)
        forbidden = self._progress.unseen(sources)
        if forbidden:
            observed = dataclasses.replace(observed, unseen=(*observed.unseen, forbidden))
        return Snapshot(
            resource,
            observed,
            self._plans.known(key, resource),
            self._tools,
            reading=self._measurements.known(key),
            vitals=self._vital_signs.known(key),
            silent_seconds=self._silent_seconds,
            start=self._starts.known(key, observed),
            progress={source: found for source, found in progress if found is not None},
            last_words=self._last_logs.known(key),
            heard=self._events.known(key),
            look_again_seconds=look_again,
        )

    def follow(self, key: Key, outcome: Outcome) -> None:
        """Have the sources follow what an object wants until its next look; their news add the key."""
        self._plans.holds(key, outcome.hold)
        self._sources.follow(key, outcome.wants)

    def forget(self, key: Key) -> None:
        """An object is being deleted, or is gone."""
        if key in self._cache.objects:
            self._beside.forget(key)
        else:
            self._sources.forget(key)

    def served(self, key: Key) -> Served:
        """What the metrics tell of an object that is in the cache."""
        body = self._cache.objects[key]
        observed = self._cache.observed(key)
        return Served(body, self._owners.known_own(body["metadata"]["uid"], observed), observed.workload)

    async def _observe(self, key: Key, resource: LLMDeployment) -> tuple[Observed, float | None]:
        """What is there, with the Jobs of the model tools, and with the claims while a model or pod waits for them.

        Returns:
            That, and after how many seconds the API server is to be asked again about it; None: its watches tell.
        """
        observed = await self._owners.own(key[0], resource.metadata.uid, self._cache.observed(key))
        observed = await with_rollout(self._client, key, observed)
        observed = await self._revisions.with_running(key, observed)
        if not self._tools.enabled:
            return observed, None
        jobs, look_again = await self._job_pods.with_refusals(key, self._interest.jobs_of(key, resource))
        claims: dict[str, ClaimFacts | None] = {}
        prepares = kept_rendering(resource, observed) is None or provisional(resource, observed)
        waiting = {subject.uid for subject in self._events.known(key)}
        if prepares or any(pod.unschedulable is not None or pod.uid in waiting for pod in observed.pods):
            claims = await self._claims.look_up(key[0], needed_claims(resource))
            if any(claim is not None and not claim.uid for claim in claims.values()):
                observed = dataclasses.replace(observed, unseen=(*observed.unseen, NOT_READ))
        leftovers = dict(self._leftovers.of(key, resource))
        return dataclasses.replace(observed, jobs=jobs, claims=claims, leftovers=leftovers), look_again
