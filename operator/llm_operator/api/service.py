"""`spec.service` and `webUI.service`: how the Services are reached."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from llm_operator.api.base import WHOLE, ApiModel, LabelValue, QualifiedName, Rule, without_nulls
from llm_operator.api.overlay_owned import PREFIX, RECOMMENDED

Port = Annotated[int, Field(ge=1, le=65_535), WHOLE]
Labels = Annotated[dict[QualifiedName, LabelValue], Field(max_length=32), BeforeValidator(without_nulls)]
AnnotationValue = Annotated[str, Field(max_length=4096)]
Annotations = Annotated[dict[QualifiedName, AnnotationValue], Field(max_length=32), BeforeValidator(without_nulls)]
_RESERVED = ", ".join(f"'{key}'" for key in RECOMMENDED)
_OWN = "the operator sets the recommended app.kubernetes.io labels and all of llm-operator.dev/: choose another key"


def _free(pairs: dict[str, str], reserved: tuple[str, ...]) -> bool:
    return not any(key.startswith(PREFIX) or key in reserved for key in pairs)


class ServiceSettings(ApiModel):
    """One Service. What it selects is the operator's."""

    RULES = (
        Rule(
            "!has(self.clusterIP) || !has(self.type) || self.type == 'ClusterIP'",
            "clusterIP None makes a headless Service, which only type ClusterIP can be: remove type or clusterIP",
            lambda service: service.cluster_ip is None or service.type == "ClusterIP",
            ".clusterIP",
        ),
        Rule(
            "!has(self.clusterIP) || !has(self.port)",
            "clients of a headless Service reach the pods' own port: remove port or clusterIP",
            lambda service: service.cluster_ip is None or service.port is None,
            ".port",
        ),
        Rule(
            f"!has(self.labels) || self.labels.all(key, !key.startsWith('{PREFIX}') && !(key in [{_RESERVED}]))",
            _OWN,
            lambda service: _free(service.labels, RECOMMENDED),
            ".labels",
        ),
        Rule(
            f"!has(self.annotations) || self.annotations.all(key, !key.startsWith('{PREFIX}'))",
            _OWN,
            lambda service: _free(service.annotations, ()),
            ".annotations",
        ),
    )

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        default="ClusterIP", description="ClusterIP, NodePort or LoadBalancer."
    )
    port: Port | None = Field(default=None, description="Port of the Service. Default: 80.")
    cluster_ip: Literal["None"] | None = Field(
        default=None, alias="clusterIP", description="None: headless, DNS gives the pods' addresses."
    )
    traffic_distribution: Literal["PreferClose", "PreferSameZone", "PreferSameNode"] | None = Field(
        default=None, description="Which pods receive traffic first. Default: all equally."
    )
    labels: Labels = Field(default_factory=dict, description="Additional labels of the Service.")
    annotations: Annotations = Field(default_factory=dict, description="Additional annotations of the Service.")
