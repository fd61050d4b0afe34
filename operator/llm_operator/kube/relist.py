"""Comparing the cache with what there really is: kopf does not report what vanished while a watch was broken."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Sequence

from llm_operator.kube.cache import Cache
from llm_operator.kube.client import ApiClient
from llm_operator.kube.intake import Intake
from llm_operator.kube.keys import AnyKey
from llm_operator.kube.workqueue import Queues
from llm_operator.manifests.kinds import WATCHED, KindRow
from llm_operator.telemetry.metrics import Metrics

log = logging.getLogger("llm_operator.relist")

YIELD_AFTER = 50
"""Objects after which other work has its turn: some milliseconds."""


class Relist:
    """Lists every kind, repairs the cache, and says which watches had missed something."""

    def __init__(
        self, client: ApiClient, cache: Cache, queues: Queues, namespaces: Sequence[str | None], metrics: Metrics
    ) -> None:
        self._client = client
        self._cache = cache
        self._intake = Intake(cache, metrics)
        self._queues = queues
        self._namespaces = namespaces
        self._metrics = metrics
        self.behind: list[str] = []
        """Kinds of which the last round found something that the watch had missed."""
        for row in WATCHED:
            # A series that begins with its first repair shows no increase.
            metrics.relist_repairs.labels(kind=row.name)
        self.versions: dict[str, str] = {}
        """Of the last lists, by path."""
        self.synced = False
        """Every kind has been listed once: the cache is whole."""

    async def run(self) -> int:
        """One round over all kinds; the number of repairs.

        Raises:
            ApiError, aiohttp.ClientError: the API server could not be read; the cache is as it was.
        """
        changed: set[AnyKey] = set()
        # Nothing is decided on between two lists: after an etcd restore, today's children would be changed to a spec of
        # before, and back.
        try:
            return await self._relist_all(changed)
        finally:
            for key in changed:
                self._queues.add(key, news=False)

    async def _relist_all(self, changed: set[AnyKey]) -> int:
        total, behind = 0, []
        # Children before objects: an object must not be decided on before its children are known.
        for row in reversed(WATCHED):
            repairs = await self._relist(row, changed)
            total += repairs
            if repairs and self.synced:
                behind.append(row.name)
                self._metrics.relist_repairs.labels(kind=row.name).inc(repairs)
                log.warning("relist found %d %s that the watch had missed", repairs, row.name)
        self.synced, self.behind = True, behind
        return total

    async def _relist(self, row: KindRow, changed: set[AnyKey]) -> int:
        kind = row.name
        known = {(key, name): version for key, name, version in self._cache.entries(kind)}
        seen = set()
        repairs = listed = 0
        for namespace in self._namespaces:
            path = row.path(namespace)
            listed_at = functools.partial(self.versions.__setitem__, path)
            async for raw in self._client.list(kind, namespace, row.selector, listed_at):
                listed += 1
                if listed % YIELD_AFTER == 0:
                    await asyncio.sleep(0)
                entry = self._intake.entry(raw)
                if entry is None:
                    continue
                seen.add(entry)
                # What a watch has changed while the list was read is newer than the list.
                unchanged = known.get(entry) == self._cache.version(kind, *entry)
                if self._intake.update(raw, replace=unchanged) is not None:
                    repairs += 1
                    changed.add(entry[0])
        current = {(key, name): version for key, name, version in self._cache.entries(kind)}
        for entry, version in known.items():
            # What changed in the meantime is alive; what is unchanged and not listed is gone.
            if entry not in seen and current.get(entry) == version:
                self._cache.forget(kind, entry[0], entry[1])
                changed.add(entry[0])
                repairs += 1
        return repairs
