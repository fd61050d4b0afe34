"""`spec.cache`: the volume on which models are kept between pods."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_operator.api.base import ApiModel, Name, PositiveQuantity, Rule

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany"]
RetentionPolicy = Literal["Delete", "Retain"]


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
    )

    claim_name: Name | None = Field(
        default=None, description="PersistentVolumeClaim in the namespace of this object; several objects may share it."
    )
    size: PositiveQuantity | None = Field(
        default=None, description="Make a claim of this size for this object, such as 100Gi."
    )
    storage_class_name: Name | None = Field(
        default=None, description="StorageClass of that claim. Default: the cluster's."
    )
    access_mode: AccessMode | None = Field(
        default=None,
        description="Access mode of that claim: ReadWriteMany for replicas on several nodes. Default: ReadWriteOnce.",
    )
    retention_policy: RetentionPolicy | None = Field(
        default=None, description="What becomes of that claim when this object is deleted. Default: Delete."
    )
