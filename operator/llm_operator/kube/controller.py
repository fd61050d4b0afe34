"""The controller: takes a key, decides, applies what differs, writes the status when it changed."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from llm_operator.api import KIND
from llm_operator.api.resource import InvalidResource, LLMDeployment
from llm_operator.api.status import Condition, LLMDeploymentStatus, MeasuredStatus, ProgressStatus
from llm_operator.kube import ownership
from llm_operator.kube.cache import JOB_PREFIX, Cache
from llm_operator.kube.claims import Claims
from llm_operator.kube.client import UNREADABLE, ApiClient, ApiError
from llm_operator.kube.contest import REASON, Aside, Contest
from llm_operator.kube.events import EVENT_MESSAGE_LIMIT, event_of
from llm_operator.kube.job_pods import JobPods
from llm_operator.kube.last_logs import LastLogs
from llm_operator.kube.lease import LostLeadershipError
from llm_operator.kube.model_jobs import ModelJobs
from llm_operator.kube.ownership import ForeignError
from llm_operator.kube.pod_owners import PodOwners
from llm_operator.kube.progress import ProgressReader
from llm_operator.kube.restoring import Restoring
from llm_operator.kube.starts import Starts
from llm_operator.kube.trial import Trials
from llm_operator.kube.vital_signs import VitalSigns
from llm_operator.kube.workqueue import Key, WorkQueue
from llm_operator.manifests.deployment import NO_TOOLS
from llm_operator.manifests.kinds import CHILD_KINDS
from llm_operator.manifests.model_job import ClaimFacts
from llm_operator.manifests.model_volume import FETCHER
from llm_operator.manifests.tools import CONTAINER, ToolSettings
from llm_operator.reconcile.decide import Apply, Decision, Delete, decide, kept_template
from llm_operator.reconcile.diagnose import (
    Trouble,
    deletion_refused,
    image_volumes,
    namespace_goes,
    without_image_volumes,
    write_refused,
)
from llm_operator.reconcile.drift import Drift
from llm_operator.reconcile.invalid import invalid_status
from llm_operator.reconcile.observed import Observed, Pod, Role
from llm_operator.reconcile.outcome import PlanOutcome
from llm_operator.reconcile.plan_record import provisional
from llm_operator.reconcile.prepare import Looked, inspection, needed_claims
from llm_operator.reconcile.status import Situation, status_of, transitions
from llm_operator.telemetry import logs
from llm_operator.telemetry.metrics import CONTROLLER, Metrics
from llm_operator.telemetry.objects import Served

JSON = dict[str, Any]
log = logging.getLogger("llm_operator.controller")

# A refused write is tried again at this pace: a quota may be raised, a foreign object removed.
REFUSED_RETRY_SECONDS = 30.0
MISSING_CLAIM_SECONDS = 5.0
"""Claims are not watched: one that is missing is asked for again at this pace."""
DECIDED_ON = ("generation", "deletionTimestamp", "annotations", "labels")
"""Fields of an object's metadata, as the cache keeps it, that tell of a change which somebody else made."""


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


def utc_now() -> str:
    """The time as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclasses.dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a decision: the first refused write of each role, and the decision with what is left to write."""

    blocked: dict[Role, Trouble]
    decision: Decision
    drift: tuple[Drift, ...] = ()
    restored: tuple[str, ...] = ()


async def _deleted(kind: str, name: str, deletion: Awaitable[None]) -> Trouble | None:
    """Why a deletion was refused; None if it was not.

    Raises:
        ApiError: the API server failed; the key is to be tried again.
    """
    try:
        await deletion
    except ApiError as error:
        if error.status in (409, 429) or error.status >= 500:
            raise
        log.warning("the deletion of %s %s was refused: %s", kind, name, error)
        return deletion_refused(kind, name, error.message)
    return None


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
    ) -> None:
        self._client = client
        self._cache = cache
        self._queue = queue
        self._planner = planner
        self._metrics = metrics
        self._tools = tools
        self._now = now
        self._claims = Claims(client)
        self._contest = Contest(identity)
        self._model_jobs = ModelJobs(client, cache, queue, tools, now, self._contest)
        self._progress = ProgressReader(client, queue.add)
        self._job_pods = JobPods(client, queue.add_after)
        self._trials = Trials(client)
        self._restoring = Restoring(client)
        self._owners = PodOwners(client)
        self._last_logs = LastLogs(client, queue)
        self._vital_signs = VitalSigns(queue.add, pace=tools.engine_look_seconds, silent=tools.engine_silent_seconds)
        self._starts = Starts(client, queue.add)
        self._results = {
            name: metrics.reconcile_total.labels(controller=CONTROLLER, result=name)
            for name in ("success", "error", "requeue_after")
        }
        self._errors = metrics.reconcile_errors_total.labels(controller=CONTROLLER)
        self._time = metrics.reconcile_time.labels(controller=CONTROLLER)
        self._active = metrics.active_workers.labels(controller=CONTROLLER)

    def served(self, key: Key) -> Served:
        """What the metrics tell of an object that is in the cache."""
        body = self._cache.objects[key]
        return Served(body, self._owners.restarts(body["metadata"]["uid"], self._cache.observed(key)))

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
            if body is None:
                self._planner.forget(key)
            self._contest.forget(key)
            self._progress.forget(key)
            self._last_logs.forget(key)
            self._vital_signs.forget(key)
            self._starts.forget(key)
            self._model_jobs.forget(key)
            return False
        aside = self._contest.aside(key, body, self._now())
        try:
            resource = LLMDeployment.parse(body).handing_on(self._tools.propagation)
        except InvalidResource as invalid:
            self._model_jobs.keep(key)
            if aside is None:
                await self._write_status(key, body, invalid_status(body, str(invalid), self._now()))
                return False
        else:
            self._model_jobs.want(key, resource)
        if aside is not None:
            await self._stand_aside(key, body, aside)
            return False
        seen = await self._observe(key, resource)
        plan = self._planner.outcome(key, resource, inspection(resource, seen, self._tools))
        decision = decide(resource, seen, plan, self._tools)
        done = await self._execute(key, resource, decision)
        refused, decision = done.blocked, done.decision
        own = await self._owners.own(key[0], body["metadata"]["uid"], self._cache.observed(key))
        observed = self._last_logs.added(key, own, resource.spec.engine.type)
        situation = Situation(
            resource,
            observed,
            decision,
            plan,
            refused.get("engine"),
            self._planner.measured(key, resource, observed),
            refused.get("chat"),
            done.drift,
            self._progress_of(key, observed, seen, decision),
            health=self._vital_signs.of(key, resource, observed),
            start=self._starts.of(key, resource, observed),
            policed=self._tools.network.enabled,
        )
        await self._write_status(key, body, status_of(situation, self._now()))
        await self._tell_restored(body, done.restored)
        if decision.preparation is not None and decision.preparation.claim_missing:
            self._queue.add_after(key, MISSING_CLAIM_SECONDS)
        return bool(refused)

    async def _stand_aside(self, key: Key, body: JSON, aside: Aside) -> None:
        """Leave an object to another operator, and say so."""
        for reader in (self._progress, self._last_logs, self._vital_signs, self._starts):
            reader.forget(key)
        self._queue.add_after(key, aside.seconds)
        if aside.status is None:
            return
        meta = body["metadata"]
        self._contest.writes_status(key, aside.status)
        answer = await self._client.apply_status(*key, meta["uid"], aside.status, meta["resourceVersion"])
        self._cache.update({**answer, "kind": KIND})
        self._queue.wrote(key, (KIND, answer["metadata"]["resourceVersion"]))
        condition = Condition.model_validate(aside.status["conditions"][-1], strict=False)
        log.warning("%s: %s", REASON, condition.message)
        await self._tell(body, condition)

    async def _observe(self, key: Key, resource: LLMDeployment) -> Observed:
        """What is there, with the Jobs of the model tools, and with the claims while a model is being prepared."""
        observed = await self._owners.own(key[0], resource.metadata.uid, self._cache.observed(key))
        if not self._tools.enabled:
            return observed
        jobs = await self._job_pods.with_refusals(key, self._model_jobs.jobs_of(key, resource))
        claims: dict[str, ClaimFacts | None] = {}
        if kept_template(resource, observed.deployment) is None or provisional(resource, observed):
            claims = await self._claims.look_up(key[0], needed_claims(resource))
        incomplete = self._model_jobs.incomplete(key, resource)
        return dataclasses.replace(observed, jobs=jobs, claims=claims, incomplete=incomplete)

    def _progress_of(self, key: Key, observed: Observed, seen: Observed, decision: Decision) -> ProgressStatus | None:
        """What the stage that runs says of itself; None where none runs."""
        preparation = decision.preparation
        running = preparation.running if preparation is not None and preparation.prepared is None else None
        pods: tuple[Pod, ...] = ()
        container = CONTAINER
        if running is not None and running.job in seen.jobs:
            pods = tuple(pod for pod in seen.jobs[running.job].pods if pod.running)
        elif decision.template is not None:
            container = FETCHER
            pods = tuple(pod for pod in observed.pods if pod.initializing == FETCHER and not pod.deleting)
        return self._progress.of(key, key[0], pods[0].name if pods else None, container)

    async def _execute(self, key: Key, resource: LLMDeployment, decision: Decision) -> _Outcome:
        """Carry out a decision."""
        blocked: dict[Role, Trouble] = {}
        refused = await self._trials.refusal(key, resource, decision.tried("engine"))
        if refused is not None:
            return _Outcome({"engine": refused}, dataclasses.replace(decision, deletes=()))
        refused = await self._trials.refusal(key, resource, decision.tried("chat"))
        if refused is not None:
            blocked["chat"] = refused
        left: list[Apply] = []
        drift: list[Drift] = []
        restored: list[str] = []
        for apply in decision.applies:
            if apply.role == "chat" and refused is not None:
                continue
            held = self._restoring.held(apply)
            if held is not None:
                drift.append(held.drift)
                if held.seconds is not None:
                    self._queue.add_after(key, held.seconds)
                continue
            trouble = await self._apply(key, apply, restored, drift)
            if trouble is not None:
                blocked.setdefault(apply.role, trouble)
                left.append(apply)
        kept = await self._delete_all(key, decision, blocked)
        left_over = dataclasses.replace(decision, applies=tuple(left), deletes=tuple(kept))
        return _Outcome(blocked, left_over, tuple(drift), tuple(restored))

    async def _delete_all(self, key: Key, decision: Decision, blocked: dict[Role, Trouble]) -> list[Delete]:
        """Delete what is to go; what was refused comes back, and why is added to `blocked`."""
        for body in decision.outdated:
            trouble = await _deleted("Job", body["metadata"]["name"], self._model_jobs.make_again(key, body))
            if trouble is not None:
                blocked.setdefault("engine", trouble)
        kept: list[Delete] = []
        for delete in decision.deletes:
            deletion = self._client.delete(delete.kind, key[0], delete.name, delete.uid)
            trouble = await _deleted(delete.kind, delete.name, deletion)
            if trouble is None:
                self._cache.forget(delete.kind, key, delete.name)
            else:
                blocked.setdefault(delete.role, trouble)
                kept.append(delete)
        return kept

    async def _apply(self, key: Key, apply: Apply, restored: list[str], drift: list[Drift]) -> Trouble | None:
        """Write one child; why it was refused. What others had changed is added to the lists."""
        body = apply.body
        kind, name = body["kind"], body["metadata"]["name"]
        try:
            if image_volumes(body) and not await self._keeps_image_volumes(apply):
                return without_image_volumes()
            answer = await self._written(key, apply)
            if kind in CHILD_KINDS:
                written = await self._restoring.written(apply, answer)
                answer = written.answer
                drift += [written.drift] if written.drift is not None else []
                restored += [f"{kind} {name!r}: {one.path}, set by {one.manager}, was undone" for one in written.undone]
                self._contest.wrote_child(body, answer)
        except ForeignError as foreign:
            return Trouble("NameConflict", str(foreign), stalled=True)
        except ApiError as error:
            # 404: its namespace, or what was looked at, is gone by now.
            if error.status in (404, 409, 429) or error.status >= 500:
                raise
            if "NamespaceTerminating" in error.causes:
                return namespace_goes(key[0])
            log.warning("%s %s was refused: %s", kind, name, error)
            return write_refused(kind, name, error.message)
        if kind == "PersistentVolumeClaim":
            # Nothing tells of it: claims are not watched.
            self._claims.learn(answer)
            self._queue.add(key)
        else:
            self._cache.update({**answer, "kind": kind})
            self._queue.wrote(key, (kind, answer["metadata"]["resourceVersion"]))
        log.info("wrote %s", kind)
        return None

    async def _written(self, key: Key, apply: Apply) -> JSON:
        if apply.body["kind"] == "Job" and not apply.seen:
            return await self._model_jobs.make(key, apply.body)
        if not apply.seen:
            return await ownership.create(self._client, apply.body)

        def looked(live: JSON) -> None:
            self._contest.finds_child(key, apply.body, live)

        return await ownership.update(self._client, apply.body, looked)

    async def _keeps_image_volumes(self, apply: Apply) -> bool:
        """Whether the API server keeps the image volumes of a pod template: an older one drops them without a word."""
        trial = await ownership.to_be_tried(self._client, apply.body)
        if trial is None:
            return True
        return image_volumes(trial) == image_volumes(await self._client.apply(trial, force=True, dry_run=True))

    async def _write_status(self, key: Key, body: JSON, status: LLMDeploymentStatus) -> None:
        """Write a status if it differs from the one that is there, and tell what changed."""
        told = body.get("status") or {}
        new = status.to_json()
        carried = self._contest.carried(key, told, self._now())
        if carried is not None:
            new["conditions"].append(carried[0])
            self._queue.add_after(key, carried[1])
        if new == told:
            return
        self._contest.writes_status(key, new)
        try:
            answer = await self._client.apply_status(key[0], key[1], body["metadata"]["uid"], new)
        except ApiError as error:
            if error.status == 404:
                # Its deletion was missed, or is about to be told: no child is made again for what is gone.
                if (self._cache.objects.get(key) or body)["metadata"]["uid"] == body["metadata"]["uid"]:
                    self._cache.forget(KIND, key, key[1])
                    self._queue.add(key)
                return
            raise
        self._cache.update({**answer, "kind": KIND})
        now = (self._cache.objects.get(key) or answer)["metadata"]
        if all(now.get(field) == body["metadata"].get(field) for field in DECIDED_ON):
            self._queue.wrote(key, (KIND, answer["metadata"]["resourceVersion"]))
        else:
            # The answer brought somebody else's change into the cache; its own event will look old when it comes.
            self._queue.add(key)
        before = [Condition.model_validate(entry, strict=False) for entry in told.get("conditions") or ()]
        for condition in transitions(before, status.conditions):
            log.info("%s is %s: %s: %s", condition.type, condition.status, condition.reason, condition.message)
            await self._tell(body, condition)

    async def _tell_restored(self, body: JSON, restored: tuple[str, ...]) -> None:
        """Say whose changes of children were undone: otherwise they vanish without a word."""
        if restored:
            log.info("%s", "; ".join(restored))
            message = "; ".join(restored)[:EVENT_MESSAGE_LIMIT]
            generation = body["metadata"].get("generation", 0)
            await self._tell(
                body,
                Condition(
                    type="Drifted",
                    status="False",
                    observed_generation=generation,
                    last_transition_time=self._now(),
                    reason="DriftRemoved",
                    message=message,
                ),
            )

    async def _tell(self, body: JSON, condition: Condition) -> None:
        try:
            await self._client.create(event_of(body["metadata"], condition, self._now()))
        except UNREADABLE as error:
            if isinstance(error, ApiError) and error.reason == "AlreadyExists":
                return  # the same was said within this second
            # An event is news, not state: the status says the same.
            log.warning("event %s was not written: %s", condition.reason, error)
