"""The NetworkPolicies of one object: who reaches its engine, its chat page and the Jobs of the model tools. Pure.

They are additive: a policy of somebody else that selects the same pods lets in more, never less. Whether they are
enforced is up to the cluster's network plugin. Traffic from a pod's own node, such as the kubelet's probes, always
gets through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.chat_page import page_name
from llm_operator.manifests.common import (
    JSON,
    LABEL_CHAT,
    LABEL_MANAGED_BY,
    MANAGER,
    metadata,
    selector_labels,
    with_spec_hash,
)
from llm_operator.manifests.tools import LABEL_STAGE
from llm_operator.settings import NetworkSettings, ToolSettings

JOBS_SUFFIX = ".jobs"
"""Ends the name of the Jobs' policy; no object's name holds a dot, so no engine has that name."""
NAMESPACE: JSON = {"podSelector": {}}
"""Every pod of the policy's own namespace."""


PolicyRole = Literal["engine", "chat", "jobs"]


def policies_of(
    resource: LLMDeployment, template: JSON | None, tools: ToolSettings, *, jobs: bool
) -> Mapping[PolicyRole, JSON | None]:
    """The policy of each role; None if there is to be none.

    Args:
        resource: the object.
        template: pod template of the engine; None while there is none: its policy then stays out of the answer.
        tools: the operator's settings.
        jobs: the object needs something that Jobs make.
    """
    network = tools.network
    found: dict[PolicyRole, JSON | None] = {
        "chat": page_policy(resource, network),
        "jobs": jobs_policy(resource) if network.enabled and tools.enabled and jobs else None,
    }
    if template is not None:
        found["engine"] = engine_policy(resource, template, network)
    return found


def engine_policy(resource: LLMDeployment, template: JSON, network: NetworkSettings) -> JSON | None:
    """Who reaches the engine's pods, on the ports that the template names."""
    if not network.enabled:
        return None
    page = [{"podSelector": {"matchLabels": {LABEL_CHAT: resource.metadata.name}}}] if resource.spec.web_ui else []
    return _policy(
        metadata(resource),
        {"matchLabels": selector_labels(resource)},
        [{"from": [*_peers(resource), *page, *network.peers], "ports": _ports(template)}],
    )


def page_policy(resource: LLMDeployment, network: NetworkSettings) -> JSON | None:
    """Who reaches the chat page's pods."""
    if not network.enabled or resource.spec.web_ui is None:
        return None
    label = {LABEL_CHAT: resource.metadata.name}
    meta = {**metadata(resource), "name": page_name(resource), "labels": {**label, LABEL_MANAGED_BY: MANAGER}}
    return _policy(
        meta,
        {"matchLabels": label},
        [{"from": [*_peers(resource), *network.peers], "ports": [{"port": "http", "protocol": "TCP"}]}],
    )


def jobs_policy(resource: LLMDeployment) -> JSON:
    """No one reaches the model tools' pods of the namespace: they listen on nothing, and run code of repositories.

    The Jobs belong to no single object, so each object that needs some has this policy for all of them.
    """
    meta = {**metadata(resource), "name": f"{resource.metadata.name}{JOBS_SUFFIX}"}
    selector = {
        "matchLabels": {LABEL_MANAGED_BY: MANAGER},
        "matchExpressions": [{"key": LABEL_STAGE, "operator": "Exists"}],
    }
    return _policy(meta, selector, [])


def _peers(resource: LLMDeployment) -> list[JSON]:
    given = resource.spec.network.from_
    if given is None:
        return [NAMESPACE]
    return [peer.to_peer() for peer in given]


def _ports(template: JSON) -> list[JSON]:
    """The declared ports of the pod's containers, by name if they have one: pods of two engines may share a roll."""
    spec = template["spec"]
    sidecars = [one for one in spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    ports = [
        {"port": port.get("name") or port["containerPort"], "protocol": port.get("protocol", "TCP")}
        for container in [*spec["containers"], *sidecars]
        for port in container.get("ports") or []
    ]
    return [port for place, port in enumerate(ports) if port not in ports[:place]]


def _policy(meta: JSON, selector: JSON, ingress: Sequence[JSON]) -> JSON:
    spec: JSON = {"podSelector": selector, "policyTypes": ["Ingress"]}
    if ingress:
        spec["ingress"] = list(ingress)
    return with_spec_hash(
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
    )
