"""`spec.cache`: the volume on which models are kept between pods."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_operator.api.base import ApiModel, Name, PositiveQuantity, Rule

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany"]
RetentionPolicy = Literal["Delete", "Retain"]


def _unchanged(field: str, same: str, instead: str) -> Rule:
    """A claim that was made for an object stays as it was made: a change would be without effect.

    Only the API server knows what was there before, so pydantic has nothing to judge.
    """
    return Rule(
        f"!has(self.size) || !has(oldSelf.size) || ({same})",
        f"cache.{field} cannot change while the object has this cache: {instead}",
        lambda _: True,
        f".{field}",
    )


def _as_before(field: str, default: str) -> str:
    """CEL for a field of two values, one of them the default."""
    is_default = "(!has({0}.{1}) || {0}.{1} == '{2}')"
    return f"{is_default.format('self', field, default)} == {is_default.format('oldSelf', field, default)}"


class CacheSpec(ApiModel):
    """A PersistentVolumeClaim that holds fetched and quantized models: one that exists, or one made for this object."""

    RULES = (
        Rule(
            "has(self.claimName) != has(self.size)",
            "exactly one of claimName (a claim that exists) and size (a claim to be made) must be given",
            lambda cache: (cache.claim_name is None) != (cache.size is None),
        ),
        Rule(
            "has(self.size) || !(has(self.storageClassName) || has(self.accessMode) || has(self.retentionPolicy))",
            "storageClassName, accessMode and retentionPolicy describe a claim to be made: they need size",
            lambda cache: (
                cache.size is not None
                or (cache.storage_class_name, cache.access_mode, cache.retention_policy) == (None, None, None)
            ),
            ".size",
        ),
        _unchanged(
            "size",
            "self.size == oldSelf.size",
            "to enlarge it, resize the PersistentVolumeClaim <name>-models and leave this as it is",
        ),
        _unchanged(
            "storageClassName",
            "has(self.storageClassName) == has(oldSelf.storageClassName) && "
            "(!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
            "a claim keeps its StorageClass: name another claim in cache.claimName",
        ),
        _unchanged(
            "accessMode",
            _as_before("accessMode", "ReadWriteOnce"),
            "a claim keeps its access mode: name another claim in cache.claimName",
        ),
        _unchanged(
            "retentionPolicy",
            _as_before("retentionPolicy", "Delete"),
            "to keep the claim, remove metadata.ownerReferences of the PersistentVolumeClaim <name>-models",
        ),
    )

    claim_name: Name | None = Field(
        default=None, description="PersistentVolumeClaim in the namespace of this object; several objects may share it."
    )
    size: PositiveQuantity | None = Field(
        default=None, description="Create a claim of this size for this object, for example 100Gi."
    )
    storage_class_name: Name | None = Field(
        default=None, description="StorageClass of that claim. Default: the cluster's."
    )
    access_mode: AccessMode | None = Field(
        default=None,
        description="Access mode of that claim: ReadWriteMany for replicas on several nodes. Default: ReadWriteOnce.",
    )
    retention_policy: RetentionPolicy | None = Field(
        default=None,
        description=(
            "What happens to that claim when this object is deleted. Default: Delete. A claim that was made with "
            "Retain stays, even if `cache` is removed and added again with Delete: delete it yourself."
        ),
    )
