"""The model tools' container: what Jobs and init containers share. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_operator.api.model import ModelSpec
from llm_operator.engines.common import token_variables
from llm_operator.manifests.common import JSON
from llm_operator.settings import ToolSettings

CONTAINER = "tool"
LABEL_STAGE = "llm-operator.dev/stage"
"""On the Jobs of the model tools and their pods."""


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
        # What the tool says at its end; if it was killed before, its last lines.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            **({} if tools.user is None else {"runAsUser": tools.user}),
        },
    }


def tool_container(model: ModelSpec, tools: ToolSettings, arguments: Sequence[str]) -> JSON:
    """A container of the model tools that may ask the hub, without its mounts."""
    return {
        **restricted_container(tools, arguments),
        "env": [*variables(tools), *token_variables(model)],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}},
    }
