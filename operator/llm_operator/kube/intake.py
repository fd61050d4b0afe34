"""The way into the cache: an object that cannot be read costs a log line and a count, never the process.

Pods, Jobs and annotations are written by others. One of them must not end the watch, the relist or the operator.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Set
from typing import Any

from llm_operator.foreign import natural_number
from llm_operator.kube.cache import Cache
from llm_operator.kube.keys import AnyKey
from llm_operator.telemetry.metrics import Metrics

log = logging.getLogger("llm_operator.intake")

VERSION_DIGITS = 20
"""Of a resourceVersion: etcd counts in 64 bits."""


class Intake:
    """Takes live objects into a cache."""

    def __init__(self, cache: Cache, metrics: Metrics) -> None:
        self._cache = cache
        self._metrics = metrics

    def entry(self, raw: Mapping[str, Any]) -> tuple[AnyKey, str] | None:
        """Key and name of an object; None if it belongs to no LLMDeployment, or does not say to which."""
        try:
            key = self._cache.key_of(raw)
            return (key, raw["metadata"]["name"]) if key is not None else None
        except Exception as error:
            self._left_out(raw, error)
            return None

    def knows(self, kind: str, raw: Mapping[str, Any]) -> bool:
        """Whether the cache holds this very version of an object."""
        found = self.entry({**raw, "kind": kind})
        return found is not None and self._cache.version(kind, *found) == raw["metadata"]["resourceVersion"]

    def vanish(self, kind: str, namespace: str | None, listed: Set[tuple[str, str]], version: str) -> list[AnyKey]:
        """Drop what a list of a kind, in a namespace or all, does not say of any longer; the keys to reconcile.

        What is newer than the list's version came after it.
        """
        last = natural_number(version, VERSION_DIGITS)
        gone = [
            (key, name)
            for key, name, seen in self._cache.entries(kind)
            if (namespace is None or key[0] == namespace)
            and (key[0], name) not in listed
            and (known := natural_number(seen, VERSION_DIGITS)) is not None
            and last is not None
            and known <= last
        ]
        for key, name in gone:
            self._cache.forget(kind, key, name)
        return [key for key, _ in gone]

    def update(self, raw: Mapping[str, Any], *, replace: bool = False) -> AnyKey | None:
        """As Cache.update; None for an object that cannot be read."""
        try:
            return self._cache.update(raw, replace=replace)
        except Exception as error:
            self._left_out(raw, error)
            return None

    def remove(self, raw: Mapping[str, Any]) -> AnyKey | None:
        """As Cache.remove; None for an object that cannot be read."""
        try:
            return self._cache.remove(raw)
        except Exception as error:
            self._left_out(raw, error)
            return None

    def _left_out(self, raw: Mapping[str, Any], error: Exception) -> None:
        kind = raw.get("kind")
        kind = kind if isinstance(kind, str) else "unknown"
        meta = raw.get("metadata")
        meta = meta if isinstance(meta, Mapping) else {}
        self._metrics.unreadable.labels(kind=kind[:64]).inc()
        log.warning(
            "%s %s/%s cannot be read and is left out: %s: %s",
            kind[:64],
            str(meta.get("namespace"))[:64],
            str(meta.get("name"))[:253],
            type(error).__name__,
            str(error)[:200],
        )
