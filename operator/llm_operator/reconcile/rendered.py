"""What runs, as it was rendered: template, inputs and prepared model. Pure."""

from __future__ import annotations

from llm_operator.api.propagation import NO_PROPAGATION, Propagation
from llm_operator.api.resource import LLMDeployment
from llm_operator.foreign import read_json, read_object
from llm_operator.live.children import Child
from llm_operator.manifests.common import (
    ANNOTATION_MODEL,
    ANNOTATION_PROPAGATES,
    JSON,
    LABEL_INPUTS,
    inputs_hash,
)
from llm_operator.manifests.model_volume import Prepared
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.revisions import Kept
from llm_operator.reconcile.running import kept_of


def kept_rendering(resource: LLMDeployment, observed: Observed) -> Kept | None:
    """What runs, if it was rendered from the same inputs; else None.

    A newer operator may render the same inputs differently. It must not: that would restart engines without a reason
    in their own spec.
    """
    child = observed.workload
    kept = kept_of(observed) if child is not None and owns(resource, child) else None
    if kept is None:
        return None
    # With the list of that time: another list of what is handed on is not a reason in the object itself.
    said = resource.handing_on(_propagation_of(kept.template))
    return kept if kept.template["metadata"]["labels"][LABEL_INPUTS] == inputs_hash(said) else None


def expected_inputs(resource: LLMDeployment, observed: Observed) -> str:
    """The hash of inputs of the pods that should run."""
    kept = kept_rendering(resource, observed)
    label: str = kept.template["metadata"]["labels"][LABEL_INPUTS] if kept else inputs_hash(resource)
    return label


def _propagation_of(template: JSON) -> Propagation:
    """The list of what is handed on that a template was rendered with."""
    text = (template["metadata"].get("annotations") or {}).get(ANNOTATION_PROPAGATES)
    if not text:
        return NO_PROPAGATION
    found = read_object(text)
    lists = (found.get(name) for name in ("labels", "annotations"))
    return Propagation(*(tuple(map(str, names)) if isinstance(names, list) else () for names in lists))


def applied_template(resource: LLMDeployment, observed: Observed) -> JSON | None:
    """The pod template as it was applied last; None if nothing says."""
    child = observed.workload
    kept = kept_of(observed) if child is not None and owns(resource, child) else None
    return kept.template if kept is not None else None


def prepared_of(template: JSON | None) -> Prepared | None:
    """The prepared model that a pod template mounts; None if nothing was prepared for it."""
    if template is None:
        return None
    try:
        text = template["metadata"].get("annotations", {}).get(ANNOTATION_MODEL)
        return Prepared.from_json(read_json(text)) if text else None
    except (ValueError, TypeError, AttributeError):
        return None


def owns(resource: LLMDeployment, child: Child) -> bool:
    """Whether a child is this object's, and not that of an earlier object of its name."""
    return child.owner_uid == resource.metadata.uid
