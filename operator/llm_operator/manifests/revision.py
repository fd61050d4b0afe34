"""What an engine's pods were rendered as, in a ControllerRevision: pod template, plan and the digest of the inputs.

A revision is created and never changed; the API server keeps its data as it is. Its name holds the number and the
digest of the data, so that the same rendering after a crash is the same object, and metadata alone says which it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from llm_operator.api.resource import LLMDeployment
from llm_operator.foreign import read_again
from llm_operator.manifests.common import JSON, LABEL_INPUTS, compact_json, metadata

REVISION = "ControllerRevision"
CONTENT_BYTES = 1 << 20
"""Of a revision's data as JSON; etcd takes 1.5 MiB of an object, and the Deployment holds the template as well."""
ANNOTATIONS_BYTES = 256 << 10
"""Of all annotations of an object (apimachinery, TotalAnnotationSizeLimitB)."""
MARGIN_BYTES = 2 << 10
"""For annotations of others, such as the revision that the Deployment controller writes."""
_SUFFIX = re.compile(r"-([1-9][0-9]{0,8})-([0-9a-f]{20}|[0-9a-f]{10})")
"""Number and digest; the digests of the first operators with revisions had ten digits."""


def content_of(template: JSON, plan: Mapping[str, Any] | None) -> JSON:
    """The data of a revision.

    Args:
        template: the pod template.
        plan: record of the plan that it was rendered from (reconcile/plan_record.py); None if it is not known.
    """
    told = {"plan": dict(plan)} if plan else {}
    return {"inputs": template["metadata"]["labels"][LABEL_INPUTS], **told, "template": template}


def digest_of(content: object) -> str:
    """Digest of a revision's data; twenty hexadecimal digits.

    Ten could be met by trying: who may create ControllerRevisions, and nothing else, would have the operator run pods.
    """
    return text_digest(compact_json(content))


def text_digest(text: str) -> str:
    """The same of its text as compact_json() writes it."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:20]


def has_digest(text: str, digest: str) -> bool:
    """Whether a revision's text has the digest that its name holds, which is shorter in older names."""
    return text_digest(text)[: len(digest)] == digest


def text_of(data: object, digest: str) -> str:
    """The text of live data, as compact_json() writes it.

    The API server keeps the order of the keys, so that what this operator wrote needs no sorting again: its digest says
    so, in a fifth of the time.

    Args:
        data: as the API server sent it.
        digest: according to the revision's name.
    """
    with contextlib.suppress(ValueError):
        text = to_json(data).decode()
        if has_digest(text, digest):
            return text
    return compact_json(data)


def revision_name(owner: str, number: int, digest: str) -> str:
    """The name of a revision: with an object's name of 52 characters, at most 83."""
    return f"{owner}-{number}-{digest}"


def number_and_digest(owner: str, name: str) -> tuple[int, str] | None:
    """What the name of a revision says; None if it is not the name of a revision of that object."""
    found = _SUFFIX.fullmatch(name.removeprefix(owner)) if name.startswith(owner) else None
    return (int(found[1]), found[2]) if found is not None else None


def revision(resource: LLMDeployment, number: int, content: JSON, text: str = "", digest: str = "") -> JSON:
    """The ControllerRevision that holds a rendering.

    Args:
        resource: the object.
        number: of the revision.
        content: its data.
        text: the same as compact_json() writes it; empty: it is not written yet.
        digest: of its data, as an older name has it; empty: it is computed.
    """
    meta, text = metadata(resource), text or compact_json(content)
    name = revision_name(resource.metadata.name, number, digest or text_digest(text))
    return {
        "apiVersion": "apps/v1",
        "kind": REVISION,
        "metadata": {**meta, "name": name, "labels": {**meta["labels"], LABEL_INPUTS: content["inputs"]}},
        "revision": number,
        # With the keys of objects in order, as the API server writes them again.
        "data": read_again(text),
    }


def excess(content: JSON, deployment: Mapping[str, Any]) -> int:
    """Bytes by which a revision's data, or the annotations of the Deployment or its pods, are too long; 0: they fit."""
    metas = (deployment["metadata"], deployment["spec"]["template"]["metadata"])
    annotations = max(_size(meta.get("annotations") or {}) for meta in metas) + MARGIN_BYTES - ANNOTATIONS_BYTES
    return max(0, annotations, len(to_json(content)) - CONTENT_BYTES)


def _size(annotations: Mapping[str, str]) -> int:
    return sum(len(name.encode()) + len(value.encode()) for name, value in annotations.items())
