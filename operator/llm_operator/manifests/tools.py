"""The model tools' container: what Jobs and init containers share. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from llm_operator.api.resource import LLMDeployment
from llm_operator.engines.common import secret_variable
from llm_operator.manifests.common import JSON

CONTAINER = "tool"
USER = 65532
"""User and group of the model tools; what they write can be read by any user."""


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """What the operator was told about its tools.

    Attributes:
        image: image of the model tools; empty: engines fetch their models themselves, nothing is cached or inspected.
        quantize_image: image with `lmdeploy lite` and the datasets package.
        pull_policy: imagePullPolicy of both.
        environment: variables handed on to the tools: the hub's endpoint and proxies.
        stall_seconds: without a byte for so long, a download is begun again.
        inspect: read config.json of models on claims and in images by a Job, so that they can be planned.
        retention_seconds: a cached model that no object asks for is removed after so long; 0: it is kept.
    """

    image: str = ""
    quantize_image: str = ""
    pull_policy: str = "IfNotPresent"
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    stall_seconds: int = 60
    inspect: bool = True
    retention_seconds: int = 0

    @property
    def enabled(self) -> bool:
        """Whether there are tools at all."""
        return bool(self.image)


def variables(tools: ToolSettings) -> list[JSON]:
    """Environment of every tool: everything that is written goes to the pod's own volume."""
    own = {"HOME": "/tmp", "HF_HOME": "/tmp/huggingface", "MODELSCOPE_CACHE": "/tmp/modelscope"}  # noqa: S108
    return [{"name": name, "value": value} for name, value in {**own, **tools.environment}.items()]


def token_variables(resource: LLMDeployment) -> list[JSON]:
    """The hub's token, by reference."""
    model = resource.spec.model
    if model.credentials is None:
        return []
    name = "HF_TOKEN" if model.hugging_face is not None else "MODELSCOPE_API_TOKEN"
    return [secret_variable(name, model.credentials)]


def tool_container(resource: LLMDeployment, tools: ToolSettings, arguments: Sequence[str]) -> JSON:
    """A container of the model tools without its mounts."""
    return {
        "name": CONTAINER,
        "image": tools.image,
        "imagePullPolicy": tools.pull_policy,
        "args": list(arguments),
        "env": [*variables(tools), *token_variables(resource)],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}},
        # What the tool says at its end; where it was killed before, its last lines.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": USER,
        },
    }
