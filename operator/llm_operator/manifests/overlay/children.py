"""The pod templates of all children with the user's overlay."""

from __future__ import annotations

from llm_operator.manifests.common import JSON
from llm_operator.manifests.overlay.merge import merge

SPREAD = "topologySpreadConstraints"
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def merged(template: JSON, given: JSON | None) -> JSON:
    """A child's pod template with the overlay; the same object without one.

    The overlay has passed `check_overlays`. What the merge rules replace as a whole and the operator needs is kept:
    the term that places the pods of a ReadWriteOnce claim on one node.

    Args:
        template: as the operator makes it.
        given: `podTemplate` of the object.
    """
    if not given:
        return template
    spec = template["spec"]
    if (given.get("spec") or {}).get(SPREAD):
        # The operator's constraint is a default, not a part that it needs.
        spec = {name: value for name, value in spec.items() if name != SPREAD}
    result = merge({**template, "spec": spec}, given)
    terms = _together(spec)
    if terms:
        affinity = result["spec"].get("affinity") or {}
        pods = affinity.get("podAffinity") or {}
        others = [term for term in pods.get(REQUIRED) or [] if term not in terms]
        result["spec"]["affinity"] = {**affinity, "podAffinity": {**pods, REQUIRED: [*terms, *others]}}
    return _with_default_container(result, spec["containers"][0]["name"])


def _with_default_container(template: JSON, name: str) -> JSON:
    """`kubectl logs` and `kubectl exec` take the first container, and the overlay's stand before the operator's."""
    if template["spec"]["containers"][0]["name"] == name:
        return template
    metadata = template["metadata"]
    annotations = {DEFAULT_CONTAINER: name, **(metadata.get("annotations") or {})}
    return {**template, "metadata": {**metadata, "annotations": annotations}}


def _together(spec: JSON) -> list[JSON]:
    terms: list[JSON] = ((spec.get("affinity") or {}).get("podAffinity") or {}).get(REQUIRED) or []
    return terms
