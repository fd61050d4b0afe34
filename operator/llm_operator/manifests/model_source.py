"""Where an object's model comes from, and the claims that hold it. Pure."""

from __future__ import annotations

import hashlib

from llm_operator.api.model import ModelSpec
from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.common import JSON, compact_json

LABEL_CLAIM = "llm-operator.dev/claim"
"""On every pod that mounts a model's claim: pods that share a ReadWriteOnce claim must share a node."""


def digest_of(*parts: object) -> str:
    """Ten hexadecimal digits that change with any part."""
    return hashlib.sha256(compact_json(parts).encode()).hexdigest()[:10]


def claim_label(claim_name: str) -> str:
    """A claim's name as a label's value; longer ones end in a hash."""
    return claim_name if len(claim_name) <= 63 else f"{claim_name[:52].rstrip('-.')}-{digest_of(claim_name)}"


def cache_claim(resource: LLMDeployment) -> str | None:
    """Name of the claim that keeps models; None without a cache."""
    cache = resource.spec.cache
    if cache is None:
        return None
    return cache.claim_name or f"{resource.metadata.name}-models"


def source_claim(resource: LLMDeployment) -> str | None:
    """Name of the claim that the model comes from; None for other sources."""
    claim = resource.spec.model.persistent_volume_claim
    return None if claim is None else claim.claim_name


def from_hub(resource: LLMDeployment) -> bool:
    """Whether the model comes from a hub."""
    return resource.spec.model.hugging_face is not None or resource.spec.model.model_scope is not None


def source_words(model: ModelSpec) -> JSON:
    """Where a model comes from, in plain words."""
    said = model.to_json()
    kind = next(name for name in ("huggingFace", "modelScope", "persistentVolumeClaim", "image") if name in said)
    return {"kind": kind, **said[kind]}
