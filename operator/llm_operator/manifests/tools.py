"""The model tools' container: what Jobs and init containers share. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from llm_operator.api.base import ConfigMapKeyReference
from llm_operator.api.propagation import NO_PROPAGATION, Propagation
from llm_operator.api.resource import LLMDeployment
from llm_operator.engines.common import token_variables
from llm_operator.manifests.common import JSON

CONTAINER = "tool"
USER = 65532
"""User and group of the pods, unless the operator is configured otherwise; what they write can be read by any user."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The operator's settings for the NetworkPolicies of objects.

    Attributes:
        enabled: the operator makes them; where not, those that it made are removed.
        peers: who reaches every engine and page, whatever an object says; NetworkPolicyPeers.
    """

    enabled: bool = False
    peers: tuple[JSON, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """The operator's settings for its tools.

    Attributes:
        image: image of the model tools; empty: engines fetch their models themselves, nothing is cached or inspected.
        quantize_image: image with `lmdeploy lite` and the datasets package.
        pull_policy: imagePullPolicy of both.
        environment: variables handed on to the tools: the hub's endpoint and proxies.
        stall_seconds: a download without data for this long is resumed.
        inspect: read config.json of models on claims and in images by a Job, so that they can be planned.
        retention_seconds: an unused cached model is removed after this time; 0: it is kept.
        verify_seconds: interval at which a cached model is read and compared with its hashes; 0: never.
        web_image: image of the chat page; empty: an object's page names its own.
        web_pull_policy: imagePullPolicy of the chat page.
        network: the NetworkPolicies of objects.
        home: the operator's own namespace, where it serves others too: objects there are refused; else empty.
        user: user and group id of engines and model tools; None: the platform or the image says it (OpenShift).
        ca_bundle: certificates that the tools trust beside the public roots, in a ConfigMap of each namespace.
        proxy_secret: Secret of each namespace whose keys are the proxy variables; empty: none.
        propagation: labels and annotations of an object that are handed on to what is made for it.
    """

    image: str = ""
    quantize_image: str = ""
    pull_policy: str = "IfNotPresent"
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    stall_seconds: int = 60
    inspect: bool = True
    retention_seconds: int = 0
    verify_seconds: int = 0
    web_image: str = ""
    web_pull_policy: str = "IfNotPresent"
    network: NetworkSettings = field(default_factory=NetworkSettings)
    home: str = ""
    user: int | None = USER
    propagation: Propagation = NO_PROPAGATION
    ca_bundle: ConfigMapKeyReference | None = None
    proxy_secret: str = ""

    @property
    def enabled(self) -> bool:
        """Whether there are tools at all."""
        return bool(self.image)


def variables(tools: ToolSettings) -> list[JSON]:
    """Environment of every tool: everything that is written goes to the pod's own volume."""
    proxy = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": tools.proxy_secret, "key": name, **optional}}}
        for name, optional in _PROXY.items()
        if tools.proxy_secret
    ]
    own = {"HOME": "/tmp", "HF_HOME": "/tmp/huggingface", "MODELSCOPE_CACHE": "/tmp/modelscope"}  # noqa: S108
    plain = {name: value for name, value in tools.environment.items() if not (tools.proxy_secret and name in _PROXY)}
    return [*({"name": name, "value": value} for name, value in {**own, **plain}.items()), *proxy]


PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
# Hubs speak HTTPS: a Secret without that key is none of a proxy, and the pod says so.
_PROXY: Mapping[str, Mapping[str, bool]] = {
    name: {} if name == "HTTPS_PROXY" else {"optional": True} for name in PROXY_VARIABLES
}


SECCOMP: JSON = {"seccompProfile": {"type": "RuntimeDefault"}}


def user_ids(tools: ToolSettings) -> JSON:
    """User and group of a pod's security context; empty if the platform chooses them."""
    return {} if tools.user is None else {"runAsUser": tools.user, "runAsGroup": tools.user}


def pod_security(tools: ToolSettings, *, writes: bool) -> JSON:
    """Security context of the tools' own pods.

    Args:
        tools: the operator's settings.
        writes: they fill a claim that may be given to their group.
    """
    group: JSON = {}
    if writes and tools.user is not None:
        # A volume of terabytes is not walked through at every mount.
        group = {"fsGroup": tools.user, "fsGroupChangePolicy": "OnRootMismatch"}
    return {"runAsNonRoot": True, **user_ids(tools), **group, **SECCOMP}


def restricted_container(tools: ToolSettings, arguments: Sequence[str]) -> JSON:
    """A container of the model tools without environment, resources and mounts."""
    return {
        "name": CONTAINER,
        "image": tools.image,
        "imagePullPolicy": tools.pull_policy,
        "args": list(arguments),
        # What the tool says at its end; where it was killed before, its last lines.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            **({} if tools.user is None else {"runAsUser": tools.user}),
        },
    }


def tool_container(resource: LLMDeployment, tools: ToolSettings, arguments: Sequence[str]) -> JSON:
    """A container of the model tools that may ask the hub, without its mounts."""
    return {
        **restricted_container(tools, arguments),
        "env": [*variables(tools), *token_variables(resource.spec.model)],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}},
    }
