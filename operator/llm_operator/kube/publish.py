"""The end of a reconcile: the status, if it has changed, and events for what is news."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from llm_operator.api import KIND
from llm_operator.api.status import Condition, LLMDeploymentStatus
from llm_operator.kube.cache import Cache
from llm_operator.kube.client import UNREADABLE, ApiClient, ApiError
from llm_operator.kube.contest import REASON, Aside, Contest
from llm_operator.kube.events import EVENT_MESSAGE_LIMIT, event_of
from llm_operator.kube.keys import Key
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.reconcile.status import transitions

JSON = dict[str, Any]
log = logging.getLogger("llm_operator.controller")

DECIDED_ON = ("generation", "deletionTimestamp", "annotations", "labels")
"""Fields of an object's metadata, as the cache keeps it, that tell of a change which somebody else made."""


class Publisher:
    """Writes statuses and events."""

    def __init__(
        self, client: ApiClient, cache: Cache, queue: WorkQueue[Key], contest: Contest, now: Callable[[], str]
    ) -> None:
        self._client = client
        self._cache = cache
        self._queue = queue
        self._contest = contest
        self._now = now

    async def publish(self, key: Key, body: JSON, status: LLMDeploymentStatus, restored: tuple[str, ...] = ()) -> None:
        """Write a status if it differs from the one that is there, and tell what changed.

        Args:
            key: the object.
            body: the object, as it was when its key was taken.
            status: to be shown.
            restored: which changes of its children were undone, a sentence each.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        await self._write_status(key, body, status)
        await self._tell_restored(body, restored)

    async def stand_aside(self, key: Key, body: JSON, aside: Aside) -> None:
        """Leave an object to another operator, and say so.

        Raises:
            ApiError: the API server failed; the key is to be tried again.
        """
        self._queue.add_after(key, aside.seconds)
        if aside.status is None:
            return
        meta = body["metadata"]
        answer = await self._stored(key, meta["uid"], aside.status, meta["resourceVersion"])
        self._queue.wrote(key, (KIND, answer["metadata"]["resourceVersion"]))
        condition = Condition.model_validate(aside.status["conditions"][-1], strict=False)
        log.warning("%s: %s", REASON, condition.message)
        await self._tell(body, condition)

    async def _write_status(self, key: Key, body: JSON, status: LLMDeploymentStatus) -> None:
        told = body.get("status") or {}
        new = status.to_json()
        carried = self._contest.carried(key, told, self._now())
        if carried is not None:
            new["conditions"].append(carried[0])
            self._queue.add_after(key, carried[1])
        if new == told:
            return
        try:
            answer = await self._stored(key, body["metadata"]["uid"], new)
        except ApiError as error:
            if error.status == 404:
                # Its deletion was missed, or its event is about to arrive: no child is made again for what is gone.
                if (self._cache.objects.get(key) or body)["metadata"]["uid"] == body["metadata"]["uid"]:
                    self._cache.deleted(KIND, key, key[1], body["metadata"]["uid"])
                    self._queue.add(key)
                return
            raise
        now = (self._cache.objects.get(key) or answer)["metadata"]
        if all(now.get(field) == body["metadata"].get(field) for field in DECIDED_ON):
            self._queue.wrote(key, (KIND, answer["metadata"]["resourceVersion"]))
        else:
            # The answer put somebody else's change into the cache; its own event will look old when it comes.
            self._queue.add(key)
        before = [Condition.model_validate(entry, strict=False) for entry in told.get("conditions") or ()]
        for condition in transitions(before, status.conditions):
            log.info("%s is %s: %s: %s", condition.type, condition.status, condition.reason, condition.message)
            await self._tell(body, condition)

    async def _stored(self, key: Key, uid: str, status: JSON, version: str | None = None) -> JSON:
        """Apply a status, and take the object as it is stored then into the cache.

        Raises:
            ApiError: as ApiClient.apply_status.
        """
        self._contest.writes_status(key, status)
        answer = await self._client.apply_status(*key, uid, status, version)
        self._contest.wrote_status(key, status, answer)
        self._cache.update({**answer, "kind": KIND})
        return answer

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
