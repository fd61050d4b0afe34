"""Reads what running engines say of themselves: once per pod, from its metrics or API, or the beginning of its log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from llm_operator.api.status import MeasuredStatus
from llm_operator.engines import engine_of
from llm_operator.kube import tasks
from llm_operator.kube.client import UNREADABLE, ApiClient, ApiError
from llm_operator.kube.engine_api import ask
from llm_operator.kube.keys import Key
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.live.pods import Pod
from llm_operator.manifests.pod import CONTAINER
from llm_operator.reconcile.measured import ANSWER_BYTES, LOG_BYTES, Reading, seconds_to_ready
from llm_operator.reconcile.wants import Identity, Measuring, Rendered, Wants, identity

log = logging.getLogger("llm_operator.measurements")

AT_ONCE = 8
Learn = Callable[[Rendered, int], None]
"""Takes the tokens that an engine reported which this process saw starting."""


class Measurements:
    """What was read, by object and container."""

    def __init__(
        self,
        client: ApiClient,
        queue: WorkQueue[Key],
        learn: Learn = lambda *_: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._learn = learn
        self._queue = queue
        self._since = now()
        self._asked: dict[Key, Identity] = {}
        self._read: dict[Key, Reading] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def known(self, key: Key) -> Reading | None:
        """What was read last; None: nothing yet."""
        return self._read.get(key)

    def follow(self, key: Key, wants: Wants) -> None:
        """Ask the engine that is measured, once for each start of it."""
        measuring = wants.measuring
        if measuring is None or self._asked.get(key) == identity(measuring.pod):
            return
        self._asked[key] = identity(measuring.pod)
        tasks.once(self._ask(key, measuring), "measure", f"measure-{key[1]}", of=key)

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._asked.pop(key, None)
        self._read.pop(key, None)

    async def _ask(self, key: Key, measuring: Measuring) -> None:
        pod = measuring.pod
        async with self._slots:
            tokens = await self._tokens(key[0], measuring)
        if self._asked.get(key) != identity(pod):
            return  # another pod serves by now, or the object is gone
        self._read[key] = Reading(
            identity(pod),
            MeasuredStatus.model_validate(
                {"kv_tokens": tokens, "seconds_to_ready": seconds_to_ready(pod), "pod_uid": pod.uid}, by_name=True
            ),
        )
        self._queue.add(key)
        if tokens is not None and measuring.rendered is not None and self._saw_starting(pod):
            self._learn(measuring.rendered, tokens)

    def _saw_starting(self, pod: Pod) -> bool:
        """Whether an engine started while this process was there: an earlier one counted those before it."""
        return pod.ready_at is not None and datetime.fromisoformat(pod.ready_at) >= self._since

    async def _tokens(self, namespace: str, measuring: Measuring) -> int | None:
        engine, pod = engine_of(measuring.engine), measuring.pod
        asking = engine.capacity(measuring.backend, measuring.bytes_per_token)
        text: str | None = None
        try:
            wanted = next(asking)
            while True:
                if wanted.path is None:
                    text = await self._log(namespace, pod)
                else:
                    text = await ask(pod.pod_ip, engine.port, wanted.path, ANSWER_BYTES)
                wanted = asking.send(text)
        except StopIteration as told:
            tokens: int | None = told.value
            return tokens

    async def _log(self, namespace: str, pod: Pod) -> str | None:
        """The log's beginning; None if it cannot be read."""
        try:
            return await self._client.read_log(namespace, pod.name, CONTAINER, LOG_BYTES)
        except UNREADABLE as error:
            level = logging.DEBUG if isinstance(error, ApiError) and error.status == 404 else logging.INFO
            log.log(level, "the log of %s could not be read: %s", pod.name, error)
            return None
