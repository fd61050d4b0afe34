"""What the watches told, reduced to what is decided on, by the key of the LLMDeployment it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llm_operator.api import API_VERSION, KIND
from llm_operator.kube.workqueue import Key
from llm_operator.manifests.common import LABEL_DEPLOYMENT
from llm_operator.reconcile.observed import CHILD_KINDS, Child, Observed, Pod, child_from, pod_from

JSON = dict[str, Any]


def _newer(version: str, than: str) -> bool:
    """Whether a resourceVersion is newer. They are decimal numbers that grow, by the API conventions since 1.35."""
    return int(version) > int(than)


def _trimmed(raw: Mapping[str, Any]) -> JSON:
    """An LLMDeployment without what the API server keeps for itself."""
    meta = {key: value for key, value in raw["metadata"].items() if key not in ("managedFields", "annotations")}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": meta,
        "spec": raw.get("spec"),
        "status": raw.get("status"),
    }


class Cache:
    """Objects, children and pods as last seen. Older versions never replace newer ones."""

    def __init__(self) -> None:
        self.objects: dict[Key, JSON] = {}
        self._children: dict[Key, dict[str, Child]] = {}
        self._pods: dict[Key, dict[str, Pod]] = {}

    def observed(self, key: Key) -> Observed:
        """The surroundings of one LLMDeployment."""
        pods = self._pods.get(key, {})
        return Observed(children=dict(self._children.get(key, {})), pods=tuple(pods[name] for name in sorted(pods)))

    def key_of(self, raw: Mapping[str, Any]) -> Key | None:
        """The LLMDeployment that an object belongs to; None where it says none."""
        meta = raw["metadata"]
        # Children are named after their object: whatever happens to their labels, they are found.
        name = (meta.get("labels") or {}).get(LABEL_DEPLOYMENT) if raw["kind"] == "Pod" else meta["name"]
        return (meta["namespace"], name) if name else None

    def update(self, raw: Mapping[str, Any]) -> Key | None:
        """Take in a live object; the key to reconcile, or None when it was known already."""
        key, kind = self.key_of(raw), raw["kind"]
        if key is None:
            return None
        version = raw["metadata"]["resourceVersion"]
        known = self._version(kind, key, raw["metadata"]["name"])
        if known is not None and not _newer(version, known):
            return None
        if kind == KIND:
            self.objects[key] = _trimmed(raw)
        elif kind == "Pod":
            self._pods.setdefault(key, {})[raw["metadata"]["name"]] = pod_from(raw)
        else:
            self._children.setdefault(key, {})[kind] = child_from(raw)
        return key

    def remove(self, raw: Mapping[str, Any]) -> Key | None:
        """Forget an object that is gone; the key to reconcile."""
        key, kind, meta = self.key_of(raw), raw["kind"], raw["metadata"]
        if key is None:
            return None
        known = self._version(kind, key, meta["name"])
        # A successor of the same name may be known already: the answer to an apply comes before the watch's events.
        if known is not None and not _newer(known, meta["resourceVersion"]):
            self.forget(kind, key, meta["name"])
        return key

    def forget(self, kind: str, key: Key, name: str) -> None:
        """Drop one entry."""
        if kind == KIND:
            self.objects.pop(key, None)
            return
        table = self._pods if kind == "Pod" else self._children
        entries: dict[str, Any] = table.get(key, {})
        entries.pop(name if kind == "Pod" else kind, None)
        if not entries:
            table.pop(key, None)

    def entries(self, kind: str) -> Iterable[tuple[Key, str, str]]:
        """Key, name and resourceVersion of everything known of a kind."""
        if kind == KIND:
            return [(key, key[1], body["metadata"]["resourceVersion"]) for key, body in self.objects.items()]
        if kind == "Pod":
            return [(key, pod.name, pod.resource_version) for key, pods in self._pods.items() for pod in pods.values()]
        return [
            (key, key[1], children[kind].resource_version)
            for key, children in self._children.items()
            if kind in children
        ]

    def _version(self, kind: str, key: Key, name: str) -> str | None:
        if kind == KIND:
            body = self.objects.get(key)
            return body["metadata"]["resourceVersion"] if body else None
        if kind == "Pod":
            pod = self._pods.get(key, {}).get(name)
            return pod.resource_version if pod else None
        child = self._children.get(key, {}).get(kind)
        return child.resource_version if child else None


WATCHED_KINDS = (KIND, *CHILD_KINDS, "Pod")
