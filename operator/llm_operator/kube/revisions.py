"""Revisions at the API server: what the running one holds is read by its name; a new one is created, never changed.

The watch reports their metadata alone: ten templates of each object would be most of the operator's memory, and what
somebody else wrote into one is read as that object's own matter.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from llm_operator.kube import ownership
from llm_operator.kube.cache import Cache
from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.keys import Key
from llm_operator.kube.ownership import ForeignError
from llm_operator.manifests.common import LABEL_MANAGED_BY, MANAGER
from llm_operator.manifests.revision import REVISION
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.revisions import owner_of
from llm_operator.reconcile.running import running, running_name

JSON = dict[str, Any]
log = logging.getLogger("llm_operator.revisions")


class Revisions:
    """Reads and creates revisions."""

    def __init__(self, client: ApiClient, cache: Cache) -> None:
        self._client = client
        self._cache = cache

    async def with_running(self, key: Key, observed: Observed) -> Observed:
        """The same with what the revision that runs holds, if there is one.

        Raises:
            ApiError: the API server failed: what runs is not known, and nothing must be rendered in its place.
        """
        child, name = observed.workload, running_name(observed)
        known = running(observed)
        if child is None or not name or (known is not None and known.text is not None):
            return observed
        raw = await self._read(key[0], name)
        if raw is None or owner_of(raw["metadata"]) != key[1]:
            return observed
        found = self._cache.learn(raw)
        return (
            observed if found is None else dataclasses.replace(observed, revisions={**observed.revisions, name: found})
        )

    async def _read(self, namespace: str, name: str) -> JSON | None:
        """A revision; None if it is gone. What cannot be read although its metadata can holds nothing."""
        try:
            return {**await self._client.get(REVISION, namespace, name), "kind": REVISION}
        except ApiError as error:
            if error.status == 404:
                return None
            if error.reason != "Unreadable":
                raise
        return await self._read_again(namespace, name)

    async def _read_again(self, namespace: str, name: str) -> JSON:
        """A revision of which one answer could not be read: a proxy's page, or what somebody wrote into it.

        Raises:
            ApiError: nothing of it can be read now.
        """
        metadata = await self._client.get(REVISION, namespace, name, metadata_only=True)
        try:
            return {**await self._client.get(REVISION, namespace, name), "kind": REVISION}
        except ApiError as error:
            if error.reason != "Unreadable":
                raise
            log.warning("%s %s/%s cannot be read and is made anew: %s", REVISION, namespace, name, error)
        return {**metadata, "kind": REVISION, "data": None}

    async def make(self, body: JSON) -> JSON:
        """Create a revision; one of that name that is ours and holds something else is replaced.

        Raises:
            ForeignError: somebody else's, or it holds something else and cannot be replaced.
            ApiError: refused.
        """
        meta = body["metadata"]
        try:
            live = await ownership.create(self._client, body)
        except ApiError as error:
            if error.reason != "Unreadable":
                raise
            live = await self._read_again(meta["namespace"], meta["name"])
            ownership.check_ours(body, live)
        if live.get("data") == body["data"]:
            return await self._labelled(body, live)
        log.warning("%s %s holds something else than it was made with and is made again", REVISION, meta["name"])
        await self._client.delete(REVISION, meta["namespace"], meta["name"], live["metadata"]["uid"])
        try:
            return await self._client.create(body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            raise ForeignError(
                f"{REVISION} {meta['name']!r} holds something else than the operator wrote, and stays although it was "
                "deleted: remove its finalizers"
            ) from error

    async def _labelled(self, body: JSON, live: JSON) -> JSON:
        """The revision with the labels by which it is watched."""
        labels = live["metadata"].get("labels") or {}
        if labels.get(LABEL_MANAGED_BY) == MANAGER:
            return live
        operations = [
            {"op": "test", "path": "/metadata/uid", "value": live["metadata"]["uid"]},
            {"op": "add", "path": "/metadata/labels", "value": {**labels, **body["metadata"]["labels"]}},
        ]
        meta = body["metadata"]
        answer = await self._client.patch(REVISION, meta["namespace"], meta["name"], operations)
        return {**live, "metadata": answer["metadata"]}
