"""The reconciler of LLMDeployments: get a key, gather what is known of it, evaluate, execute, publish the status."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from llm_operator.api.resource import InvalidResource, LLMDeployment
from llm_operator.kube.cache import TOO_LARGE, Cache
from llm_operator.kube.claims import Claims
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.contest import Contest
from llm_operator.kube.execute import Executor
from llm_operator.kube.gather import Gatherer, PlanFactsSource
from llm_operator.kube.job_controller import JobController
from llm_operator.kube.keys import Key
from llm_operator.kube.publish import Publisher
from llm_operator.kube.vital_signs import DEFAULT_PACES, Paces
from llm_operator.kube.workqueue import Queues
from llm_operator.manifests.deployment import NO_TOOLS
from llm_operator.reconcile.evaluate import evaluate, status_after
from llm_operator.reconcile.invalid import invalid_status, unread_status
from llm_operator.reconcile.snapshot import Snapshot
from llm_operator.settings import ToolSettings
from llm_operator.telemetry.objects import Served

READ_REFUSED = timedelta(seconds=10)
"""An API server that has just started refuses everything for some seconds: that is not worth a status."""


def utc_now() -> str:
    """The time as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Controller:
    """Reconciles LLMDeployments, and queues the Jobs that they need."""

    def __init__(  # noqa: PLR0913 - made in one place
        self,
        client: ApiClient,
        cache: Cache,
        queues: Queues,
        plans: PlanFactsSource,
        tools: ToolSettings = NO_TOOLS,
        now: Callable[[], str] = utc_now,
        *,
        identity: str = "this operator",
        paces: Paces = DEFAULT_PACES,
    ) -> None:
        self._cache = cache
        self._queue = queues.objects
        self._tools = tools
        self._now = now
        self._unread: dict[Key, datetime] = {}
        """Since when what belongs to an object may not be read."""
        claims = Claims(client)
        self._contest = Contest(identity)
        self.jobs = JobController(client, cache, queues, self._contest, tools, now)
        """The reconciler of the Jobs that the objects request."""
        self._interest = self.jobs.interest
        self._gatherer = Gatherer(client, cache, queues.objects, plans, claims, self.jobs, tools=tools, paces=paces)
        self._executor = Executor(client, cache, queues.objects, claims, self.jobs.maker, self._contest)
        self._publisher = Publisher(client, cache, queues.objects, self._contest, now)

    def served(self, key: Key) -> Served:
        """What the metrics tell of an object that is in the cache."""
        return self._gatherer.served(key)

    def about(self, key: Key) -> dict[str, Any]:
        """What log lines say about an object, beside its namespace and name."""
        body = self._cache.objects.get(key)
        return {"generation": body["metadata"].get("generation") if body else None}

    async def reconcile(self, key: Key) -> bool:
        """Make one object's children and status what they should be.

        Returns:
            Whether the API server refused a write, so that it must be tried again.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        body = self._cache.objects.get(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            self._contest.forget(key)
            self._unread.pop(key, None)
            self._gatherer.forget(key)
            self._interest.forget(key)
            return False
        aside = self._contest.aside(key, body, self._now())
        try:
            if TOO_LARGE in body:
                raise InvalidResource(body[TOO_LARGE])
            resource = LLMDeployment.parse(body).handing_on(self._tools.propagation)
        except InvalidResource as invalid:
            self._interest.keep(key)
            if aside is None:
                await self._publisher.publish(key, body, invalid_status(body, str(invalid), self._now()))
                return False
        else:
            self._interest.want(key, resource)
        if aside is not None:
            self._gatherer.forget(key)
            await self._publisher.stand_aside(key, body, aside)
            return False
        snapshot = await self._gather(key, body, resource)
        if snapshot is None:
            return True
        outcome = evaluate(snapshot, datetime.fromisoformat(self._now()).astimezone(UTC))
        self._gatherer.follow(key, outcome)
        executed = await self._executor.execute(key, snapshot.resource, outcome.decision)
        if executed is None:
            return False
        status = status_after(snapshot, outcome, executed, resource.status, self._now())
        await self._publisher.publish(key, body, status, executed.restored)
        if outcome.look_again_seconds is not None:
            self._queue.add_after(key, outcome.look_again_seconds)
        return bool(executed.blocked)

    async def _gather(self, key: Key, body: dict[str, Any], resource: LLMDeployment) -> Snapshot | None:
        """What is known of an object; None if it may not be read, and the status says so.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        try:
            snapshot = await self._gatherer.gather(key, resource.without_status())
        except ApiError as error:
            if error.status != 403 or not self._lasts(key):
                raise
            await self._publisher.publish(key, body, unread_status(resource, error.message, self._now()))
            return None
        self._unread.pop(key, None)
        return snapshot

    def _lasts(self, key: Key) -> bool:
        """Whether a read of an object has been refused for longer than an API server takes to start."""
        now = datetime.fromisoformat(self._now())
        return now - self._unread.setdefault(key, now) >= READ_REFUSED
