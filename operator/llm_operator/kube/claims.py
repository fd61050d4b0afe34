"""PersistentVolumeClaims as the preparation of a model needs to know them; read, not watched."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.live.claims import ClaimFacts
from llm_operator.live.pods import controller_of
from llm_operator.manifests.common import LABEL_MANAGED_BY, MANAGER
from llm_operator.pipeline.artifacts import LABEL_CACHE

log = logging.getLogger("llm_operator.claims")

FRESH_SECONDS = 10.0
"""For this long an answer is taken again: many objects share a claim."""
MISSING_SECONDS = 3.0
"""For this long a claim that was not there is taken for missing: each object that names it looks again every 5 s."""
MOST_REMEMBERED = 4096
NOT_READ = "whether its claims exist and have volumes is not seen: the operator may not get persistentvolumeclaims"


def claim_from(raw: dict[str, Any]) -> ClaimFacts:
    """Reduce a live claim."""
    modes = (raw.get("spec") or {}).get("accessModes") or []
    many = {"ReadWriteMany", "ReadOnlyMany"} & set(modes)
    meta = raw["metadata"]
    phase = (raw.get("status") or {}).get("phase")
    owner_kind, owner, uid = controller_of(meta)
    return ClaimFacts(
        meta["name"],
        meta["uid"],
        single_node=not many,
        managed=(meta.get("labels") or {}).get(LABEL_MANAGED_BY) == MANAGER,
        labelled=(meta.get("labels") or {}).get(LABEL_CACHE) == "true",
        deleting="deletionTimestamp" in meta,
        owner_uid=uid or None,
        owner=f"{owner_kind[:63]} {owner[:253]!r}" if uid else "",
        bound=phase == "Bound",
        lost=phase == "Lost",
        size=_size(raw),
        storage_class=(raw.get("spec") or {}).get("storageClassName"),
    )


def _size(raw: dict[str, Any]) -> str:
    requests = ((raw.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return str(requests.get("storage") or "")


class Claims:
    """Answers by namespace and name."""

    def __init__(self, client: ApiClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[float, ClaimFacts | None]] = {}

    async def look_up(self, namespace: str, names: Iterable[str]) -> dict[str, ClaimFacts | None]:
        """The claims of a namespace by name; None for one that does not exist.

        Raises:
            ApiError: the API server failed.
        """
        return {name: await self._one(namespace, name) for name in names}

    def learn(self, raw: dict[str, Any]) -> None:
        """Take in a claim that was just written."""
        key = (raw["metadata"]["namespace"], raw["metadata"]["name"])
        self._remember(key, claim_from(raw))

    async def _one(self, namespace: str, name: str) -> ClaimFacts | None:
        known = self._known.get((namespace, name))
        if known is not None:
            asked, facts = known
            # A claim that was missing may be there now; one that is there rarely goes.
            if self._clock() - asked < (FRESH_SECONDS if facts is not None else MISSING_SECONDS):
                return facts
        try:
            raw = await self._client.get("PersistentVolumeClaim", namespace, name)
        except ApiError as error:
            if error.status == 403:
                log.warning("claims may not be read in %s: %s", namespace, error.message)
                return ClaimFacts(name, "", single_node=False)
            if error.status != 404:
                raise
            self._remember((namespace, name), None)
            return None
        facts = claim_from(raw)
        if facts.deleting:
            # Read again at once: somebody waits for its name.
            self._known.pop((namespace, name), None)
        else:
            self._remember((namespace, name), facts)
        return facts

    def _remember(self, key: tuple[str, str], facts: ClaimFacts | None) -> None:
        # Anew at the end: the oldest answer goes first.
        self._known.pop(key, None)
        self._known[key] = (self._clock(), facts)
        if len(self._known) > MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
