"""The PodDisruptionBudget of a deployment with several replicas."""

from __future__ import annotations

from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.common import JSON, metadata, selector_labels


def pod_disruption_budget(resource: LLMDeployment) -> JSON | None:
    """A budget that lets one replica go at a time; None below two replicas, where it would block every drain."""
    if resource.spec.replicas < 2:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(resource),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector_labels(resource)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
