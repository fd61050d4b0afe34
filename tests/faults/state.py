"""What a namespace holds, without what differs from run to run: two of them are equal if the operator did the same."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from typing import Any

from llm_operator.api import KIND
from llm_operator.manifests.common import ANNOTATION_REVISION, LABEL_MANAGED_BY, MANAGER
from llm_operator.manifests.kinds import KINDS
from llm_operator.pipeline.artifacts import ANNOTATION_MADE_FOR
from tests.cluster.helpers import Space
from tests.faults.proxy import HEALTH

JSON = dict[str, Any]

LONG_TEXT = 200
CHILDREN = ("Deployment", "Service", "PodDisruptionBudget", "Job", "PersistentVolumeClaim")
_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_OF_NAMESPACE = re.compile(r'("llm-operator.dev/spec-hash": )"[0-9a-f]*"')
"""What is hashed names the namespace."""
_UID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_OWN_OF_SERVER = ("clusterIP", "clusterIPs", "volumeName")


def snapshot(space: Space, only: str | None = None) -> JSON:
    """Everything of a namespace that the operator made, or that tells of it; empty entries are left out.

    With `only`, what is of one kind.
    """
    wanted = kinds() if only is None else (only,)
    found: JSON = {
        kind: {item["metadata"]["name"]: _reduced(kind, item) for item in _all(space, kind)} for kind in wanted
    }
    if only is None:
        found["Pod"] = dict(_pods(space))
    text = json.dumps({kind: entry for kind, entry in found.items() if entry}, sort_keys=True)
    text = _OF_NAMESPACE.sub(r'\1""', _UID.sub("UID", _TIME.sub("TIME", text)))
    plain: JSON = _short(json.loads(re.sub(rf"\b{re.escape(space.name)}\b", "NAMESPACE", text)))
    return plain


def _short(value: Any) -> Any:
    """Long texts by their beginning and a digest, so that people can read a difference."""
    if isinstance(value, dict):
        return {name: _short(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_short(entry) for entry in value]
    if isinstance(value, str) and len(value) > LONG_TEXT:
        return f"{value[:LONG_TEXT]}... {hashlib.sha256(value.encode()).hexdigest()[:12]}"
    return value


def without_revisions(state: JSON) -> JSON:
    """The same without the count of each Deployment's templates: of two quick changes one may be skipped."""
    text = re.sub(
        r'"deployment.kubernetes.io/revision": "\d+"', '"deployment.kubernetes.io/revision": ""', json.dumps(state)
    )
    plain: JSON = json.loads(text)
    return plain


def conditions(state: JSON) -> JSON:
    """What Ready and Stalled say of each object of a snapshot, and its pods, for people."""
    told: JSON = {"Pod": state.get("Pod")}
    for name, body in state.get(KIND, {}).items():
        entries = (body.get("status") or {}).get("conditions") or ()
        told[name] = {
            entry["type"]: (entry["status"], entry["reason"], entry["message"])
            for entry in entries
            if entry["type"] in ("Ready", "Stalled")
        }
    return told


def kinds() -> tuple[str, ...]:
    """The kinds that are looked at, pods aside."""
    return (KIND, *CHILDREN)


def difference(expected: JSON, found: JSON, most: int = 60) -> str:
    """A unified diff, for people."""
    before, after = (json.dumps(value, indent=1, sort_keys=True).splitlines() for value in (expected, found))
    lines = list(difflib.unified_diff(before, after, "expected", "found", lineterm="", n=2))
    return "\n".join([*lines[:most], *(["..."] if len(lines) > most else [])])


def _all(space: Space, kind: str) -> list[JSON]:
    items: list[JSON] = space.plane.request("GET", KINDS[kind].path(space.name))["items"]
    return items


def _pods(space: Space) -> Counter[str]:
    """How many pods of the operator's there are, by what they belong to and how they are."""
    found: Counter[str] = Counter()
    for pod in _all(space, "Pod"):
        labels = pod["metadata"].get("labels") or {}
        if labels.get(LABEL_MANAGED_BY) == MANAGER:
            owner = next((owner["kind"] for owner in pod["metadata"].get("ownerReferences") or ()), "nobody")
            going = " (terminating)" if "deletionTimestamp" in pod["metadata"] else ""
            found[f"{labels.get('app.kubernetes.io/name')} of {owner}: {pod['status']['phase']}{going}"] += 1
    return found


def _reduced(kind: str, item: JSON) -> JSON:
    meta, status = item["metadata"], item.get("status") or {}
    # The annotations of a claim are those of the controllers that bind it; they come late, and never with a volume.
    owners = [(owner["kind"], owner["name"], owner.get("controller")) for owner in meta.get("ownerReferences") or ()]
    spec = {name: value for name, value in (item.get("spec") or {}).items() if name not in _OWN_OF_SERVER}
    told: Any = status
    if kind == "Deployment":
        told = {name: status.get(name) for name in ("replicas", "updatedReplicas", "readyReplicas")}
    elif kind == "Job":
        told = sorted(entry["type"] for entry in status.get("conditions") or () if entry["status"] == "True")
    elif kind == "PersistentVolumeClaim":
        told = status.get("phase")
    elif kind == KIND:
        told = {**status, "conditions": [entry for entry in status.get("conditions") or () if entry["type"] != HEALTH]}
    else:
        told = None
    annotations = {**(meta.get("annotations") or {})}
    if ANNOTATION_REVISION in annotations:
        # Its name has a count and a digest, of names of the cluster too.
        annotations[ANNOTATION_REVISION] = "some"
    if ANNOTATION_MADE_FOR in annotations:
        # Of objects that share a Job, whichever is looked at first has it made.
        annotations[ANNOTATION_MADE_FOR] = "some"
    return {
        "labels": meta.get("labels"),
        "annotations": None if kind == "PersistentVolumeClaim" else annotations or None,
        "owners": owners,
        "finalizers": meta.get("finalizers"),
        "deleting": "deletionTimestamp" in meta,
        "spec": spec,
        "status": told,
    }
