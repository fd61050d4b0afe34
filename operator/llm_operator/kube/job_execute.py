"""The middle of a Job's reconcile: the one thing that was decided on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from llm_operator.kube import ownership
from llm_operator.kube.cache import Cache
from llm_operator.kube.client import REPLACED, ApiClient, ApiError
from llm_operator.kube.job_making import JobMaker
from llm_operator.kube.keys import JobKey
from llm_operator.kube.ownership import ForeignError
from llm_operator.kube.workqueue import Queues
from llm_operator.live.claims import ClaimFacts
from llm_operator.pipeline.artifacts import (
    ANNOTATION_DAMAGED,
    ANNOTATION_LEFTOVER,
    ANNOTATION_REMOVE,
    ANNOTATION_RESULT,
    ANNOTATION_UNUSED_SINCE,
    ANNOTATION_VERIFIED,
)
from llm_operator.pipeline.job_snapshot import JobOutcome, JobSnapshot
from llm_operator.pipeline.job_view import JobView, last_words, lost_result
from llm_operator.pipeline.retention import Fate
from llm_operator.pipeline.volume_job import Verification, remove_job, verify_job
from llm_operator.settings import ToolSettings

log = logging.getLogger("llm_operator.model_jobs")

FOREIGN_SECONDS = 300.0
"""Until a Job whose name is taken is tried again."""
END_NOW: dict[str, Any] = {"activeDeadlineSeconds": 1}
"""In a Job's spec: its pods end within their grace period, and it stays, failed."""


class JobExecutor:
    """Carries out what becomes of Jobs."""

    def __init__(
        self,
        client: ApiClient,
        cache: Cache,
        queues: Queues,
        maker: JobMaker,
        tools: ToolSettings,
        now: Callable[[], str],
    ) -> None:
        self._client = client
        self._cache = cache
        self._queues = queues
        self._maker = maker
        self._tools = tools
        self._now = now

    async def execute(self, key: JobKey, snapshot: JobSnapshot, outcome: JobOutcome) -> None:
        """Carry out what was decided on.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        job, fate = snapshot.job, outcome.fate
        if job is None:
            return
        if fate.action == "End":
            log.info("Job %s is ended: %s", job.name, fate.why)
        noted = self._notes(job, fate)
        if noted is not None:
            await self._annotate(key, job, noted, END_NOW if fate.action == "End" else None)
        elif fate.action == "Delete" and outcome.for_good:
            log.info("Job %s is deleted: %s", job.name, fate.why)
            await self._client.delete("Job", key.namespace, job.name, job.uid)
        elif fate.action == "Delete":
            await self._maker.delete(key, job, fate.why)
        elif fate.action == "Remove":
            await self._remove(key, job, fate.directory)
        elif fate.action == "Verify":
            await self._verify(key, job)
        elif fate.action == "Verified":
            await self._verified(key, job, snapshot.compared)

    def _notes(self, job: JobView, fate: Fate) -> dict[str, str | None] | None:
        """What is written on the Job itself; None: nothing, or there is something else to do."""
        leftover = job.leftover()
        match fate.action:
            case "Record":
                return {ANNOTATION_RESULT: last_words(job.pods)}
            case "RecordLoss":
                log.warning("Job %s is complete and left no result", job.name)
                return {ANNOTATION_RESULT: lost_result(job)}
            case "Note" if leftover is not None:
                return {ANNOTATION_LEFTOVER: leftover.to_text()}
            case "End" | "MarkUnused":
                return {ANNOTATION_UNUSED_SINCE: self._now()}
            case "MarkUsed":
                return {ANNOTATION_UNUSED_SINCE: None, ANNOTATION_REMOVE: None}
        return None

    async def _annotate(
        self, key: JobKey, job: JobView, annotations: dict[str, str | None], spec: dict[str, Any] | None = None
    ) -> None:
        try:
            answer = await self._client.annotate("Job", key.namespace, job.name, job.uid, annotations, spec)
        except ApiError as error:
            # A successor of the same name is another Job, and has its own look.
            if error.status != 404 and error.reason != REPLACED:
                raise
            return
        changed = self._cache.update({**answer, "kind": "Job"})
        if changed is not None:
            self._queues.add(changed)

    async def _remove(self, key: JobKey, job: JobView, directory: str) -> None:
        """Begin the removal of what a Job made; its own record goes when that is done."""
        claim = ClaimFacts(job.claim or "", job.claim_uid or "", single_node=False)
        log.info("%s is removed from claim %s", directory, claim.name)
        body = remove_job(key.namespace, claim, directory, self._tools, job.placement)
        await self._create(key, body)

    async def _verify(self, key: JobKey, job: JobView) -> None:
        """Begin to compare what a Job made with its hashes."""
        claim, result = ClaimFacts(job.claim or "", job.claim_uid or "", single_node=False), job.result()
        work = Verification(claim, job.directory(), (result.bytes if result is not None else None) or 0)
        log.info("%s on claim %s is compared with its hashes", work.directory, claim.name)
        await self._create(key, verify_job(key.namespace, work, self._tools, job.placement))

    async def _create(self, key: JobKey, body: dict[str, Any]) -> None:
        """Create a Job that no object waits for; one of that name that is somebody else's stays, and is waited for."""
        try:
            answer = await ownership.create(self._client, body)
        except ForeignError as foreign:
            log.warning("%s", foreign)
            self._queues.add_after(key, FOREIGN_SECONDS)
            return
        self._cache.update({**answer, "kind": "Job"})

    async def _verified(self, key: JobKey, job: JobView, makers: tuple[JobView, ...]) -> None:
        """Write down on the Jobs that made a directory what the comparison found."""
        result = job.result()
        damaged = result.message if result is not None and not result.ok else None
        if damaged:
            log.warning("%s on claim %s is damaged: %s", job.to_verify(), job.claim, damaged)
        for maker in makers:
            found = {ANNOTATION_VERIFIED: self._now(), ANNOTATION_DAMAGED: damaged}
            await self._annotate(JobKey(key.namespace, maker.name), maker, found)
        await self._client.delete("Job", key.namespace, job.name, job.uid)
