"""Whether the claim that the operator made for an object is what its spec requests now. Pure.

A claim stays as it was made, and the API server refuses changes of `spec.cache`. But a cache may be removed and added
again, and a claim with retentionPolicy Retain may be that of an earlier object of the name.
"""

from __future__ import annotations

from llm_operator.api.model_cache import CacheSpec
from llm_operator.api.quantity import parse_quantity
from llm_operator.live.claims import ClaimFacts


def mismatch(cache: CacheSpec, claim: ClaimFacts) -> str | None:
    """What of an existing claim is not as the spec says, and what to do; None if it serves the purpose.

    More than was requested serves it: a larger claim, which is how one is enlarged, or one for several nodes.
    """
    found = []
    if cache.size is not None and _is_less(claim.size, cache.size):
        found.append(
            f"it has {claim.size}, and spec.cache.size is {cache.size}: resize it (kubectl patch pvc {claim.name} "
            f'-p \'{{"spec":{{"resources":{{"requests":{{"storage":"{cache.size}"}}}}}}}}\')'
        )
    if cache.access_mode == "ReadWriteMany" and claim.single_node:
        found.append("it is ReadWriteOnce, and spec.cache.accessMode is ReadWriteMany")
    if cache.storage_class_name is not None and cache.storage_class_name != claim.storage_class:
        found.append(
            f"its StorageClass is {claim.storage_class or 'not set'}, and spec.cache.storageClassName is "
            f"{cache.storage_class_name}"
        )
    if cache.retention_policy == "Retain" and claim.owner_uid is not None:
        found.append(
            "it would be deleted with this object, and spec.cache.retentionPolicy is Retain: remove its "
            f"metadata.ownerReferences (kubectl patch pvc {claim.name} --type=merge "
            '-p \'{"metadata":{"ownerReferences":null}}\')'
        )
    if not found:
        return None
    return (
        f"PersistentVolumeClaim {claim.name!r} was made before and is not as spec.cache says: {'; '.join(found)}; or "
        "remove spec.cache and add it again as the claim is, or delete the claim and all models on it"
    )


def _is_less(size: str, than: str) -> bool:
    """Whether a size is known and less than another."""
    try:
        return bool(size) and parse_quantity(size) < parse_quantity(than)
    except ValueError:
        return False
