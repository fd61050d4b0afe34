"""The PersistentVolumeClaim of a cache that is made for one object."""

from __future__ import annotations

from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.common import JSON, metadata
from llm_operator.manifests.model_source import cache_claim


def cache_volume_claim(resource: LLMDeployment) -> JSON | None:
    """The claim; None if the cache names one that exists, or there is no cache.

    With retentionPolicy Retain it has no owner, so that the garbage collector leaves it when the object goes.
    """
    cache = resource.spec.cache
    if cache is None or cache.size is None:
        return None
    meta = {**metadata(resource), "name": cache_claim(resource)}
    if cache.retention_policy == "Retain":
        del meta["ownerReferences"]
    spec: JSON = {
        "accessModes": [cache.access_mode or "ReadWriteOnce"],
        "resources": {"requests": {"storage": cache.size}},
    }
    if cache.storage_class_name is not None:
        spec["storageClassName"] = cache.storage_class_name
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
