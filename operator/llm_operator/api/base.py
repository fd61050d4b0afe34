"""What every type of the resource shares: strictness, JSON names, rules across fields, bounded scalars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from llm_operator.api.quantity import parse_quantity

# Only syntax that means the same to Go's RE2 (API server, CEL) and to Rust's regex (pydantic): no \s, \d, \w (ASCII in
# one, Unicode in the other), no flags. `$` is the end of the text in both, never before a last newline.
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
NAME_PATTERN = rf"^{_SUBDOMAIN}$"
"""A Kubernetes name: RFC 1123 subdomain; the length (253) is bounded beside it."""
QUANTITY_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,3})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold across fields, said once for each judge: in CEL for the API server, in Python for pydantic.

    Attributes:
        expression: CEL over `self`; true when the rule holds.
        message: what to tell the user when it does not: what is wrong and what to do.
        holds: the same as `expression` over the validated model (or scalar).
        field: JSON path below `self` that the message is about, such as `.memory`.
    """

    expression: str
    message: str
    holds: Callable[[Any], bool]
    field: str | None = None

    def to_json(self) -> dict[str, str]:
        """The entry of x-kubernetes-validations."""
        path = {} if self.field is None else {"fieldPath": self.field}
        return {"rule": self.expression, "message": self.message, **path}

    def location(self) -> tuple[str, ...]:
        """The JSON path below `self` as pydantic's error location."""
        return tuple(self.field.strip(".").split(".")) if self.field else ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As metadata of an annotated scalar: checked after the scalar's own bounds."""

        def check(value: Any) -> Any:
            if not self.holds(value):
                raise PydanticCustomError("rule", "{message}", {"message": self.message})
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As metadata of an annotated scalar: one more entry of its validations."""
        return {**(json := handler(schema)), VALIDATIONS: [*json.get(VALIDATIONS, []), self.to_json()]}


VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class KeyedBy:
    """Metadata of a list whose entries are identified by one field: no two may share a value (listType=map).

    Attributes:
        key: JSON name of the field, the same as its Python name.
    """

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Checked after the entries themselves."""
        return core_schema.no_info_after_validator_function(self._distinct, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The list type that makes the API server check it and merge by it in server-side apply."""
        return {**handler(schema), "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}

    def _distinct(self, entries: list[Any]) -> list[Any]:
        seen: set[str] = set()
        for entry in entries:
            value = getattr(entry, self.key)
            if value in seen:
                raise PydanticCustomError(
                    "duplicate", "two entries have {key} {value}", {"key": self.key, "value": repr(value)}
                )
            seen.add(value)
        return entries


def without_nulls(value: Any) -> Any:
    """A mapping without its null entries: the API server drops them before it defaults and validates."""
    if isinstance(value, dict) and None in value.values():
        return {key: entry for key, entry in value.items() if entry is not None}
    return value


def whole_number(value: Any) -> Any:
    """`3.0` as `3`: JSON has one kind of number, and the API server takes a whole one as an integer."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


class ApiModel(BaseModel):
    """A part of the resource: immutable, camelCase in JSON, no coercion.

    Unknown fields are ignored and nulls are absent, as the API server prunes both.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        frozen=True,
        strict=True,
        extra="ignore",
        allow_inf_nan=False,
    )

    RULES: ClassVar[tuple[Rule, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON object with camelCase names; absent fields are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @model_validator(mode="before")
    @classmethod
    def _nulls_are_absent(cls, data: Any) -> Any:
        return without_nulls(data)

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        broken = [rule for rule in self.RULES if not rule.holds(self)] if self.RULES else None
        if broken:
            raise ValidationError.from_exception_data(
                type(self).__name__,
                [
                    InitErrorDetails(
                        type=PydanticCustomError("rule", "{message}", {"message": rule.message}),
                        loc=rule.location(),
                        input=self,
                    )
                    for rule in broken
                ],
            )
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """The schema with the rules, and with the defaults that pydantic leaves out because a factory makes them."""
        reference = handler(schema)
        target = handler.resolve_ref_schema(reference)
        if cls.RULES:
            target[VALIDATIONS] = [rule.to_json() for rule in cls.RULES]
        for name, field in cls.model_fields.items():
            if field.default_factory is None:
                continue
            value = field.get_default(call_default_factory=True, validated_data={})
            # An empty object lets the API server fill in the parts' own defaults.
            target["properties"][field.alias or name]["default"] = {} if isinstance(value, ApiModel) else value
        return reference


WHOLE = BeforeValidator(whole_number)
"""Metadata of every integer, after its bounds: takes the numbers that the API server takes."""
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=NAME_PATTERN)]
ShortText = Annotated[str, Field(min_length=1, max_length=256)]
DataKey = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^([-_a-zA-Z0-9]|\.[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$")
]
"""A key of a Secret or ConfigMap."""
QualifiedName = Annotated[str, Field(min_length=1, max_length=317, pattern=rf"^({_SUBDOMAIN}/)?{_LABEL_NAME}$")]
"""A label's or taint's key: an optional DNS prefix and a name of at most 63 characters."""
ExtendedResource = Annotated[str, Field(min_length=3, max_length=317, pattern=rf"^{_SUBDOMAIN}/{_LABEL_NAME}$")]
"""A resource that a device plugin offers; always with a DNS prefix."""
LabelValue = Annotated[str, Field(max_length=63, pattern=rf"^({_LABEL_NAME})?$")]
Quantity = Annotated[str, Field(min_length=1, max_length=32, pattern=QUANTITY_PATTERN)]
"""A Kubernetes quantity without sign or exponent: `48Gi`, `500m`, `2`."""
PositiveQuantity = Annotated[
    Quantity,
    Rule(
        "quantity(self).isGreaterThan(quantity('0'))",
        "must be greater than 0, such as 48Gi",
        lambda text: parse_quantity(text) > 0,
    ),
]


class ConfigMapKeyReference(ApiModel):
    """A key of a ConfigMap in the object's own namespace. The operator never reads it; the kubelet mounts it."""

    name: Name = Field(description="Name of the ConfigMap, in the namespace of this object.")
    key: DataKey = Field(description="Key inside the ConfigMap.")


class SecretKeyReference(ApiModel):
    """A key of a Secret in the object's own namespace. The operator never reads it; the kubelet hands it to the pod."""

    name: Name = Field(description="Name of the Secret, in the namespace of this object.")
    key: DataKey = Field(description="Key inside the Secret.")
