"""What becomes of the model tools' Jobs: results are kept, failures tried again, what nobody wants ends."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from llm_operator.api.resource import LLMDeployment
from llm_operator.kube import ownership
from llm_operator.kube.cache import JOB_PREFIX, Cache, job_key
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.contest import Contest
from llm_operator.kube.ownership import ForeignError
from llm_operator.kube.remaking import Remaking
from llm_operator.kube.workqueue import Key, WorkQueue
from llm_operator.live.claims import ClaimFacts
from llm_operator.pipeline.artifacts import (
    ANNOTATION_DAMAGED,
    ANNOTATION_INCOMPLETE,
    ANNOTATION_JOB_TEMPLATE,
    ANNOTATION_REMOVE,
    ANNOTATION_RESULT,
    ANNOTATION_UNUSED_SINCE,
    ANNOTATION_VERIFIED,
)
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job_view import JobView, last_words, lost_result
from llm_operator.pipeline.retention import Fate, VerifyFacts, fate_of, verification_fate, verify_fate
from llm_operator.pipeline.volume_job import Verification, remove_job, verify_job
from llm_operator.settings import ToolSettings

log = logging.getLogger("llm_operator.model_jobs")

UNKNOWN_INTEREST_SECONDS = 5.0
HARMLESS = ("Record", "RecordLoss", "Note")
"""What is done also with a Job that may be an unreadable object's."""
MOST_REMEMBERED = 4096
END_NOW: dict[str, Any] = {"activeDeadlineSeconds": 1}
"""In a Job's spec: its pods end within their grace period, and it stays, failed."""


class ModelJobs:
    """Reconciles Jobs by keys of their own, and tells the objects that wait for them."""

    def __init__(
        self,
        client: ApiClient,
        cache: Cache,
        queue: WorkQueue,
        tools: ToolSettings,
        now: Callable[[], str],
        contest: Contest | None = None,
    ) -> None:
        self._client = client
        self._cache = cache
        self._queue = queue
        self._tools = tools
        self._now = now
        self._wanted: dict[Key, frozenset[str]] = {}
        self._waiting: dict[Key, set[Key]] = {}
        """Objects by the Job that they ask for."""
        self._unread: dict[str, set[Key]] = {}
        """By namespace: objects that this process could not read yet."""
        self._left_alone: dict[str, set[Key]] = {}
        """By namespace: Jobs that may be such an object's."""
        self._verifying: set[Key] = set()
        """Jobs that compare a model with its hashes."""
        self._incomplete: dict[Key, str] = {}
        """By Job: what it left half-done, for the next one of its name."""
        self._remaking = Remaking()
        self._contest = contest or Contest("this operator")
        self._made_as: dict[Key, str] = {}
        """By Job: the digest of the template that this process made it with last."""
        self._making: weakref.WeakValueDictionary[Key, asyncio.Lock] = weakref.WeakValueDictionary()

    def want(self, key: Key, resource: LLMDeployment) -> None:
        """An object asks for what its spec says; Jobs that it no longer asks for are looked at again."""
        names = (
            frozenset(artifact.job_name for artifact in artifacts_of(resource)) if self._tools.enabled else frozenset()
        )
        self._change(key, names)
        self._read(key)

    def forget(self, key: Key) -> None:
        """An object is gone, or is being deleted: then it asks for nothing, however long that takes."""
        self._change(key, frozenset() if key in self._cache.objects else None)
        self._read(key)

    def keep(self, key: Key) -> None:
        """An object cannot be read: what it asked for before it still asks for.

        What it asked for before this process began is not known: it may be any Job of its namespace.
        """
        if key not in self._wanted:
            self._unread.setdefault(key[0], set()).add(key)
        self._change(key, self._wanted.get(key, frozenset()))

    def _read(self, key: Key) -> None:
        """An object says what it asks for: Jobs of its namespace that were left alone for its sake are looked at."""
        unread = self._unread.get(key[0], set())
        if key not in unread:
            return
        unread.discard(key)
        if not unread:
            del self._unread[key[0]]
            for job in self._left_alone.pop(key[0], ()):
                self._queue.add(job)

    def jobs_of(self, key: Key, resource: LLMDeployment) -> dict[str, JobView]:
        """The Jobs that make, or remove, what an object asks for, by name, as far as they exist."""
        names = [artifact.job_name for artifact in artifacts_of(resource)]
        found = {name: job for name in names if (job := self._cache.job(job_key(key[0], name))) is not None}
        made = {name: dataclasses.replace(job, shared_with=self._sharer(key, job)) for name, job in found.items()}
        removals = [name for job in made.values() if (name := job.removal()) is not None]
        return made | {name: job for name in removals if (job := self._cache.job(job_key(key[0], name))) is not None}

    def _sharer(self, key: Key, job: JobView) -> str:
        """Name of another object that a Job was made for and that waits for it, or may; empty if there is none."""
        waiting = self._waiting.get(job_key(key[0], job.name), set())
        if not job.made_for:
            return min((other[1] for other in waiting if other != key), default="")
        maker = (key[0], job.made_for)
        unread = maker in self._cache.objects and maker not in self._wanted
        return job.made_for if maker != key and (maker in waiting or unread) else ""

    async def make_again(self, key: Key, body: dict[str, Any]) -> None:
        """Make a Job again that waits to begin; at once, before another object that waits for it makes its own."""
        of_job = job_key(key[0], body["metadata"]["name"])
        async with self._lock(of_job):
            job = self._cache.job(of_job)
            if job is None or job.deleting or job.begun:
                return
            if self._made_as.get(of_job) == _digest_of(body):
                # This process made it as it should be, and another one has made it otherwise since.
                self._contest.undone(key, 2)
                if self._contest.lost(key):
                    self._queue.add(key)
                    return
            if await self._delete(of_job, job, "what it was made with has changed, and it has not begun"):
                try:
                    answer = await self._create(of_job, body)
                except ForeignError:
                    return  # the next look says whose it is
                if _digest_of(answer) != _digest_of(body):
                    self._contest.undone(key, 2)
                self._cache.update({**answer, "kind": "Job"})

    async def make(self, key: Key, body: dict[str, Any]) -> dict[str, Any]:
        """Create a Job; while another object makes it again, wait until that one has.

        Raises:
            ForeignError: somebody else's has its name.
            ApiError: refused.
        """
        of_job = job_key(key[0], body["metadata"]["name"])
        async with self._lock(of_job):
            return await self._create(of_job, body)

    async def _create(self, of_job: Key, body: dict[str, Any]) -> dict[str, Any]:
        answer = await ownership.create(self._client, body)
        if len(self._made_as) >= MOST_REMEMBERED:
            self._made_as.pop(next(iter(self._made_as)))
        if _digest_of(answer) == _digest_of(body):
            self._made_as[of_job] = _digest_of(body)
        return answer

    def _lock(self, of_job: Key) -> asyncio.Lock:
        """Held while a Job is created; forgotten when nobody uses it."""
        return self._making.setdefault(of_job, asyncio.Lock())

    def incomplete(self, key: Key, resource: LLMDeployment) -> dict[str, str]:
        """What earlier Jobs left half-done of what an object asks for, by name, as the annotation of the next ones."""
        names = [artifact.job_name for artifact in artifacts_of(resource)]
        return {name: text for name in names if (text := self._incomplete.get(job_key(key[0], name))) is not None}

    async def reconcile(self, key: Key) -> None:
        """Look at one Job after something happened to it.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        job = self._cache.job(key)
        makers = self._makers(key)
        for concerned in makers or [key]:
            for waiting in self._waiting.get(concerned, ()):
                self._queue.add(waiting)
        if job is None or job.stage != "verify" or job.phase != "Active":
            self._verifying.discard(key)
        else:
            self._verifying.add(key)
        if job is None or job.deleting:
            return
        if not self._interest_known(key[0]):
            self._queue.add_after(key, UNKNOWN_INTEREST_SECONDS)
            return
        if job.stage == "remove" and job.phase == "Complete":
            for maker in makers:
                self._queue.add(maker)
        removal = job.removal()
        other = makers[0] if makers else job_key(key[0], removal) if removal and job.stage != "remove" else None
        counterpart = self._cache.job(other) if other else None
        if await self._claim_goes(key, job):
            return
        fate = self._fate(key, job, counterpart)
        if self._unread.get(key[0]) and not self._waiting.get(key) and fate.action not in HARMLESS:
            self._left_alone.setdefault(key[0], set()).add(key)
            return
        self._remember(key, job, fate, removed=counterpart is not None)
        await self._carry_out(key, job, fate)

    def _fate(self, key: Key, job: JobView, counterpart: JobView | None) -> Fate:
        now, wanted = datetime.fromisoformat(self._now()).astimezone(UTC), bool(self._waiting.get(key))
        if job.stage == "verify":
            return verification_fate(job, self._verify_facts(key, job), now)
        fate = fate_of(
            self._with_time_of_all(key[0], job),
            wanted=wanted,
            in_use=self._in_use(key[0], job),
            counterpart=counterpart,
            now=now,
            retention_seconds=self._tools.retention_seconds,
            finished_elsewhere=self._finished_elsewhere(key[0], job),
        )
        if fate == Fate() and wanted and counterpart is None:
            return verify_fate(job, self._verify_facts(key, job), now)
        return fate

    async def _claim_goes(self, key: Key, job: JobView) -> bool:
        """Delete a Job whose claim is being deleted.

        Its ended pod names the claim and so holds it (kubernetes.io/pvc-protection), while the claim owns the Job:
        each would wait for the other for ever. Claims are not watched, so one whose object is gone is looked at until
        the garbage collector deletes it.
        """
        if job.claim is None or not job.claim_uid or not job.settled:
            return False
        try:
            claim = await self._client.get("PersistentVolumeClaim", key[0], job.claim)
        except ApiError as error:
            if error.status in (403, 404):
                return False
            raise
        owners = {owner["uid"] for owner in claim["metadata"].get("ownerReferences") or () if owner.get("controller")}
        living = {self._cache.objects[other]["metadata"]["uid"] for other in self._cache.objects_in(key[0])}
        if claim["metadata"]["uid"] == job.claim_uid and "deletionTimestamp" in claim["metadata"]:
            log.info("Job %s is deleted: its claim %s is being deleted", job.name, job.claim)
            await self._client.delete("Job", key[0], job.name, job.uid)
            return True
        if owners and not owners & living:
            # The garbage collector is about to delete it.
            self._queue.add_after(key, UNKNOWN_INTEREST_SECONDS)
        return False

    def _remember(self, key: Key, job: JobView, fate: Fate, *, removed: bool) -> None:
        """Keep what a Job left, whoever may delete it, for the next one of its name; unless it goes for good."""
        leftover = job.leftover()
        if leftover is None or (fate.action == "Delete" and (removed or not self._waiting.get(key))):
            self._incomplete.pop(key, None)
        else:
            self._incomplete[key] = leftover.to_text()

    async def _carry_out(self, key: Key, job: JobView, fate: Fate) -> None:
        namespace = key[0]
        if fate.look_again_seconds is not None:
            self._queue.add_after(key, fate.look_again_seconds)
        leftover = job.leftover()
        if fate.action == "Record":
            await self._annotate(namespace, job, {ANNOTATION_RESULT: last_words(job.pods)})
            self._look_at_unfinished(namespace, job.directory())
        elif fate.action == "RecordLoss":
            log.warning("Job %s is complete and left no result", job.name)
            await self._annotate(namespace, job, {ANNOTATION_RESULT: lost_result(job)})
        elif fate.action == "Note" and leftover is not None:
            await self._annotate(namespace, job, {ANNOTATION_INCOMPLETE: leftover.to_text()})
        elif fate.action == "End":
            log.info("Job %s is ended: %s", job.name, fate.why)
            await self._annotate(namespace, job, {ANNOTATION_UNUSED_SINCE: self._now()}, END_NOW)
        elif fate.action in ("MarkUnused", "MarkUsed"):
            unused: dict[str, str | None] = {ANNOTATION_UNUSED_SINCE: self._now()}
            used: dict[str, str | None] = {ANNOTATION_UNUSED_SINCE: None, ANNOTATION_REMOVE: None}
            await self._annotate(namespace, job, unused if fate.action == "MarkUnused" else used)
        elif fate.action == "Delete":
            await self._delete(key, job, fate.why)
        elif fate.action == "Remove":
            await self._remove(namespace, job, fate.directory)
        elif fate.action in ("Verify", "Verified"):
            await (self._verify if fate.action == "Verify" else self._verified)(namespace, job)

    async def _delete(self, key: Key, job: JobView, why: str) -> bool:
        """Delete a Job; one that will be made again not too often, whatever the reason: then it stays for now."""
        if self._waiting.get(key):
            wait = self._remaking.wait(key)
            if wait > 0:
                self._queue.add_after(key, wait)
                return False
            self._remaking.count(key)
        log.info("Job %s is deleted: %s", job.name, why)
        self._made_as.pop(key, None)
        await self._client.delete("Job", key[0], job.name, job.uid)
        return True

    async def _annotate(
        self, namespace: str, job: JobView, annotations: dict[str, str | None], spec: dict[str, Any] | None = None
    ) -> None:
        try:
            answer = await self._client.annotate("Job", namespace, job.name, annotations, spec)
        except ApiError as error:
            if error.status != 404:
                raise
            return
        changed = self._cache.update({**answer, "kind": "Job"})
        if changed is not None:
            self._queue.add(changed)

    async def _remove(self, namespace: str, job: JobView, directory: str) -> None:
        """Begin the removal of what a Job made; its own record goes when that is done."""
        claim = ClaimFacts(job.claim or "", job.claim_uid or "", single_node=False)
        log.info("%s is removed from claim %s", directory, claim.name)
        body = remove_job(namespace, claim, directory, self._tools, job.placement)
        answer = await ownership.create(self._client, body)
        self._cache.update({**answer, "kind": "Job"})

    def _made(self, namespace: str, claim: str | None, directory: str) -> list[JobView]:
        """The Jobs that completed a directory of a claim."""
        jobs = self._cache.jobs_at(namespace, directory) if directory else []
        return [job for job in jobs if job.claim == claim and job.verification() is not None]

    def _verify_facts(self, key: Key, job: JobView) -> VerifyFacts:
        """What decides when a directory is compared with its hashes."""
        namespace, seconds = key[0], self._tools.verify_seconds if self._tools.enabled else 0
        if job.stage == "verify":
            makers = self._made(namespace, job.claim, job.to_verify())
            wanted = any(self._waiting.get(job_key(namespace, maker.name)) for maker in makers)
            return VerifyFacts(seconds, makers=wanted)
        name = job.verification()
        if name is None:
            return VerifyFacts()
        made = self._made(namespace, job.claim, job.directory())
        times = [time for one in (job, *made) for time in (one.verified_at, one.finished_at) if time is not None]
        own = job_key(namespace, name)
        return VerifyFacts(
            seconds,
            at=max(times, default=None),
            running=self._cache.job(own) is not None,
            busy=bool(self._verifying - {own}),
        )

    async def _verify(self, namespace: str, job: JobView) -> None:
        """Begin to compare what a Job made with its hashes."""
        claim, result = ClaimFacts(job.claim or "", job.claim_uid or "", single_node=False), job.result()
        work = Verification(claim, job.directory(), (result.bytes if result is not None else None) or 0)
        log.info("%s on claim %s is compared with its hashes", work.directory, claim.name)
        answer = await ownership.create(self._client, verify_job(namespace, work, self._tools, job.placement))
        made = self._cache.update({**answer, "kind": "Job"})
        if made is not None:
            self._verifying.add(made)

    async def _verified(self, namespace: str, job: JobView) -> None:
        """Write down on the Jobs that made a directory what the comparison found."""
        result = job.result()
        damaged = result.message if result is not None and not result.ok else None
        if damaged:
            log.warning("%s on claim %s is damaged: %s", job.to_verify(), job.claim, damaged)
        for maker in self._made(namespace, job.claim, job.to_verify()):
            await self._annotate(namespace, maker, {ANNOTATION_VERIFIED: self._now(), ANNOTATION_DAMAGED: damaged})
        await self._client.delete("Job", namespace, job.name, job.uid)

    def _change(self, key: Key, names: frozenset[str] | None) -> None:
        before = self._wanted.get(key, frozenset())
        if names is None:
            self._wanted.pop(key, None)
        else:
            self._wanted[key] = names
        for name in before - (names or frozenset()):
            self._waiting.get(job_key(key[0], name), set()).discard(key)
            self._queue.add(job_key(key[0], name))
        for name in (names or frozenset()) - before:
            self._waiting.setdefault(job_key(key[0], name), set()).add(key)
            if self._cache.job(job_key(key[0], name)) is not None:
                self._queue.add(job_key(key[0], name))

    def _interest_known(self, namespace: str) -> bool:
        """Whether every object of the namespace has said what it asks for: before that nothing is unwanted."""
        return all(key in self._wanted for key in self._cache.objects_in(namespace))

    def _in_use(self, namespace: str, job: JobView) -> bool:
        """Whether a pod mounts what a Job made, also one that ends just now, or an object asks for the same directory.

        `main` and the commit that it stood for are two names of one directory.
        """
        directory = job.directory()
        if not directory:
            return False
        if self._cache.mounted(namespace, directory):
            return True
        others = self._cache.jobs_at(namespace, directory)
        if job.leftover() is not None:
            others += [other for other in self._cache.undecided_jobs(namespace) if other.may_fill(directory)]
        return any(self._waiting.get(job_key(namespace, other.name)) for other in others)

    def _with_time_of_all(self, namespace: str, job: JobView) -> JobView:
        """The Job, unused no longer than all others that made or left the same: its time begins with the last one's."""
        name = job.removal()
        if job.unused_since is None or name is None:
            return job
        others = self._cache.jobs_removed_by(namespace, name)
        # The Job itself may have left the cache while its claim was asked for.
        return dataclasses.replace(job, unused_since=max(other.unused_since or self._now() for other in (job, *others)))

    def _finished_elsewhere(self, namespace: str, job: JobView) -> bool:
        """Whether another Job has completed what this one left half-done: a branch, and its commit."""
        leftover = job.leftover()
        return leftover is not None and any(
            other.phase == "Complete" and other.claim == job.claim
            for other in self._cache.jobs_at(namespace, leftover.directory)
        )

    def _look_at_unfinished(self, namespace: str, directory: str) -> None:
        """A directory is complete: whoever had left it half-done is looked at again."""
        for other in self._cache.jobs_at(namespace, directory):
            if other.leftover() is not None:
                self._queue.add(job_key(namespace, other.name))

    def _makers(self, key: Key) -> list[Key]:
        """The Jobs whose work a removal undoes; empty for other Jobs."""
        name = key[1].removeprefix(JOB_PREFIX)
        if not name.startswith("llm-remove-"):
            return []
        jobs = self._cache.jobs_removed_by(key[0], name)
        return [job_key(key[0], job.name) for job in jobs if job.stage != "remove"]


def _digest_of(job: dict[str, Any]) -> str:
    return str((job["metadata"].get("annotations") or {}).get(ANNOTATION_JOB_TEMPLATE) or "")
