"""The operator's settings, as the chart and the command line give them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from llm_operator.api.base import ConfigMapKeyReference
from llm_operator.api.propagation import NO_PROPAGATION, Propagation

JSON = dict[str, Any]

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
