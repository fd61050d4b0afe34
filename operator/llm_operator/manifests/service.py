"""The Services in front of the engine's pods and of the chat page."""

from __future__ import annotations

from collections.abc import Mapping

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.service import ServiceSettings
from llm_operator.engines import engine_of
from llm_operator.manifests.common import JSON, compact_json, metadata, selector_labels

PORT = 80
"""Of a Service whose settings name none: clients need not know which port an engine listens on."""
ANNOTATION_SERVICE = "llm-operator.dev/service-settings"
"""On a Service: what its settings have given it, so that what they no longer give is taken away."""


def service(resource: LLMDeployment) -> JSON:
    """The engine's Service."""
    port = engine_of(resource.spec.engine.type).port
    return service_of(metadata(resource), selector_labels(resource), resource.spec.service, port)


def service_of(meta: JSON, selector: Mapping[str, str], settings: ServiceSettings, pod_port: int) -> JSON:
    """A Service with its settings.

    Args:
        meta: name, namespace, labels and owner.
        selector: labels of the pods.
        settings: the user's.
        pod_port: port of the pods, which clients of a headless Service reach.
    """
    port = {"name": "http", "port": service_port(settings, pod_port), "protocol": "TCP", "targetPort": "http"}
    given = {"clusterIP": settings.cluster_ip, "trafficDistribution": settings.traffic_distribution}
    spec = {name: value for name, value in given.items() if value is not None}
    names = {"labels": sorted(settings.labels), "annotations": sorted(settings.annotations), "spec": sorted(spec)}
    annotations = {**meta.get("annotations", {}), **settings.annotations}
    if any(names.values()):
        annotations[ANNOTATION_SERVICE] = compact_json(names)
    if settings.labels or annotations:
        meta = {**meta, "labels": {**meta["labels"], **settings.labels}}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**meta, "annotations": annotations} if annotations else meta,
        "spec": {"type": settings.type, "selector": dict(selector), "ports": [port], **spec},
    }


def service_port(settings: ServiceSettings, pod_port: int) -> int:
    """The port that clients connect to."""
    return pod_port if settings.cluster_ip is not None else settings.port or PORT


def endpoint(resource: LLMDeployment) -> str:
    """Base URL of the OpenAI-compatible API inside the cluster."""
    port = service_port(resource.spec.service, engine_of(resource.spec.engine.type).port)
    return f"http://{resource.metadata.name}.{resource.metadata.namespace}.svc:{port}/v1"
