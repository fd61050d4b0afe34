"""Reads the end of a dead container's log, once per death, where its termination message does not say why it died."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging

from llm_operator.api import EngineType
from llm_operator.kube import tasks
from llm_operator.kube.client import UNREADABLE, ApiClient, ApiError
from llm_operator.kube.keys import Key
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.live.pods import Pod
from llm_operator.manifests.pod import CONTAINER
from llm_operator.reconcile.diagnose import wants_log
from llm_operator.reconcile.observed import Observed

log = logging.getLogger("llm_operator.last_logs")

LAST_BYTES = 8 << 10
LAST_LINES = 150
READ_BYTES = 64 << 10
"""The API server counts bytes from the first of the last lines, so more are read than are kept."""
TIMEOUT_SECONDS = 5.0
AT_ONCE = 4
_Death = tuple[str, int, str]


class LastLogs:
    """The ends of logs, by object and death."""

    def __init__(self, client: ApiClient, queue: WorkQueue[Key]) -> None:
        self._client = client
        self._queue = queue
        self._read: dict[Key, dict[_Death, tuple[str, str]]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def added(self, key: Key, observed: Observed, engine: EngineType) -> Observed:
        """The pods, with the ends of logs that are known; others are read beside the reconciler.

        Args:
            key: the object.
            observed: its pods.
            engine: its engine, which decides what a termination message means.
        """
        known, wanted = self._read.get(key, {}), {}
        pods: list[Pod] = []
        for pod in observed.pods:
            if pod.container != CONTAINER or pod.end is None or not wants_log(pod, engine):
                pods.append(pod)
                continue
            death = (pod.uid, pod.restarts, pod.end.finished_at)
            if death not in known:
                tasks.once(
                    self._ask(key, death, pod),
                    "last-log",
                    f"log-{pod.name}",
                    failed=functools.partial(self._learn, key, death, ("", "it could not be read")),
                    of=key,
                )
            text, unread = wanted[death] = known.get(death, ("", ""))
            end = dataclasses.replace(pod.end, message=text or pod.end.message, log_unread=unread)
            pods.append(dataclasses.replace(pod, end=end))
        if wanted:
            self._read[key] = wanted
        else:
            self._read.pop(key, None)
        return dataclasses.replace(observed, pods=tuple(pods)) if wanted else observed

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._read.pop(key, None)

    async def _ask(self, key: Key, death: _Death, pod: Pod) -> None:
        previous = pod.running or pod.waiting_reason is not None
        try:
            async with self._slots, asyncio.timeout(TIMEOUT_SECONDS):
                text = await self._client.read_log(
                    key[0], pod.name, CONTAINER, READ_BYTES, LAST_LINES, previous=previous
                )
        except (TimeoutError, *UNREADABLE) as error:
            forbidden = isinstance(error, ApiError) and error.status == 403
            log.info("the log of %s could not be read: %s", pod.name, error)
            told = ("", "the operator may not read pods/log" if forbidden else "it did not come")
        else:
            told = (text[-LAST_BYTES:], "")
        self._learn(key, death, told)

    def _learn(self, key: Key, death: _Death, told: tuple[str, str], _: BaseException | None = None) -> None:
        deaths = self._read.get(key)
        if deaths is not None and death in deaths:
            deaths[death] = told
            self._queue.add(key)
