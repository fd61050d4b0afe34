"""The controller: get a key, gather what is known of it, evaluate, execute, publish the status."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from llm_operator.api.resource import InvalidResource, LLMDeployment
from llm_operator.kube.cache import JOB_PREFIX, Cache
from llm_operator.kube.claims import Claims
from llm_operator.kube.client import UNREADABLE, ApiClient, ApiError
from llm_operator.kube.contest import Contest
from llm_operator.kube.execute import Executor
from llm_operator.kube.gather import Gatherer, Planner
from llm_operator.kube.lease import LostLeadershipError
from llm_operator.kube.model_jobs import ModelJobs
from llm_operator.kube.publish import Publisher
from llm_operator.kube.vital_signs import DEFAULT_PACES, Paces
from llm_operator.kube.workqueue import Key, WorkQueue
from llm_operator.manifests.deployment import NO_TOOLS
from llm_operator.reconcile.evaluate import evaluate, status_after
from llm_operator.reconcile.invalid import invalid_status
from llm_operator.settings import ToolSettings
from llm_operator.telemetry import logs
from llm_operator.telemetry.metrics import CONTROLLER, Metrics
from llm_operator.telemetry.objects import Served

log = logging.getLogger("llm_operator.controller")

# A refused write is tried again at this pace: a quota may be raised, a foreign object removed.
REFUSED_RETRY_SECONDS = 30.0


def utc_now() -> str:
    """The time as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Controller:
    """Workers over one queue and one cache."""

    def __init__(  # noqa: PLR0913 - made in one place
        self,
        client: ApiClient,
        cache: Cache,
        queue: WorkQueue,
        planner: Planner,
        metrics: Metrics,
        tools: ToolSettings = NO_TOOLS,
        now: Callable[[], str] = utc_now,
        *,
        identity: str = "this operator",
        paces: Paces = DEFAULT_PACES,
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._tools = tools
        self._now = now
        claims = Claims(client)
        self._contest = Contest(identity)
        self._model_jobs = ModelJobs(client, cache, queue, tools, now, self._contest)
        self._gatherer = Gatherer(client, cache, queue, planner, claims, self._model_jobs, tools, paces=paces)
        self._executor = Executor(client, cache, queue, claims, self._model_jobs, self._contest)
        self._publisher = Publisher(client, cache, queue, self._contest, now)
        self._results = {
            name: metrics.reconcile_total.labels(controller=CONTROLLER, result=name)
            for name in ("success", "error", "requeue_after")
        }
        self._errors = metrics.reconcile_errors_total.labels(controller=CONTROLLER)
        self._time = metrics.reconcile_time.labels(controller=CONTROLLER)
        self._active = metrics.active_workers.labels(controller=CONTROLLER)

    def served(self, key: Key) -> Served:
        """What the metrics tell of an object that is in the cache."""
        return self._gatherer.served(key)

    async def work(self) -> None:
        """One worker; runs until it is cancelled."""
        while True:
            key = await self._queue.get()
            start = time.perf_counter()
            self._active.inc()
            try:
                await self._guarded(key)
            finally:
                self._active.dec()
                self._time.observe(time.perf_counter() - start)
                self._queue.done(key)

    async def _guarded(self, key: Key) -> None:
        """Reconcile one key; whatever goes wrong, the key comes back and the worker lives."""
        body = self._cache.objects.get(key)
        generation = body["metadata"].get("generation") if body else None
        token = logs.context.set(
            {"namespace": key[0], "name": key[1], "generation": generation, "reconcileID": uuid.uuid4().hex[:12]}
        )
        try:
            refused = await self.reconcile(key)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            wait = error.retry_after or 0.0 if isinstance(error, ApiError) else 0.0
            seconds = self._queue.retry(key, wait)
            self._errors.inc()
            self._results["error"].inc()
            expected = isinstance(error, (LostLeadershipError, *UNREADABLE))
            log.warning("reconcile failed, again in %.2f s: %s", seconds, error, exc_info=not expected)
        else:
            self._queue.forget(key)
            self._results["requeue_after" if refused else "success"].inc()
            if refused:
                self._queue.add_after(key, REFUSED_RETRY_SECONDS)
        finally:
            logs.context.reset(token)

    async def reconcile(self, key: Key) -> bool:
        """Bring one object's children and status to what they should be.

        Returns:
            Whether the API server refused a write, so that it must be tried again.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        if key[1].startswith(JOB_PREFIX):
            await self._model_jobs.reconcile(key)
            return False
        body = self._cache.objects.get(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            self._contest.forget(key)
            self._gatherer.forget(key)
            self._model_jobs.forget(key)
            return False
        aside = self._contest.aside(key, body, self._now())
        try:
            resource = LLMDeployment.parse(body).handing_on(self._tools.propagation)
        except InvalidResource as invalid:
            self._model_jobs.keep(key)
            if aside is None:
                await self._publisher.publish(key, body, invalid_status(body, str(invalid), self._now()))
                return False
        else:
            self._model_jobs.want(key, resource)
        if aside is not None:
            self._gatherer.forget(key)
            await self._publisher.stand_aside(key, body, aside)
            return False
        snapshot = await self._gatherer.gather(key, resource)
        outcome = evaluate(snapshot)
        executed = await self._executor.execute(key, resource, outcome.decision)
        self._gatherer.follow(key, outcome.follow)
        status = status_after(snapshot, outcome, executed, self._now())
        await self._publisher.publish(key, body, status, executed.restored)
        if outcome.look_again_seconds is not None:
            self._queue.add_after(key, outcome.look_again_seconds)
        return bool(executed.blocked)
