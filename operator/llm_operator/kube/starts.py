"""Reads the end of the log of engines that load, and says how far they are, or that they do not get on."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable

from llm_operator.kube import tasks
from llm_operator.kube.client import UNREADABLE, ApiClient, ApiError
from llm_operator.kube.clock import time_of_process
from llm_operator.kube.keys import Key
from llm_operator.live.pods import Pod
from llm_operator.manifests.pod import CONTAINER
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.starting import Start, is_stuck, loading_pod, looked, not_seen
from llm_operator.reconcile.wants import Identity, Wants, identity

log = logging.getLogger("llm_operator.starts")

LOOK_SECONDS = 5.0
TELL_SECONDS = 10.0
"""Least seconds between two reports of progress in a status: a write costs the API server more than it is worth."""
FORBIDDEN_SECONDS = 60.0
MOST_PER_SECOND = 10.0
"""Logs read, and statuses written for them: where many engines load at once, each is looked at less often."""
AT_ONCE = 4
LAST_LINES = 60
LOG_BYTES = 64 << 10


class Starts:
    """One reader per object with an engine that loads: of the first such pod by name."""

    def __init__(
        self, client: ApiClient, changed: Callable[[Key], None], now: Callable[[], float] = time_of_process
    ) -> None:
        self._client = client
        self._changed = changed
        self._now = now
        self._known: dict[Key, Start] = {}
        self._told: dict[Key, tuple[Start, bool]] = {}
        self._sizes: dict[Key, int | None] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._readers: dict[Key, tuple[Identity, asyncio.Task[None]]] = {}

    def known(self, key: Key, observed: Observed) -> tuple[Start, bool] | None:
        """The last report about the engine that loads, and whether it is stuck; None: none loads, or none was seen.

        Args:
            key: the object.
            observed: its pods.
        """
        pod, known = loading_pod(observed), self._readers.get(key)
        return self._told.get(key) if pod is not None and known is not None and known[0] == identity(pod) else None

    def follow(self, key: Key, wants: Wants) -> None:
        """Read the log of the engine that loads."""
        loading, known = wants.loading, self._readers.get(key)
        if loading is None or (known is not None and known[0] != identity(loading.pod)):
            self.forget(key)
        if loading is None:
            return
        self._sizes[key] = loading.total_bytes
        if key not in self._readers:
            read = functools.partial(self._read, key, loading.pod)
            reader = tasks.forever(read, "start", f"start-{loading.pod.name}", of=key)
            self._readers[key] = (identity(loading.pod), reader)

    def forget(self, key: Key) -> None:
        """Nothing loads any longer."""
        self._known.pop(key, None)
        self._told.pop(key, None)
        self._sizes.pop(key, None)
        known = self._readers.pop(key, None)
        if known is not None:
            known[1].cancel()

    async def _read(self, key: Key, pod: Pod) -> None:
        due = 0.0
        while True:
            wait = max(LOOK_SECONDS, len(self._readers) / MOST_PER_SECOND)
            before = self._known.get(key)
            try:
                async with self._slots:
                    text = await self._client.read_log(key[0], pod.name, CONTAINER, LOG_BYTES, LAST_LINES)
            except ApiError as error:
                if error.status == 403:
                    self._known[key] = not_seen(before, pod.name, self._now())
                    wait = FORBIDDEN_SECONDS
            except UNREADABLE as error:
                log.debug("the log of %s could not be read: %s", pod.name, error)
            else:
                self._known[key] = looked(before, pod.name, text, self._sizes.get(key), self._now())
            due = self._tell(key, due)
            await asyncio.sleep(wait)

    def _tell(self, key: Key, due: float) -> float:
        """Report news that is due; returns when the next may be reported."""
        start = self._known.get(key)
        if start is None:
            return due
        now = self._now()
        told, stuck = self._told.get(key), is_stuck(start, now)
        news = told is None or told[1] != stuck or (told[0].progress, told[0].unseen) != (start.progress, start.unseen)
        if not news or now < due or (start.progress is None and not start.unseen and not stuck):
            return due
        self._told[key] = (start, stuck)
        self._changed(key)
        return now + max(TELL_SECONDS, len(self._readers) / MOST_PER_SECOND)
