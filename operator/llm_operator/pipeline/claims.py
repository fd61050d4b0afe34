"""Whether the claims of an object's stages are there and may be used. Pure."""

from __future__ import annotations

from llm_operator.api.resource import LLMDeployment
from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.claim import cache_volume_claim
from llm_operator.manifests.common import JSON
from llm_operator.manifests.model_source import cache_claim, source_claim
from llm_operator.pipeline.artifacts import LABEL_CACHE
from llm_operator.pipeline.cache_claim import mismatch
from llm_operator.pipeline.request import JobRequest
from llm_operator.pipeline.surroundings import Surroundings
from llm_operator.problems import Problem


def needed_claims(resource: LLMDeployment) -> tuple[str, ...]:
    """Names of the claims that a preparation needs to know."""
    recipe = resource.spec.weight_quantization
    text = recipe.calibration.text if recipe is not None else None
    calibration = text.persistent_volume_claim.claim_name if text and text.persistent_volume_claim else None
    names = (cache_claim(resource), source_claim(resource), calibration)
    return tuple(dict.fromkeys(name for name in names if name is not None))


def missing_claim(resource: LLMDeployment, observed: Surroundings) -> JSON | Problem | None:
    """The claim to be made, or what is wrong with one; None if all that are known can be used."""
    made = cache_volume_claim(resource)
    for name in needed_claims(resource):
        if name not in observed.claims:
            continue
        found = observed.claims[name]
        ours = made if made is not None and name == made["metadata"]["name"] else None
        # A claim of an earlier object of this name goes as that object has gone, also before anyone says so.
        goes = found is not None and found.managed and found.owner_uid not in (None, resource.metadata.uid)
        if found is not None and not found.deleting and not (goes and ours is not None):
            trouble = _unusable(resource, found) if ours is not None else None
            if trouble is not None:
                return trouble
            continue
        if found is not None:
            text = f"PersistentVolumeClaim {name!r} is being deleted: waiting until it is gone"
            return Problem("ClaimTerminating", text, "Warning")
        if ours is not None:
            return ours
        text = f"PersistentVolumeClaim {name!r} does not exist in this namespace: create it, or name another one"
        return Problem("ClaimMissing", text, "Warning")
    return None


def _unusable(resource: LLMDeployment, claim: ClaimFacts) -> Problem | None:
    """Why the claim that has the name of the object's own cannot be its cache."""
    if claim.uid and not claim.managed:
        text = (
            f"PersistentVolumeClaim {claim.name!r} exists and was not made by this operator: name it in "
            "spec.cache.claimName to use it, or rename this object"
        )
        return Problem("NameConflict", text, "Error")
    cache = resource.spec.cache
    differs = mismatch(cache, claim) if cache is not None else None
    return Problem("ClaimDiffers", differs, "Error") if differs is not None else None


def not_labelled(request: JobRequest) -> Problem | None:
    """Why a Job may not write to its claim: no one who may change the claim has said so."""
    claim = request.claim
    if request.artifact.stage == "inspect" or claim is None or claim.cache:
        return None
    if not claim.uid:
        text = (
            f"the operator may not read PersistentVolumeClaim {claim.name!r}, and so cannot see whether it may write "
            "to it: grant it get on persistentvolumeclaims"
        )
        return Problem("ClaimNotLabelled", text, "Error")
    text = (
        f"PersistentVolumeClaim {claim.name!r} was not made by this operator, which so writes nothing to it: "
        f"kubectl label pvc {claim.name} {LABEL_CACHE}=true"
    )
    return Problem("ClaimNotLabelled", text, "Error")
