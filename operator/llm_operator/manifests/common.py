"""Names, labels and ownership that every child shares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from llm_operator.api import API_VERSION, KIND
from llm_operator.api.resource import LLMDeployment
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.foreign import read_object

MANAGER = "llm-operator"
"""Field manager of every server-side apply, and value of the managed-by label."""

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_DEPLOYMENT = "llm-operator.dev/deployment"
LABEL_CHAT = "llm-operator.dev/chat"
"""On the chat page and its pods: the LLMDeployment whose page it is."""
LABEL_INPUTS = "llm-operator.dev/inputs"
LABEL_ENGINE_TYPE = "llm-operator.dev/engine-type"
"""`lmdeploy` or `vllm`: for monitors, and for endpoint pickers that read an engine's own metrics."""
LABEL_VERSION = "app.kubernetes.io/version"
PART_OF = "llmdeployment"
"""Value of the part-of label: the application that engine, chat page and model tools make up."""
ANNOTATION_REVISION = "llm-operator.dev/revision"
"""On the engine's Deployment: name of the ControllerRevision that holds its pod template as it was rendered."""
ANNOTATION_TEMPLATE = "llm-operator.dev/applied-template"
"""Read only: operators before revisions kept the pod template here, and wrote it as it was applied."""
ANNOTATION_PLAN = "llm-operator.dev/plan"
"""Read only: operators before revisions kept the plan here that the pod template was rendered from."""
ANNOTATION_PROPAGATED = "llm-operator.dev/propagated"
"""On what is made for an object: names of the labels and annotations that it has from it."""
ANNOTATION_PROPAGATES = "llm-operator.dev/propagates"
"""On a pod template: the operator's list of what is handed on, when it was rendered."""
ANNOTATION_ENGINE = "llm-operator.dev/engine"
ANNOTATION_GUARD = "llm-operator.dev/guard"
"""On a pod template: the source of the filter before the engine's router (engines/guard)."""
ANNOTATION_MODEL = "llm-operator.dev/model"
"""On a pod template: the prepared model that it mounts; absent if nothing was prepared."""

ANNOTATION_SPEC = "llm-operator.dev/spec-hash"
"""On a child whose optional fields come and go: hash of the spec that was written."""

PAGE_PORT = 8080
"""Port of the chat page's container."""

JSON = dict[str, Any]

KEPT_OUT: tuple[tuple[str, ...], ...] = (
    *(("replicas",), ("planPolicy",), ("webUI",), ("tools",), ("network",), ("service",), ("revisionHistoryLimit",)),
    # How a claim was made and how a Job ran does not reach a pod either.
    *(("cache", field) for field in ("size", "storageClassName", "accessMode", "retentionPolicy")),
    *(("weightQuantization", field) for field in ("quality", "resources", "image")),
)
"""Fields of the spec, by their path, that do not reach the engine's pods: a change of them replaces no pod."""
SPECS_REMEMBERED = 64
_COMPACT = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def selector_labels(resource: LLMDeployment) -> dict[str, str]:
    """The labels that select the pods of one LLMDeployment; they never change, as a selector cannot."""
    return {LABEL_DEPLOYMENT: resource.metadata.name}


def labels(resource: LLMDeployment) -> dict[str, str]:
    """The labels of every child."""
    return {
        **resource.carried.labels,
        **selector_labels(resource),
        LABEL_MANAGED_BY: MANAGER,
        "app.kubernetes.io/name": "llm-engine",
        "app.kubernetes.io/instance": resource.metadata.name,
        "app.kubernetes.io/component": "engine",
        "app.kubernetes.io/part-of": PART_OF,
        LABEL_ENGINE_TYPE: resource.spec.engine.type.lower(),
    }


def carried_annotations(resource: LLMDeployment) -> dict[str, str]:
    """The annotations that a child has from its object, with one that names all that it has."""
    carried = resource.carried
    if not carried:
        return {}
    names = {"labels": sorted(carried.labels), "annotations": sorted(carried.annotations)}
    return {**carried.annotations, ANNOTATION_PROPAGATED: compact_json(names)}


def with_version(body: JSON, template: JSON) -> JSON:
    """A child of the engine with its version as a label, according to the pod template that runs."""
    engine = read_object((template["metadata"].get("annotations") or {}).get(ANNOTATION_ENGINE))
    version = engine.get("version")
    if not isinstance(version, str):
        return body
    meta = body["metadata"]
    return {**body, "metadata": {**meta, "labels": {**meta["labels"], LABEL_VERSION: version}}}


def metadata(resource: LLMDeployment) -> JSON:
    """Name, namespace, labels and owner of a child. The owner reference lets the garbage collector delete it."""
    annotations = carried_annotations(resource)
    return {
        "name": resource.metadata.name,
        "namespace": resource.metadata.namespace,
        "labels": labels(resource),
        **({"annotations": annotations} if annotations else {}),
        "ownerReferences": [owner_reference(resource)],
    }


def container_of(template: JSON, name: str) -> JSON:
    """The container of that name: an overlay may put others before it.

    Raises:
        KeyError: there is none.
    """
    for container in template["spec"]["containers"]:
        if container.get("name") == name:
            found: JSON = container
            return found
    raise KeyError(name)


def owner_reference(resource: LLMDeployment) -> JSON:
    """The reference by which the garbage collector finds what belongs to an object.

    It blocks: a foreground deletion, such as Argo CD's pruning, ends when the pods have ended and their GPUs are
    free. Admission may want the right to update the finalizers of LLMDeployments for that.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": resource.metadata.name,
        "uid": resource.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def compact_json(value: object) -> str:
    """The shortest JSON text of a value, with sorted keys, so that equal values have equal texts."""
    return _COMPACT.encode(value)


def reaches_pods(path: Sequence[str]) -> bool:
    """Whether a change of a field of the spec replaces the engine's pods.

    Args:
        path: names below spec, such as ("kvCache", "quantization").
    """
    return not any(tuple(path[: len(kept)]) == kept for kept in KEPT_OUT)


def _once_per_spec(compute: Callable[[LLMDeployment], str]) -> Callable[[LLMDeployment], str]:
    """Remember what follows from a spec alone: it is requested many times in one reconciliation.

    Kept by identity, because a spec holds lists and has no hash. The spec is kept too, so that no other can get its
    identity; a few are enough, for those in work.
    """
    kept: dict[int, tuple[LLMDeploymentSpec, str]] = {}

    @wraps(compute)
    def remembered(resource: LLMDeployment) -> str:
        entry = kept.get(id(resource.spec))
        if entry is None:
            if len(kept) >= SPECS_REMEMBERED:
                kept.pop(next(iter(kept)), None)
            entry = kept[id(resource.spec)] = (resource.spec, compute(resource))
        return entry[1]

    return remembered


def with_spec_hash(body: JSON) -> JSON:
    """A child that says which spec was written: what is left out of the next one, nothing else in it says.

    Fields that the API server or others add cannot be distinguished from those that the operator has set before.
    """
    meta = body["metadata"]
    digest = hashlib.sha256(compact_json(body["spec"]).encode()).hexdigest()[:10]
    return {**body, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), ANNOTATION_SPEC: digest}}}


def inputs_hash(resource: LLMDeployment) -> str:
    """Hash of everything the user says about a pod; ten hexadecimal digits.

    Fields that do not reach a pod are left out, and fields at their default too: neither scaling, nor a new
    operator with a new field, nor a better plan may restart a running engine. Labels and annotations that are handed
    on to the pods are said too.
    """
    text, carried = _said(resource), resource.carried
    if carried:
        text += compact_json([dict(carried.labels), dict(carried.annotations)])
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@_once_per_spec
def _said(resource: LLMDeployment) -> str:
    """What the spec says about a pod, as JSON."""
    said = resource.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for *holders, field in KEPT_OUT:
        holder = said
        for name in holders:
            holder = holder.get(name, {})
        holder.pop(field, None)
    if not _says_something(said.get("podTemplate") or {}):
        said.pop("podTemplate", None)
    return compact_json(said)


def _says_something(overlay: JSON) -> bool:
    """Whether an overlay has more than empty objects."""
    metadata = overlay.get("metadata") or {}
    return bool(overlay.get("spec")) or any(metadata.values())
