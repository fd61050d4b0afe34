"""`spec.network`: who may reach the pods, in the words of a NetworkPolicy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from llm_operator.api.base import ApiModel, LabelValue, QualifiedName, Rule, without_nulls

AddressRange = Annotated[str, Field(min_length=3, max_length=43, pattern=r"^[0-9a-fA-F.:]{2,39}/[0-9]{1,3}$")]
"""An address with a prefix length; whether it is one the API server says, of the NetworkPolicy."""


class LabelExpression(ApiModel):
    """One requirement on labels."""

    RULES = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "operators In and NotIn need values, Exists and DoesNotExist take none",
            lambda entry: (entry.operator in ("In", "NotIn")) == bool(entry.values),
            ".values",
        ),
    )

    key: QualifiedName = Field(description="Key of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How the values are compared.")
    values: Annotated[list[LabelValue], Field(max_length=16)] = Field(
        default_factory=list,
        description="Values, with In and NotIn.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class LabelSelector(ApiModel):
    """What has these labels; an empty selector selects everything."""

    match_labels: Annotated[dict[QualifiedName, LabelValue], Field(max_length=16), BeforeValidator(without_nulls)] = (
        Field(default_factory=dict, description="Labels with their values.")
    )
    match_expressions: Annotated[list[LabelExpression], Field(max_length=8)] = Field(
        default_factory=list,
        description="Additional requirements.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class AddressBlock(ApiModel):
    """A range of addresses outside of the cluster's pods."""

    cidr: AddressRange = Field(description="Such as 10.0.0.0/8.")
    except_: Annotated[list[AddressRange], Field(max_length=16)] = Field(
        default_factory=list,
        alias="except",
        description="Ranges inside of it that are left out.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class NetworkPeer(ApiModel):
    """Pods, namespaces or addresses, as in a NetworkPolicy."""

    RULES = (
        Rule(
            "has(self.ipBlock) != (has(self.podSelector) || has(self.namespaceSelector))",
            "give ipBlock, or podSelector and namespaceSelector, one of them or both",
            lambda peer: (
                (peer.ip_block is not None) != (peer.pod_selector is not None or peer.namespace_selector is not None)
            ),
        ),
    )

    pod_selector: LabelSelector | None = Field(
        default=None, description="Pods, in this object's namespace unless namespaceSelector is given."
    )
    namespace_selector: LabelSelector | None = Field(
        default=None, description="Namespaces; all their pods unless podSelector is given."
    )
    ip_block: AddressBlock | None = Field(default=None, description="Addresses outside of the cluster's pods.")

    def to_peer(self) -> dict[str, Any]:
        """The peer as JSON of networking.k8s.io/v1 NetworkPolicyPeer, without what is empty anyway."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


class NetworkSpec(ApiModel):
    """Who may reach the engine and its chat page."""

    from_: Annotated[list[NetworkPeer], Field(min_length=1, max_length=16)] | None = Field(
        default=None,
        alias="from",
        description="Peers that may reach the pods, in addition to the operator and the chart's scrapers. Default: the "
        "pods of this namespace.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
