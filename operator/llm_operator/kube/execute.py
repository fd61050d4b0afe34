"""The middle of a reconcile: the writes that were decided on, and what became of them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable
from typing import Any

from llm_operator.api.resource import LLMDeployment
from llm_operator.kube import ownership
from llm_operator.kube.cache import Cache, child_key
from llm_operator.kube.claims import Claims
from llm_operator.kube.client import NOT_IN_SCHEMA, ApiClient, ApiError
from llm_operator.kube.contest import Contest
from llm_operator.kube.job_making import JobMaker
from llm_operator.kube.keys import Key
from llm_operator.kube.ownership import ForeignError
from llm_operator.kube.restoring import Restoring
from llm_operator.kube.revisions import Revisions
from llm_operator.kube.trial import Trials
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.live.children import Child, ChildKey, Role
from llm_operator.manifests.kinds import CHILD_KINDS, WORKLOAD_KINDS
from llm_operator.manifests.revision import REVISION
from llm_operator.problems import Problem
from llm_operator.reconcile.decision import Apply, Decision, Delete
from llm_operator.reconcile.diagnose import (
    deletion_refused,
    image_volumes,
    namespace_goes,
    without_image_volumes,
    write_refused,
)
from llm_operator.reconcile.revisions import Revision
from llm_operator.reconcile.snapshot import Executed

JSON = dict[str, Any]
log = logging.getLogger("llm_operator.controller")


@dataclasses.dataclass(slots=True)
class _Work:
    """What has become of a decision so far."""

    left: list[Apply] = dataclasses.field(default_factory=list)
    kept: list[Delete] = dataclasses.field(default_factory=list)
    blocked: dict[Role, Problem] = dataclasses.field(default_factory=dict)
    drift: list[Problem] = dataclasses.field(default_factory=list)
    restored: list[str] = dataclasses.field(default_factory=list)
    written: dict[ChildKey, Child | None] = dataclasses.field(default_factory=dict)
    revisions: dict[str, Revision] = dataclasses.field(default_factory=dict)
    wrote: list[str] = dataclasses.field(default_factory=list)
    """Kinds, for the log."""

    def lacks_revision(self, apply: Apply) -> bool:
        """Whether a workload waits for its revision: without it a restarted operator could not know what it runs."""
        is_engine = apply.role == "engine" and apply.body["kind"] in WORKLOAD_KINDS
        return is_engine and any(one.body["kind"] == REVISION for one in self.left)

    def done(self, decision: Decision) -> Executed:
        """The result."""
        left = dataclasses.replace(decision, applies=tuple(self.left), deletes=tuple(self.kept))
        return Executed(left, self.blocked, tuple(self.drift), tuple(self.restored), self.written, self.revisions)


class Executor:
    """Carries out decisions."""

    def __init__(
        self,
        client: ApiClient,
        cache: Cache,
        queue: WorkQueue[Key],
        claims: Claims,
        maker: JobMaker,
        contest: Contest,
    ) -> None:
        self._client = client
        self._cache = cache
        self._queue = queue
        self._claims = claims
        self._maker = maker
        self._contest = contest
        self._trials = Trials(client)
        self._restoring = Restoring(client)
        self._revisions = Revisions(client, cache)

    async def execute(self, key: Key, resource: LLMDeployment, decision: Decision) -> Executed | None:
        """Carry out a decision.

        Returns:
            What became of it; None: the object went meanwhile, and whatever took it from the cache queued its key.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        refused = await self._trials.refusal(key, resource, decision.tried("engine"))
        if refused is not None:
            return Executed(dataclasses.replace(decision, deletes=()), {"engine": refused})
        work = _Work()
        refused = await self._trials.refusal(key, resource, decision.tried("chat"))
        if refused is not None:
            work.blocked["chat"] = refused
        try:
            for apply in decision.applies:
                if self._is_gone(key, resource.metadata.uid):
                    return None
                if apply.role != "chat" or refused is None:
                    await self._carry_out(key, apply, work)
        finally:
            if work.wrote:
                log.info("wrote %s", ", ".join(work.wrote))
        if self._is_gone(key, resource.metadata.uid):
            return None
        await self._delete_all(key, decision, work)
        return work.done(decision)

    async def _carry_out(self, key: Key, apply: Apply, work: _Work) -> None:
        """Write one object, unless somebody else insists on what is there, or its revision is not written yet."""
        held = self._restoring.held(apply)
        if held is not None:
            work.drift.append(held.drift)
            if held.seconds is not None:
                self._queue.add_after(key, held.seconds)
            return
        if work.lacks_revision(apply):
            work.left.append(apply)
            return
        trouble = await self._apply(key, apply, work)
        if trouble is not None:
            work.blocked.setdefault(apply.role, trouble)
            work.left.append(apply)

    def _is_gone(self, key: Key, uid: str) -> bool:
        """Whether an object is known to go, or to have a successor: the garbage collector has its children."""
        meta = self._cache.objects[key]["metadata"] if key in self._cache.objects else {}
        return meta.get("uid") != uid or "deletionTimestamp" in meta

    async def _delete_all(self, key: Key, decision: Decision, work: _Work) -> None:
        """Delete what is to go; what was refused is kept, and why."""
        for body in decision.outdated:
            trouble = await _deleted("Job", body["metadata"]["name"], self._maker.make_again(key, body))
            if trouble is not None:
                work.blocked.setdefault("engine", trouble)
        for delete in decision.deletes:
            deletion = self._client.delete(delete.kind, key[0], delete.name, delete.uid)
            trouble = await _deleted(delete.kind, delete.name, deletion)
            if trouble is None:
                self._cache.deleted(delete.kind, key, delete.name, delete.uid)
                if delete.kind in CHILD_KINDS:
                    work.written[child_key(key, delete.kind, delete.name)] = None
            else:
                work.blocked.setdefault(delete.role, trouble)
                work.kept.append(delete)

    async def _apply(self, key: Key, apply: Apply, work: _Work) -> Problem | None:
        """Write one object; why it was refused. What others had changed is added to the work."""
        body = apply.body
        kind, name = body["kind"], body["metadata"]["name"]
        try:
            if image_volumes(body) and not await self._keeps_image_volumes(apply):
                return without_image_volumes()
            answer = await self._written(key, apply)
            if kind in CHILD_KINDS:
                written = await self._restoring.written(apply, answer)
                answer = written.answer
                work.drift += [written.drift] if written.drift is not None else []
                undone = (f"{one.path}, set by {one.manager}, was undone" for one in written.undone)
                work.restored += [f"{kind} {name!r}: {what}" for what in undone]
                self._contest.wrote_child(body, answer)
        except ForeignError as foreign:
            return Problem("NameConflict", str(foreign), "Error")
        except ApiError as error:
            # 404: its namespace, or what was looked at, is gone by now.
            if error.status in (404, 409, 429) or error.status >= 500:
                raise
            if "NamespaceTerminating" in error.causes:
                return namespace_goes(key[0])
            log.warning("%s %s was refused: %s", kind, name, error)
            return write_refused(kind, name, error.message)
        if kind == "PersistentVolumeClaim":
            # Nothing reports it: claims are not watched.
            self._claims.learn(answer)
            self._queue.add(key)
        else:
            if kind == REVISION:
                learned = self._cache.learn({**answer, "kind": kind})
                work.revisions |= {name: learned} if learned is not None else {}
            else:
                self._cache.update({**answer, "kind": kind})
            if kind in CHILD_KINDS:
                work.written[child_key(key, kind, name)] = self._cache.child(key, kind, name)
            self._queue.wrote(key, (kind, answer["metadata"]["resourceVersion"]))
        work.wrote.append(kind)
        return None

    async def _written(self, key: Key, apply: Apply) -> JSON:
        if apply.body["kind"] == "Job" and not apply.seen:
            return await self._maker.make(key, apply.body)
        if apply.body["kind"] == REVISION:
            return await self._revisions.make(apply.body)
        if not apply.seen:
            return await ownership.create(self._client, apply.body)

        def looked(live: JSON) -> None:
            self._contest.finds_child(key, apply.body, live)

        return await ownership.update(self._client, apply.body, looked)

    async def _keeps_image_volumes(self, apply: Apply) -> bool:
        """Whether the API server keeps the image volumes of a pod template: an older one drops them without a word."""
        trial = await ownership.rehearsal(self._client, apply.body)
        try:
            return trial is None or image_volumes(apply.body) == image_volumes(await trial())
        except ApiError as error:
            if NOT_IN_SCHEMA in error.message and ".image:" in error.message:
                return False
            raise


async def _deleted(kind: str, name: str, deletion: Awaitable[None]) -> Problem | None:
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
