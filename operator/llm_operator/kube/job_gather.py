"""The beginning of a Job's reconcile: everything that is known of it, once."""

from __future__ import annotations

from llm_operator.kube.cache import Cache
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.interest import Interest
from llm_operator.kube.keys import JobKey, Key
from llm_operator.pipeline.job_snapshot import ClaimState, JobSnapshot
from llm_operator.pipeline.job_view import JobView
from llm_operator.pipeline.retention import VerifyFacts
from llm_operator.settings import ToolSettings

REMOVAL_PREFIX = "llm-remove-"


class JobGatherer:
    """What is known of Jobs: from the cache, from what objects request, and of the claim from the API server."""

    def __init__(self, client: ApiClient, cache: Cache, interest: Interest, tools: ToolSettings) -> None:
        self._client = client
        self._cache = cache
        self._interest = interest
        self._tools = tools

    async def gather(self, key: JobKey) -> JobSnapshot:
        """Everything that is known of a Job now.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        claim = await self._claim_state(key)
        job, makers = self._cache.job(key), self._makers(key)
        if job is None or job.deleting:
            return JobSnapshot(None)
        removal = job.removal()
        other = makers[0] if makers else JobKey(key.namespace, removal) if removal and job.stage != "remove" else None
        return JobSnapshot(
            job,
            wanted=bool(self._interest.waiting_for(key)),
            interest_known=self._interest.known(key.namespace),
            unread=self._interest.unread(key.namespace),
            makers=tuple(maker.name for maker in makers),
            counterpart=self._cache.job(other) if other is not None else None,
            claim=claim,
            in_use=self._in_use(key.namespace, job),
            finished_elsewhere=self._finished_elsewhere(key.namespace, job),
            unfinished=self._unfinished(key.namespace, job),
            unused_with=self._unused_with(key.namespace, removal),
            verify=self._verify_facts(key, job),
            compared=tuple(self._made(key.namespace, job.claim, job.to_verify())),
        )

    def concerned(self, key: JobKey) -> tuple[Key, ...]:
        """The objects that wait for a Job, or for what it removes."""
        jobs = self._makers(key) or [key]
        return tuple(dict.fromkeys(one for job in jobs for one in self._interest.waiting_for(job)))

    async def _claim_state(self, key: JobKey) -> ClaimState:
        """Whether the claim that a Job worked on goes away. Claims are not watched."""
        job = self._cache.job(key)
        if job is None or job.deleting or job.claim is None or not job.claim_uid or not job.settled:
            return "Stays"
        if not self._interest.known(key.namespace):
            return "Stays"
        try:
            claim = await self._client.get("PersistentVolumeClaim", key.namespace, job.claim)
        except ApiError as error:
            if error.status in (403, 404):
                return "Stays"
            raise
        owners = {owner["uid"] for owner in claim["metadata"].get("ownerReferences") or () if owner.get("controller")}
        if claim["metadata"]["uid"] == job.claim_uid and "deletionTimestamp" in claim["metadata"]:
            return "Deleting"
        living = {self._cache.objects[other]["metadata"]["uid"] for other in self._cache.objects_in(key.namespace)}
        return "Orphaned" if owners and not owners & living else "Stays"

    def _makers(self, key: JobKey) -> list[JobKey]:
        """The Jobs whose work a removal undoes; empty for other Jobs."""
        if not key.name.startswith(REMOVAL_PREFIX):
            return []
        jobs = self._cache.jobs_removed_by(key.namespace, key.name)
        return [JobKey(key.namespace, job.name) for job in jobs if job.stage != "remove"]

    def _in_use(self, namespace: str, job: JobView) -> bool:
        """Whether a pod mounts what a Job made, also one that ends just now, or an object requests the same directory.

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
        return any(self._interest.waiting_for(JobKey(namespace, other.name)) for other in others)

    def _unused_with(self, namespace: str, removal: str | None) -> tuple[str | None, ...]:
        jobs = self._cache.jobs_removed_by(namespace, removal) if removal is not None else []
        return tuple(job.unused_since for job in jobs)

    def _finished_elsewhere(self, namespace: str, job: JobView) -> bool:
        """Whether another Job has completed the partial output of this one: a branch, and its commit."""
        leftover = job.leftover()
        return leftover is not None and any(
            other.phase == "Complete" and other.claim == job.claim
            for other in self._cache.jobs_at(namespace, leftover.directory)
        )

    def _unfinished(self, namespace: str, job: JobView) -> tuple[str, ...]:
        """Other Jobs with partial output in the same directory."""
        others = self._cache.jobs_at(namespace, job.directory())
        return tuple(other.name for other in others if other.leftover() is not None)

    def _made(self, namespace: str, claim: str | None, directory: str) -> list[JobView]:
        """The Jobs that completed a directory of a claim."""
        jobs = self._cache.jobs_at(namespace, directory) if directory else []
        return [job for job in jobs if job.claim == claim and job.verification() is not None]

    def _verify_facts(self, key: JobKey, job: JobView) -> VerifyFacts:
        """What decides when a directory is compared with its hashes."""
        namespace, seconds = key.namespace, self._tools.verify_seconds if self._tools.enabled else 0
        if job.stage == "verify":
            makers = self._made(namespace, job.claim, job.to_verify())
            wanted = any(self._interest.waiting_for(JobKey(namespace, maker.name)) for maker in makers)
            return VerifyFacts(seconds, makers=wanted)
        name = job.verification()
        if name is None:
            return VerifyFacts()
        made = self._made(namespace, job.claim, job.directory())
        times = [time for one in (job, *made) for time in (one.verified_at, one.finished_at) if time is not None]
        own = JobKey(namespace, name)
        return VerifyFacts(
            seconds,
            at=max(times, default=None),
            running=self._cache.job(own) is not None,
            busy=self._cache.verifies_other_than(own),
        )
