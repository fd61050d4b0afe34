"""Which Jobs of the model tools the objects need: the others end, and an object is queued when its Jobs change."""

from __future__ import annotations

import dataclasses

from llm_operator.api.resource import LLMDeployment
from llm_operator.kube.cache import Cache
from llm_operator.kube.keys import JobKey, Key
from llm_operator.kube.workqueue import Queues
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job_view import JobView


class Interest:
    """By object: the names of the Jobs that make what its spec requests, as this process read the spec last."""

    def __init__(self, cache: Cache, queues: Queues, *, enabled: bool) -> None:
        """Nothing is known yet.

        Args:
            cache: the objects and Jobs.
            queues: get the Jobs whose objects have changed their mind.
            enabled: whether there are model tools at all.
        """
        self._cache = cache
        self._queues = queues
        self._enabled = enabled
        self._wanted: dict[Key, frozenset[str]] = {}
        self._waiting: dict[JobKey, set[Key]] = {}
        """Objects by the Job that they need."""
        self._unread: dict[str, set[Key]] = {}
        """By namespace: objects that this process could not read yet."""
        self._left_alone: dict[str, set[JobKey]] = {}
        """By namespace: Jobs that may be such an object's."""

    def want(self, key: Key, resource: LLMDeployment) -> None:
        """An object needs the Jobs of its spec; those that it no longer needs are reconciled again."""
        names = (artifact.job_name for artifact in artifacts_of(resource)) if self._enabled else ()
        self._change(key, frozenset(names))
        self._read(key)

    def forget(self, key: Key) -> None:
        """An object is gone, or is being deleted: then it needs no Job, however long that takes."""
        self._change(key, frozenset() if key in self._cache.objects else None)
        self._read(key)

    def keep(self, key: Key) -> None:
        """An object cannot be read: it still needs the Jobs that it needed before.

        Which Jobs it needed before this process began is not known: it may be any Job of its namespace.
        """
        if key not in self._wanted:
            self._unread.setdefault(key[0], set()).add(key)
        self._change(key, self._wanted.get(key, frozenset()))

    def leave_alone(self, job: JobKey) -> None:
        """A Job may be an unreadable object's: it is looked at again once all objects of its namespace can be read."""
        self._left_alone.setdefault(job.namespace, set()).add(job)

    def waiting_for(self, job: JobKey) -> tuple[Key, ...]:
        """The objects that need a Job."""
        return tuple(self._waiting.get(job, ()))

    def known(self, namespace: str) -> bool:
        """Whether every object of the namespace has said which Jobs it needs: until then every Job is kept."""
        return all(key in self._wanted for key in self._cache.objects_in(namespace))

    def unread(self, namespace: str) -> bool:
        """Whether an object of the namespace could not be read yet: any Job may be its."""
        return bool(self._unread.get(namespace))

    def jobs_of(self, key: Key, resource: LLMDeployment) -> dict[str, JobView]:
        """The Jobs that make, or remove, what an object requests, by name, as far as they exist."""
        names = [artifact.job_name for artifact in artifacts_of(resource)]
        found = {name: job for name in names if (job := self._cache.job(JobKey(key[0], name))) is not None}
        made = {name: dataclasses.replace(job, shared_with=self._sharer(key, job)) for name, job in found.items()}
        removals = [name for job in made.values() if (name := job.removal()) is not None]
        return made | {name: job for name in removals if (job := self._cache.job(JobKey(key[0], name))) is not None}

    def _sharer(self, key: Key, job: JobView) -> str:
        """Name of another object that a Job was made for and that waits for it, or may; empty if there is none."""
        waiting = self._waiting.get(JobKey(key[0], job.name), set())
        if not job.made_for:
            return min((other[1] for other in waiting if other != key), default="")
        maker = (key[0], job.made_for)
        unread = maker in self._cache.objects and maker not in self._wanted
        return job.made_for if maker != key and (maker in waiting or unread) else ""

    def _read(self, key: Key) -> None:
        """The Jobs that an object needs are known: those that were left alone for it are reconciled."""
        unread = self._unread.get(key[0], set())
        if key not in unread:
            return
        unread.discard(key)
        if not unread:
            del self._unread[key[0]]
            for job in self._left_alone.pop(key[0], ()):
                self._queues.jobs.add(job)

    def _change(self, key: Key, names: frozenset[str] | None) -> None:
        before = self._wanted.get(key, frozenset())
        if names is None:
            self._wanted.pop(key, None)
        else:
            self._wanted[key] = names
        for name in before - (names or frozenset()):
            job = JobKey(key[0], name)
            waiting = self._waiting.get(job, set())
            waiting.discard(key)
            if not waiting:
                self._waiting.pop(job, None)
            self._queues.jobs.add(job)
        for name in (names or frozenset()) - before:
            job = JobKey(key[0], name)
            self._waiting.setdefault(job, set()).add(key)
            if self._cache.job(job) is not None:
                self._queues.jobs.add(job)
