"""Whether the claims of an object's stages are there and may be used. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from llm_operator.api import KIND
from llm_operator.api.resource import LLMDeployment
from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.claim import cache_volume_claim
from llm_operator.manifests.common import JSON
from llm_operator.manifests.model_source import cache_claim, source_claim
from llm_operator.pipeline.artifacts import LABEL_CACHE
from llm_operator.pipeline.cache_claim import mismatch
from llm_operator.pipeline.request import JobRequest
from llm_operator.pipeline.surroundings import Surroundings
from llm_operator.problems import Check, Problem, first


def needed_claims(resource: LLMDeployment) -> tuple[str, ...]:
    """Names of the claims that a preparation needs to know."""
    recipe = resource.spec.weight_quantization
    text = recipe.calibration.text if recipe is not None else None
    calibration = text.persistent_volume_claim.claim_name if text and text.persistent_volume_claim else None
    names = (cache_claim(resource), source_claim(resource), calibration)
    return tuple(dict.fromkeys(name for name in names if name is not None))


@dataclass(frozen=True, slots=True)
class Needed:
    """A claim that an object needs.

    Attributes:
        resource: the object.
        name: the claim's.
        found: what is there; None: nothing.
        made: the claim that the operator makes under this name; None: it makes none.
    """

    resource: LLMDeployment
    name: str
    found: ClaimFacts | None
    made: JSON | None


def _going(of: Needed) -> Problem | None:
    found = of.found
    if found is None:
        return None
    if not found.deleting and not (of.made is not None and _is_of_an_earlier_life(of.resource, found)):
        return None
    text = f"PersistentVolumeClaim {of.name!r} is being deleted: waiting until it is gone"
    return Problem("ClaimTerminating", text, "Warning")


def _is_of_an_earlier_life(resource: LLMDeployment, claim: ClaimFacts) -> bool:
    """Whether a claim is that of an earlier object of the name: it goes with it, also before it says so."""
    if not claim.managed or claim.owner_uid in (None, resource.metadata.uid):
        return False
    return claim.owner in ("", f"{KIND} {resource.metadata.name!r}")


def _missing(of: Needed) -> Problem | None:
    if of.found is not None or of.made is not None:
        return None
    text = f"PersistentVolumeClaim {of.name!r} does not exist in this namespace: create it, or name another one"
    return Problem("ClaimMissing", text, "Warning")


def _foreign(of: Needed) -> Problem | None:
    """A claim of the name of the object's own that is somebody else's."""
    if of.found is None or of.made is None or not of.found.uid:
        return None
    if of.found.managed and of.found.owner_uid not in (None, of.resource.metadata.uid):
        text = (
            f"PersistentVolumeClaim {of.name!r} exists and belongs to {of.found.owner}: rename this object, or remove "
            "that claim's metadata.ownerReferences"
        )
        return Problem("NameConflict", text, "Error")
    if of.found.managed:
        return None
    text = (
        f"PersistentVolumeClaim {of.name!r} exists and was not made by this operator: name it in "
        "spec.cache.claimName to use it, or rename this object"
    )
    return Problem("NameConflict", text, "Error")


def _differs(of: Needed) -> Problem | None:
    cache = of.resource.spec.cache
    if of.found is None or of.made is None or cache is None:
        return None
    differs = mismatch(cache, of.found)
    return Problem("ClaimDiffers", differs, "Error") if differs is not None else None


OF_CLAIM: tuple[Check[Needed], ...] = (_going, _missing, _foreign, _differs)
"""Why a claim cannot be used, in the order in which it counts."""


def missing_claim(resource: LLMDeployment, observed: Surroundings) -> JSON | Problem | None:
    """The claim to be made, or what is wrong with one; None if all that are known can be used."""
    made = cache_volume_claim(resource)
    for name in needed_claims(resource):
        if name not in observed.claims:
            continue
        ours = made if made is not None and name == made["metadata"]["name"] else None
        needed = Needed(resource, name, observed.claims[name], ours)
        found = first(OF_CLAIM, needed)
        if found is not None or needed.found is None:
            return found or ours
    return None


def not_labelled(request: JobRequest) -> Problem | None:
    """Why a Job may not write to its claim: no one who may change the claim has said so, or that cannot be read."""
    claim = request.claim
    if request.artifact.stage == "inspect" or claim is None or claim.cache:
        return None
    if not claim.uid:
        text = (
            f"the operator may not read PersistentVolumeClaim {claim.name!r}, and so cannot see whether it may write "
            "to it: grant it get on persistentvolumeclaims"
        )
        return Problem("ReadRefused", text, "Warning")
    text = (
        f"PersistentVolumeClaim {claim.name!r} was not made by this operator, which so writes nothing to it: "
        f"kubectl label pvc {claim.name} {LABEL_CACHE}=true"
    )
    return Problem("ClaimNotLabelled", text, "Error")
