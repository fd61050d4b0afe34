"""How far the model tools are: the last line of their pods' logs, read now and then while somebody waits for it."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable

from llm_operator.api.status import ProgressStatus
from llm_operator.foreign import read_object
from llm_operator.kube import tasks
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.inventory import UNREADABLE
from llm_operator.kube.workqueue import Key
from llm_operator.reconcile.stages import progress_status

log = logging.getLogger("llm_operator.progress")

LOOK_SECONDS = 4.0
TELL_SECONDS = 10.0
"""An object's status tells progress at most this often: a write costs the API server more than the news is worth."""
FORBIDDEN_SECONDS = 300.0
LAST_LINES = 20
LOG_BYTES = 1 << 16


def last_progress(text: str) -> ProgressStatus | None:
    """The newest progress in the end of a log; other lines stand between."""
    for line in reversed(text.splitlines()):
        if '"progress"' not in line:
            continue
        report = read_object(line).get("progress")
        found = progress_status(report) if isinstance(report, dict) else None
        if found is not None:
            return found
    return None


class ProgressReader:
    """One reader per pod that somebody asked about; ends with the pod's container."""

    def __init__(self, client: ApiClient, changed: Callable[[Key], None]) -> None:
        self._client = client
        self._changed = changed
        self._told: dict[Key, ProgressStatus] = {}
        self._readers: dict[Key, tuple[str, asyncio.Task[None]]] = {}

    def of(self, key: Key, namespace: str, pod: str | None, container: str) -> ProgressStatus | None:
        """What was read last; starts to read where a pod runs, and forgets where none does.

        Args:
            key: who is told of news: an object or a Job.
            namespace: the pod's.
            pod: name of the pod that runs now; None when none does.
            container: the container that tells.
        """
        if pod is None:
            self.forget(key)
            return None
        known = self._readers.get(key)
        if known is None or known[0] != pod:
            self.forget(key)
            read = functools.partial(self._read, key, namespace, pod, container)
            task = tasks.forever(read, "progress", f"progress-{pod}")
            self._readers[key] = (pod, task)
        return self._told.get(key)

    def forget(self, key: Key) -> None:
        """Nobody waits any more."""
        self._told.pop(key, None)
        known = self._readers.pop(key, None)
        if known is not None:
            known[1].cancel()

    async def _read(self, key: Key, namespace: str, pod: str, container: str) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        while True:
            try:
                text = await self._client.read_log(namespace, pod, container, LOG_BYTES, LAST_LINES)
            except ApiError as error:
                text = ""
                if error.status == 403:
                    log.info("logs may not be read: no progress is told (%s)", error.message)
                    await asyncio.sleep(FORBIDDEN_SECONDS)
            except UNREADABLE:
                text = ""
            found = last_progress(text)
            if found is not None and found != self._told.get(key) and loop.time() >= due:
                due = loop.time() + TELL_SECONDS
                self._told[key] = found
                self._changed(key)
            await asyncio.sleep(LOOK_SECONDS)
