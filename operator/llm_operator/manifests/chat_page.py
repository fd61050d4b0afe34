"""The chat page's Deployment and Service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_operator import __version__
from llm_operator.api.resource import LLMDeployment
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.api.web import WebUI
from llm_operator.engines.interface import Engine
from llm_operator.engines.registry import ENGINES
from llm_operator.foreign import natural_number
from llm_operator.manifests.common import (
    JSON,
    LABEL_CHAT,
    LABEL_MANAGED_BY,
    LABEL_VERSION,
    MANAGER,
    PAGE_PORT,
    PART_OF,
    carried_annotations,
    container_of,
    metadata,
    with_spec_hash,
)
from llm_operator.manifests.overlay import merged
from llm_operator.manifests.pod import CONTAINER as ENGINE
from llm_operator.manifests.restart import restart_of, with_restart
from llm_operator.manifests.service import PORT, endpoint, service_of, service_port
from llm_operator.settings import ToolSettings

ROLE = "chat"
CONTAINER = "chat"
# The server's Python and gradio take 140 MiB; conversations live in the browsers.
REQUESTS = {"cpu": "100m", "memory": "256Mi"}
LIMITS = {"memory": "1Gi"}


def chat_page(
    resource: LLMDeployment, page: WebUI, template: JSON, engine: Mapping[str, Any], tools: ToolSettings
) -> list[JSON]:
    """Deployment and Service of the page of one object.

    Args:
        resource: the object.
        page: its `webUI`.
        template: the pod template of the engine that the page stands in front of.
        engine: type, version and backend of that engine, according to its template.
        tools: the operator's settings, with the page's image.
    """
    return [_deployment(resource, page, template, engine, tools), _service(resource, page)]


def page_endpoint(resource: LLMDeployment) -> str:
    """URL of the page inside the cluster."""
    page = resource.spec.web_ui
    port = service_port(page.service, PAGE_PORT) if page is not None else PORT
    return f"http://{page_name(resource)}.{resource.metadata.namespace}.svc:{port}/"


def page_name(resource: LLMDeployment) -> str:
    """Name of the page's Deployment and Service."""
    return f"{resource.metadata.name}-{ROLE}"


def page_replicas(spec: LLMDeploymentSpec) -> int:
    """Pods of the page: none while there is no engine to talk to."""
    return spec.web_ui.replicas if spec.web_ui is not None and spec.replicas > 0 else 0


def _selector(resource: LLMDeployment) -> dict[str, str]:
    # Not the engine's: its Deployment and its Service would take the page's pods for their own.
    return {LABEL_CHAT: resource.metadata.name}


def _labels(resource: LLMDeployment) -> dict[str, str]:
    """Of the pods too: one more would replace the pages of all objects at an upgrade of the operator."""
    return {
        **resource.carried.labels,
        **_selector(resource),
        LABEL_MANAGED_BY: MANAGER,
        "app.kubernetes.io/name": "llm-chat",
        "app.kubernetes.io/instance": resource.metadata.name,
        "app.kubernetes.io/component": ROLE,
    }


def _metadata(resource: LLMDeployment) -> JSON:
    labels = {**_labels(resource), "app.kubernetes.io/part-of": PART_OF}
    if resource.spec.web_ui is not None and resource.spec.web_ui.image is None:
        labels[LABEL_VERSION] = __version__
    return {**metadata(resource), "name": page_name(resource), "labels": labels}


def _pod_metadata(resource: LLMDeployment) -> JSON:
    annotations = carried_annotations(resource)
    return {"labels": _labels(resource), **({"annotations": annotations} if annotations else {})}


def _service(resource: LLMDeployment, page: WebUI) -> JSON:
    return service_of(_metadata(resource), _selector(resource), page.service, PAGE_PORT)


def _deployment(
    resource: LLMDeployment, page: WebUI, template: JSON, engine: Mapping[str, Any], tools: ToolSettings
) -> JSON:
    pod: JSON = {
        "containers": [_container(resource, page, template, engine, tools)],
        # The root file system is read-only; gradio wants a folder for temporary files.
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 10,
        # No user: the image names one, and platforms that assign users may choose another.
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    if resource.spec.image_pull_secrets:
        pod["imagePullSecrets"] = [secret.to_json() for secret in resource.spec.image_pull_secrets]
    pods = merged({"metadata": _pod_metadata(resource), "spec": pod}, page.pod_template)
    body: JSON = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(resource),
        "spec": {
            "replicas": page_replicas(resource.spec),
            "selector": {"matchLabels": _selector(resource)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "revisionHistoryLimit": 1,
            # A Secret that both read is read anew by both.
            "template": with_restart(pods, restart_of(template)),
        },
    }
    return with_spec_hash(body)


def _container(
    resource: LLMDeployment, page: WebUI, template: JSON, engine: Mapping[str, Any], tools: ToolSettings
) -> JSON:
    variables = [
        {"name": name, "valueFrom": {"secretKeyRef": reference.to_json()}}
        for name, reference in (("OPENAI_API_KEY", resource.spec.engine.api_key), ("CHAT_PAGE_PASSWORD", page.password))
        if reference is not None
    ]
    probe = {"httpGet": {"path": "/readyz", "port": "http"}, "timeoutSeconds": 5}
    return {
        "name": CONTAINER,
        "image": page.image or tools.web_image,
        "imagePullPolicy": tools.web_pull_policy,
        "args": _arguments(resource, page, template, engine),
        "env": variables,
        "ports": [{"name": "http", "containerPort": PAGE_PORT, "protocol": "TCP"}],
        "startupProbe": {**probe, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**probe, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**probe, "periodSeconds": 15, "failureThreshold": 4},
        "resources": {
            "requests": page.resources.requests or (REQUESTS if page.resources.limits is None else {}),
            "limits": page.resources.limits or LIMITS,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the path that Python and gradio write to
    }


def _arguments(resource: LLMDeployment, page: WebUI, template: JSON, engine: Mapping[str, Any]) -> list[str]:
    spec = resource.spec
    backend = f", {engine['backend']}" if engine.get("backend") else ""
    row = ENGINES.get(engine["type"])
    said = {
        "--api": endpoint(resource),
        "--model": spec.model.names(resource.metadata.name)[0],
        "--engine": f"{row.title if row else engine['type']} {engine['version']}{backend}",
        "--kv-cache": "16-bit" if spec.kv_cache.quantization == "None" else spec.kv_cache.quantization,
        "--context": _context(container_of(template, ENGINE).get("args") or [], row),
        "--user-name": page.user_name if page.password is not None else None,
    }
    # One word each: a value that begins with a dash stays a value.
    return [f"{flag}={value}" for flag, value in said.items() if value]


def _context(arguments: Sequence[str], row: Engine | None) -> str | None:
    """The context length that the engine is started with; None if it chooses itself."""
    for position, word in enumerate(arguments):
        flag, assigned, value = word.partition("=")
        if row is not None and flag == row.context_option:
            text = value if assigned else next(iter(arguments[position + 1 : position + 2]), "")
            return text if natural_number(text) else None
    return None
