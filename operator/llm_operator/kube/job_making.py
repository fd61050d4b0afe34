"""Makes and deletes the Jobs of the model tools: one maker per name at a time, and not too often."""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import Any

from llm_operator.kube import ownership
from llm_operator.kube.cache import Cache
from llm_operator.kube.client import ApiClient
from llm_operator.kube.contest import Contest
from llm_operator.kube.interest import Interest
from llm_operator.kube.keys import JobKey, Key
from llm_operator.kube.ownership import ForeignError
from llm_operator.kube.remaking import Remaking
from llm_operator.kube.workqueue import Queues
from llm_operator.pipeline.artifacts import ANNOTATION_JOB_TEMPLATE
from llm_operator.pipeline.job_view import JobView

log = logging.getLogger("llm_operator.model_jobs")

MOST_REMEMBERED = 4096


class JobMaker:
    """Creates and deletes Jobs, for objects that wait for them and for what becomes of them."""

    def __init__(self, client: ApiClient, cache: Cache, queues: Queues, interest: Interest, contest: Contest) -> None:
        self._client = client
        self._cache = cache
        self._queues = queues
        self._interest = interest
        self._contest = contest
        self._remaking = Remaking()
        self._made_as: dict[JobKey, str] = {}
        """By Job: the digest of the template that this process made it with last."""
        self._making: weakref.WeakValueDictionary[JobKey, asyncio.Lock] = weakref.WeakValueDictionary()

    async def make(self, key: Key, body: dict[str, Any]) -> dict[str, Any]:
        """Create a Job; while another object makes it again, wait until that one has.

        Args:
            key: the object that waits for it.
            body: the Job.

        Raises:
            ForeignError: somebody else's has its name.
            ApiError: refused.
        """
        of_job = JobKey(key[0], body["metadata"]["name"])
        async with self._lock(of_job):
            return await self._create(of_job, body)

    async def make_again(self, key: Key, body: dict[str, Any]) -> None:
        """Make a Job again that waits to begin; at once, before another object that waits for it makes its own.

        Args:
            key: the object that waits for it.
            body: the Job as it is to be.

        Raises:
            ApiError: refused.
        """
        of_job = JobKey(key[0], body["metadata"]["name"])
        async with self._lock(of_job):
            job = self._cache.job(of_job)
            if job is None or job.deleting or job.begun:
                return
            if self._made_as.get(of_job) == _digest_of(body):
                # This process made it as it should be, and another one has made it otherwise since.
                self._contest.undone(key, 2)
                if self._contest.lost(key):
                    self._queues.add(key)
                    return
            if await self.delete(of_job, job, "what it was made with has changed, and it has not begun"):
                try:
                    answer = await self._create(of_job, body)
                except ForeignError:
                    return  # the next look says whose it is
                if _digest_of(answer) != _digest_of(body):
                    self._contest.undone(key, 2)
                self._cache.update({**answer, "kind": "Job"})

    async def delete(self, key: JobKey, job: JobView, why: str) -> bool:
        """Delete a Job; one that will be made again not too often, whatever the reason: then it stays for now.

        Raises:
            ApiError: refused.
        """
        if self._interest.waiting_for(key):
            wait = self._remaking.wait(key)
            if wait > 0:
                self._queues.add_after(key, wait)
                return False
            self._remaking.count(key)
        log.info("Job %s is deleted: %s", job.name, why)
        self._made_as.pop(key, None)
        await self._client.delete("Job", key.namespace, job.name, job.uid)
        return True

    async def _create(self, of_job: JobKey, body: dict[str, Any]) -> dict[str, Any]:
        answer = await ownership.create(self._client, body)
        if len(self._made_as) >= MOST_REMEMBERED:
            self._made_as.pop(next(iter(self._made_as)))
        if _digest_of(answer) == _digest_of(body):
            self._made_as[of_job] = _digest_of(body)
        return answer

    def _lock(self, of_job: JobKey) -> asyncio.Lock:
        """Held while a Job is created; forgotten when no one uses it."""
        return self._making.setdefault(of_job, asyncio.Lock())


def _digest_of(job: dict[str, Any]) -> str:
    return str((job["metadata"].get("annotations") or {}).get(ANNOTATION_JOB_TEMPLATE) or "")
