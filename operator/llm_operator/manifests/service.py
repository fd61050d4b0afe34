"""The Service in front of the engine's pods."""

from __future__ import annotations

from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.common import JSON, metadata, selector_labels

PORT = 80


def service(resource: LLMDeployment) -> JSON:
    """A ClusterIP Service on port 80; clients need not know which port an engine listens on."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(resource),
        "spec": {
            "type": "ClusterIP",
            "selector": selector_labels(resource),
            "ports": [{"name": "http", "port": PORT, "protocol": "TCP", "targetPort": "http"}],
        },
    }


def endpoint(resource: LLMDeployment) -> str:
    """Base URL of the OpenAI-compatible API inside the cluster."""
    return f"http://{resource.metadata.name}.{resource.metadata.namespace}.svc:{PORT}/v1"
