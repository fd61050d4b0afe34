"""A live child, reduced to what is decided on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import to_json

from llm_operator.foreign import read_again
from llm_operator.live.managed_fields import ForeignField, foreign_fields
from llm_operator.live.texts import Text, whole
from llm_operator.manifests.common import ANNOTATION_REVISION
from llm_operator.manifests.kinds import WORKLOAD_KINDS

JSON = dict[str, Any]

Kind = str

Role = Literal["engine", "chat", "jobs"]
"""What a child is there for."""

ChildKey = tuple[Kind, Role]

REASON_CHARACTERS = 253
MESSAGE_CHARACTERS = 2048
"""Of one message that another controller wrote."""
READ_CONDITIONS = frozenset({"Progressing", "ReplicaFailure"})
"""Conditions of a child that are read, wherever they stand: others may write as many as they like."""
UID_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class ChildCondition:
    """One condition of a child, as its own controller wrote it."""

    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Child:
    """A live child: its identity and the text of what it says, without what the API server keeps for itself."""

    kind: Kind
    uid: str
    resource_version: str
    generation: int
    owner_uid: str | None
    deleting: bool
    text: Text
    """JSON of labels, annotations, owner references and spec."""
    status: Mapping[str, int] = field(default_factory=dict)
    """Integers of the child's status: replicas, readyReplicas, updatedReplicas, ..."""
    conditions: Mapping[str, ChildCondition] = field(default_factory=dict)
    """Conditions of the child's status by type."""
    paused: bool = False
    """`kubectl rollout pause`: the Deployment controller leaves the pods as they are."""
    name: str = ""
    foreign: tuple[ForeignField, ...] = ()
    """Fields of its spec that others set."""
    revision: str = ""
    """Name of the revision that it says it was rendered as; empty if it says none."""

    def body(self) -> JSON:
        """The child's metadata and spec."""
        body: JSON = read_again(whole(self.text))
        return body


def workload_in(children: Mapping[ChildKey, Child], role: Role) -> Child | None:
    """The child that runs the pods of a role; None if there is none."""
    found = (children.get((kind, role)) for kind in WORKLOAD_KINDS)
    return next((child for child in found if child is not None), None)


def child_from(raw: Mapping[str, Any]) -> Child:
    """Reduce a live object of the API server to a Child."""
    meta = raw["metadata"]
    status = raw.get("status") or {}
    said = {
        "metadata": {
            "labels": meta.get("labels") or {},
            "annotations": meta.get("annotations") or {},
            "ownerReferences": meta.get("ownerReferences") or [],
        },
        "spec": raw.get("spec") or {},
    }
    return Child(
        kind=raw["kind"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        generation=meta.get("generation", 0),
        owner_uid=next((owner["uid"] for owner in meta.get("ownerReferences") or [] if owner.get("controller")), None),
        deleting="deletionTimestamp" in meta,
        text=to_json(said).decode(),
        status={key: value for key, value in status.items() if isinstance(value, int)},
        conditions={
            entry["type"]: ChildCondition(
                str(entry.get("status"))[:REASON_CHARACTERS],
                str(entry.get("reason") or "")[:REASON_CHARACTERS],
                str(entry.get("message") or "")[:MESSAGE_CHARACTERS],
            )
            for entry in status.get("conditions") or []
            if entry.get("type") in READ_CONDITIONS
        },
        paused=(raw.get("spec") or {}).get("paused") is True,
        name=meta["name"],
        foreign=foreign_fields(raw),
        revision=_text((meta.get("annotations") or {}).get(ANNOTATION_REVISION)),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
