"""The revisions of one object: which one runs, what it holds, what is to be written and what may go. Pure.

Numbers grow by one with each rendering that replaces another. What has the number of the one that runs or a higher one,
and does not run, is a rendering whose Deployment was never written: it is used if it is still what is wanted, else it
goes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_operator.foreign import UnreadableError, read_again, read_json, read_object
from llm_operator.live.texts import Text, whole
from llm_operator.manifests.common import (
    ANNOTATION_ENGINE,
    ANNOTATION_PLAN,
    ANNOTATION_TEMPLATE,
    LABEL_INPUTS,
    LABEL_MANAGED_BY,
    MANAGER,
    container_of,
)
from llm_operator.manifests.kept_template import read_template
from llm_operator.manifests.pod import CONTAINER
from llm_operator.manifests.revision import CONTENT_BYTES, has_digest, number_and_digest, text_of

JSON = dict[str, Any]

MOST_REMOVED = 50
"""Revisions that one look removes; the events of their deletions cause the next look."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision according to its metadata; what it holds only of the one that runs."""

    name: str
    uid: str
    resource_version: str
    owner_uid: str
    number: int
    digest: str
    """Of its data, as its name says."""
    labelled: bool = True
    """It has the label by which it is watched."""
    gone: bool = False
    """Somebody deleted it; what it held is still known."""
    text: Text | None = None
    """Its data as compact_json() writes it; None: it was not read."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What was rendered for the pods that run."""

    template: JSON
    plan: Mapping[str, Any] | None
    """Record of the plan (reconcile/plan_record.py); None if there is none."""


def owner_of(meta: Mapping[str, Any]) -> str | None:
    """Name of the LLMDeployment that controls a revision; None if it is not the operator's kind of revision."""
    owner = next((one for one in meta.get("ownerReferences") or () if one.get("controller")), None)
    if owner is None or owner.get("kind") != "LLMDeployment":
        return None
    name = str(owner.get("name"))
    return name if number_and_digest(name, meta["name"]) is not None else None


def revision_from(raw: Mapping[str, Any], before: Revision | None = None) -> Revision:
    """Reduce a live revision, whole or its metadata alone.

    Args:
        raw: as the API server sent it, with an owner whose name owner_of() returned.
        before: the same as it was known before. Its data cannot have changed.
    """
    meta = raw["metadata"]
    owner = next(one for one in meta["ownerReferences"] if one.get("controller"))
    number, digest = number_and_digest(str(owner["name"]), meta["name"]) or (0, "")
    text = before.text if before is not None and before.uid == meta["uid"] else None
    if "data" in raw:
        text = text_of(raw["data"], digest)
    return Revision(
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        owner_uid=str(owner["uid"]),
        number=number,
        digest=digest,
        labelled=(meta.get("labels") or {}).get(LABEL_MANAGED_BY) == MANAGER,
        text=text,
    )


def content(revision: Revision | None) -> Kept | None:
    """What a revision holds; None if it was not read, or holds something else than its name says."""
    return _content_in(revision.text, revision.digest) if revision is not None and revision.text is not None else None


def legacy(text: Text) -> Kept | None:
    """What an operator before revisions kept in the annotations of a Deployment, given its text; None: nothing."""
    return _legacy_in(text)


def to_remove(
    revisions: Mapping[str, Revision], owner_uid: str, kept: set[str], number: int, most: int
) -> list[Revision]:
    """The revisions of one owner that go, oldest first.

    Args:
        revisions: by name.
        owner_uid: of the object.
        kept: names of those that run or are to run.
        number: of the one that is to run; others with this number or a higher one never ran.
        most: revisions that are kept beside `kept`.
    """
    own = sorted(
        (one for one in revisions.values() if one.owner_uid == owner_uid and one.name not in kept and not one.gone),
        key=lambda one: (one.number, one.name),
    )
    older = [one for one in own if one.number < number]
    never_ran = [one for one in own if one.number >= number]
    return [*never_ran, *older[: max(0, len(older) - most)]][:MOST_REMOVED]


@functools.lru_cache(maxsize=256)
def _content_in(kept: Text, digest: str) -> Kept | None:
    """Remembered, because one look at an object asks several times; the result is read, never changed."""
    text = whole(kept)
    try:
        body = read_json(text, 2 * CONTENT_BYTES)
    except UnreadableError:
        return None
    if not isinstance(body, dict) or not has_digest(text, digest):
        return None
    return _kept(body.get("template"), body.get("plan"))


@functools.lru_cache(maxsize=256)
def _legacy_in(text: Text) -> Kept | None:
    annotations = read_again(whole(text))["metadata"]["annotations"]
    try:
        template = read_template(annotations.get(ANNOTATION_TEMPLATE) or "")
    except (ValueError, TypeError, AttributeError):
        return None
    return _kept(template, dict(read_object(annotations.get(ANNOTATION_PLAN))))


def _kept(template: Any, plan: Any) -> Kept | None:
    """A template of which all is there that is read without looking."""
    try:
        labels, annotations = template["metadata"]["labels"], template["metadata"].get("annotations") or {}
        container = container_of(template, CONTAINER)
        engine = read_object(annotations.get(ANNOTATION_ENGINE))
        texts = (container["image"], labels[LABEL_INPUTS], engine.get("type"), engine.get("version"))
        args = container.get("args") or []
        complete = all(isinstance(one, str) and one for one in texts) and all(isinstance(one, str) for one in args)
    except (KeyError, TypeError, IndexError, AttributeError):
        return None
    return Kept(template, plan if isinstance(plan, dict) and plan else None) if complete else None
