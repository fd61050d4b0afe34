"""Which children of one role are written or deleted, so that what is there is what is wanted. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from llm_operator.api.resource import LLMDeployment
from llm_operator.live.children import Child, Kind, Role
from llm_operator.manifests.common import (
    ANNOTATION_PROPAGATED,
    JSON,
)
from llm_operator.manifests.kinds import CHILD_KINDS
from llm_operator.manifests.service import ANNOTATION_SERVICE
from llm_operator.reconcile.covers import covers
from llm_operator.reconcile.decision import Apply, Delete
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.rendered import owns

POLICIES = frozenset({"NetworkPolicy"})
NOT_POLICIES = frozenset(CHILD_KINDS) - POLICIES


def writes_of(
    resource: LLMDeployment, observed: Observed, wanted: Sequence[JSON], role: Role, among: frozenset[Kind]
) -> tuple[tuple[Apply, ...], tuple[Delete, ...]]:
    """The writes that make the children of one role, of these kinds, what is wanted."""
    seen = {kind: child for (kind, of), child in observed.children.items() if of == role and kind in among}
    # What cannot be changed is deleted, and made anew when it is gone.
    kinds = {body["kind"] for body in wanted if not _is_fixed(body, seen.get(body["kind"]))}
    return (
        tuple(
            Apply(
                body,
                seen=body["kind"] in seen,
                role="chat" if role == "chat" else "engine",
                live=seen.get(body["kind"]),
            )
            for body in wanted
            if body["kind"] in kinds and _needs_write(body, seen.get(body["kind"]))
        ),
        tuple(
            Delete(kind, child.name, child.uid, "chat" if role == "chat" else "engine")
            for kind, child in seen.items()
            if kind not in kinds and owns(resource, child) and not child.deleting
        ),
    )


def _is_fixed(body: JSON, child: Child | None) -> bool:
    """Whether a child has what no write can change: a Service is headless, or is not, from its creation on."""
    if body["kind"] != "Service" or child is None or child.deleting:
        return False
    return bool((child.body()["spec"].get("clusterIP") == "None") != (body["spec"].get("clusterIP") == "None"))


def _given(metadata: JSON) -> list[str | None]:
    """What reports all that was given to a child, whose absence reports what is to be taken away."""
    annotations = metadata.get("annotations") or {}
    return [annotations.get(name) for name in (ANNOTATION_PROPAGATED, ANNOTATION_SERVICE)]


def _needs_write(body: JSON, child: Child | None) -> bool:
    if child is None:
        return True
    if child.deleting:
        return False
    live = child.body()
    return _given(live["metadata"]) != _given(body["metadata"]) or bool(child.foreign) or not covers(live, said(body))


def said(body: JSON) -> JSON:
    """What the operator says of a child, as Child.body() shows what is there."""
    return {
        "metadata": {
            key: body["metadata"][key]
            for key in ("labels", "annotations", "ownerReferences")
            if key in body["metadata"]
        },
        "spec": body["spec"],
    }
