"""Reads the end of a dead container's log, once per death, where its termination message does not say why it died."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping

from llm_operator.kube import tasks
from llm_operator.kube.client import UNREADABLE, ApiClient, ApiError
from llm_operator.kube.keys import Key
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.live.pods import Pod
from llm_operator.manifests.pod import CONTAINER
from llm_operator.reconcile.last_words import NOT_READ, LastWords
from llm_operator.reconcile.wants import Death, Wants

log = logging.getLogger("llm_operator.last_logs")

LAST_BYTES = 8 << 10
LAST_LINES = 150
READ_BYTES = 64 << 10
"""The API server counts bytes from the first of the last lines, so more are read than are kept."""
TIMEOUT_SECONDS = 5.0
AT_ONCE = 4


class LastLogs:
    """The ends of logs, by object and death."""

    def __init__(self, client: ApiClient, queue: WorkQueue[Key]) -> None:
        self._client = client
        self._queue = queue
        self._read: dict[Key, dict[Death, LastWords]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def known(self, key: Key) -> Mapping[Death, LastWords]:
        """What is known of the deaths of an object's engines."""
        return dict(self._read.get(key, {}))

    def follow(self, key: Key, wants: Wants) -> None:
        """Read the logs of deaths that were not read yet."""
        if not wants.deaths:
            self._read.pop(key, None)
            return
        known = self._read.get(key, {})
        self._read[key] = {death: known.get(death, NOT_READ) for death, _ in wants.deaths}
        for death, pod in wants.deaths:
            if death not in known:
                tasks.once(
                    self._ask(key, death, pod),
                    "last-log",
                    f"log-{pod.name}",
                    failed=functools.partial(self._learn, key, death, LastWords("", "it could not be read")),
                    of=key,
                )

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._read.pop(key, None)

    async def _ask(self, key: Key, death: Death, pod: Pod) -> None:
        previous = pod.running or pod.waiting_reason is not None
        try:
            async with self._slots, asyncio.timeout(TIMEOUT_SECONDS):
                text = await self._client.read_log(
                    key[0], pod.name, CONTAINER, READ_BYTES, LAST_LINES, previous=previous
                )
        except (TimeoutError, *UNREADABLE) as error:
            forbidden = isinstance(error, ApiError) and error.status == 403
            log.info("the log of %s could not be read: %s", pod.name, error)
            told = LastWords("", "the operator may not read pods/log" if forbidden else "it did not come")
        else:
            told = LastWords(text[-LAST_BYTES:])
        self._learn(key, death, told)

    def _learn(self, key: Key, death: Death, told: LastWords, _: BaseException | None = None) -> None:
        deaths = self._read.get(key)
        if deaths is not None and death in deaths:
            deaths[death] = told
            self._queue.add(key)
