"""What every type of the resource shares: strictness, JSON names, bounded scalars and references."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from llm_operator.api.quantity import parse_quantity

# The cap that Kubernetes itself puts on most names (RFC 1123 subdomain).
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
QUANTITY_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"


def cel(rule: str, message: str, field_path: str | None = None) -> dict[str, str]:
    """One CEL rule of the CRD: what must hold of `self`, and what to tell the user when it does not."""
    entry = {"rule": rule, "message": message}
    if field_path is not None:
        entry["fieldPath"] = field_path
    return entry


def rules(*entries: dict[str, str]) -> dict[str, Any]:
    """The `json_schema_extra` that carries CEL rules into the generated schema."""
    return {"x-kubernetes-validations": list(entries)}


class ApiModel(BaseModel):
    """A part of the resource: immutable, camelCase in JSON, no coercion, unknown fields ignored as the API server prunes them."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        frozen=True,
        strict=True,
        extra="ignore",
    )

    def to_json(self) -> dict[str, Any]:
        """The JSON object with camelCase names; absent fields are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _positive_quantity(text: str) -> str:
    if parse_quantity(text) <= 0:
        raise ValueError(f"must be greater than 0, got {text!r}")
    return text


Name = Annotated[str, Field(min_length=1, max_length=253, pattern=NAME_PATTERN)]
ShortText = Annotated[str, Field(min_length=1, max_length=256)]
Quantity = Annotated[str, Field(min_length=1, max_length=32, pattern=QUANTITY_PATTERN)]
"""A Kubernetes quantity without sign or exponent: `48Gi`, `500m`, `2`."""
PositiveQuantity = Annotated[
    Quantity,
    AfterValidator(_positive_quantity),
    Field(
        json_schema_extra=rules(
            cel("quantity(self).isGreaterThan(quantity('0'))", "must be greater than 0, such as 48Gi")
        )
    ),
]


class SecretKeyReference(ApiModel):
    """A key of a Secret in the object's own namespace. The operator never reads it; the kubelet hands it to the pod."""

    name: Name = Field(description="Name of the Secret, in the namespace of this object.")
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] = Field(
        description="Key inside the Secret."
    )
