"""Comparing the cache with what there really is: kopf does not report what vanished while a watch was broken."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from llm_operator.api import KIND
from llm_operator.kube.cache import WATCHED_KINDS, Cache
from llm_operator.kube.client import ApiClient
from llm_operator.kube.intake import Intake
from llm_operator.kube.workqueue import WorkQueue
from llm_operator.manifests.common import LABEL_MANAGED_BY, MANAGER
from llm_operator.telemetry.metrics import Metrics

log = logging.getLogger("llm_operator.relist")

CHILD_SELECTOR = f"{LABEL_MANAGED_BY}={MANAGER}"
# One relist may race with a watch; a watch that is behind at each of several is dead.
DEAD_AFTER_REPAIRS = 3


class Relist:
    """Lists every kind, repairs the cache, and remembers which watches keep missing things."""

    def __init__(
        self, client: ApiClient, cache: Cache, queue: WorkQueue, namespaces: Sequence[str | None], metrics: Metrics
    ) -> None:
        self._client = client
        self._cache = cache
        self._intake = Intake(cache, metrics)
        self._queue = queue
        self._namespaces = namespaces
        self._metrics = metrics
        self._rounds_behind = dict.fromkeys(WATCHED_KINDS, 0)
        for kind in WATCHED_KINDS:
            # A series that begins with its first repair shows no increase.
            metrics.relist_repairs.labels(kind=kind)
        self.synced = False
        """Every kind has been listed once: the cache is whole."""

    @property
    def dead_watches(self) -> list[str]:
        """Kinds whose watch missed something at each of the last rounds."""
        return [kind for kind, rounds in self._rounds_behind.items() if rounds >= DEAD_AFTER_REPAIRS]

    async def run(self) -> int:
        """One round over all kinds; the number of repairs.

        Raises:
            ApiError, aiohttp.ClientError: the API server could not be read; the cache is as it was.
        """
        total = 0
        # Children before objects: an object must not be decided on before its children are known.
        for kind in reversed(WATCHED_KINDS):
            repairs = await self._relist(kind)
            total += repairs
            self._rounds_behind[kind] = self._rounds_behind[kind] + 1 if repairs and self.synced else 0
            if repairs and self.synced:
                self._metrics.relist_repairs.labels(kind=kind).inc(repairs)
                log.warning("relist found %d %s that the watch had not told", repairs, kind)
        self.synced = True
        return total

    async def _relist(self, kind: str) -> int:
        known = {(key, name): version for key, name, version in self._cache.entries(kind)}
        seen = set()
        repairs = 0
        for namespace in self._namespaces:
            async for raw in self._client.list(kind, namespace, "" if kind == KIND else CHILD_SELECTOR):
                entry = self._intake.entry(raw)
                if entry is None:
                    continue
                seen.add(entry)
                # What a watch has changed while the list was read is newer than the list.
                unchanged = known.get(entry) == self._cache.version(kind, *entry)
                if self._intake.update(raw, replace=unchanged) is not None:
                    repairs += 1
                    self._queue.add(entry[0])
        current = {(key, name): version for key, name, version in self._cache.entries(kind)}
        for entry, version in known.items():
            # What changed in the meantime is alive; what is unchanged and not listed is gone.
            if entry not in seen and current.get(entry) == version:
                self._cache.forget(kind, entry[0], entry[1])
                self._queue.add(entry[0])
                repairs += 1
        return repairs
