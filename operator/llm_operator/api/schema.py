"""Pydantic's JSON schema as the structural schema of a CustomResourceDefinition.

Whatever has no structural form, and whatever would make the API server's CEL cost unbounded, is refused here with the
path of the field: a CRD that cannot be installed is never written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from llm_operator.api.base import VALIDATIONS

MAX_DESCRIPTION = 200
"""Characters; the whole CRD has to fit in the annotation of a client-side apply (262,144 bytes)."""

Schema = dict[str, Any]

OPAQUE = "x-kubernetes-preserve-unknown-fields"
"""Keyword of an object whose content the schema does not say: a pod template's own schema is ten times this CRD."""

_IGNORED = {"title", "examples", "discriminator", "description", "type", "default"}
_LIST_KEYWORDS = {"x-kubernetes-list-type", "x-kubernetes-list-map-keys"}
_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties", "patternProperties", "propertyNames"}
    | {"minProperties", "maxProperties", VALIDATIONS, OPAQUE},
    "array": {"items", "minItems", "maxItems", VALIDATIONS} | _LIST_KEYWORDS,
    "string": {"minLength", "maxLength", "pattern", "format", "enum", VALIDATIONS},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", VALIDATIONS},
    "boolean": {VALIDATIONS},
}
_INT32 = (-(2**31), 2**31 - 1)
_INT64 = (-(2**53), 2**53)


class SchemaError(Exception):
    """A field of a pydantic model that has no bounded structural schema; the message names it."""


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a model: no references, a type on every node, every size bounded.

    Raises:
        SchemaError: a field uses what a structural schema cannot say, or lacks a bound, a description or a list type.
    """
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _node(schema, schema.get("$defs", {}), model.__name__)


def _node(schema: Schema, definitions: dict[str, Schema], path: str) -> Schema:
    flat = _flatten(schema, definitions, path)
    flat.pop("$defs", None)
    if "const" in flat:
        flat["enum"] = [flat.pop("const")]
    kind = flat.get("type")
    if kind not in _KEYWORDS:
        raise SchemaError(f"{path}: type {kind!r} has no structural schema; expected one of {sorted(_KEYWORDS)}")
    unknown = flat.keys() - _KEYWORDS[kind] - _IGNORED
    if unknown:
        raise SchemaError(f"{path}: {sorted(unknown)} cannot be said in a structural schema of type {kind}")
    node: Schema = {"type": kind}
    if "description" in flat:
        node["description"] = _description(flat["description"], path)
    if flat.get("default") is not None:
        node["default"] = flat["default"]
    node |= _BUILDERS[kind](flat, definitions, path)
    if flat.get(VALIDATIONS):
        node[VALIDATIONS] = node.pop(VALIDATIONS, []) + flat[VALIDATIONS]
    return node


def _flatten(schema: Schema, definitions: dict[str, Schema], path: str) -> Schema:
    """The schema without $ref, allOf and the null of an optional field; what stands beside them wins."""
    flat = dict(schema)
    while True:
        if "$ref" in flat:
            target = definitions[flat.pop("$ref").removeprefix("#/$defs/")]
        elif "anyOf" in flat or "allOf" in flat:
            word = "anyOf" if "anyOf" in flat else "allOf"
            branches = [branch for branch in flat.pop(word) if branch.get("type") != "null"]
            if len(branches) != 1:
                raise SchemaError(f"{path}: {word} of {len(branches)} types; a structural schema has one")
            target = branches[0]
        else:
            return flat
        flat = {**target, **flat}


def _description(text: str, path: str) -> str:
    line = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    if len(line) > MAX_DESCRIPTION:
        raise SchemaError(f"{path}: description of {len(line)} characters; at most {MAX_DESCRIPTION}")
    return line


def _object(flat: Schema, definitions: dict[str, Schema], path: str) -> Schema:
    if flat.get(OPAQUE):
        if "maxProperties" not in flat:
            raise SchemaError(f"{path}: an opaque object without maxProperties")
        # What it declares is a structural schema already.
        declared = {"properties": flat["properties"]} if "properties" in flat else {}
        return {OPAQUE: True, "maxProperties": flat["maxProperties"], **declared}
    if "properties" not in flat:
        return _map(flat, definitions, path)
    properties = {}
    for name, part in flat["properties"].items():
        properties[name] = _node(part, definitions, f"{path}.{name}")
        if "description" not in properties[name]:
            raise SchemaError(f"{path}.{name}: no description; `kubectl explain` would be empty")
    required = {"required": flat["required"]} if flat.get("required") else {}
    return {"properties": properties, **required}


def _map(flat: Schema, definitions: dict[str, Schema], path: str) -> Schema:
    if "maxProperties" not in flat:
        raise SchemaError(f"{path}: a map without maxProperties")
    values, key_rule = _map_parts(flat, path)
    node = {"additionalProperties": _node(values, definitions, f"{path}[*]"), "maxProperties": flat["maxProperties"]}
    if "minProperties" in flat:
        node["minProperties"] = flat["minProperties"]
    return {**node, VALIDATIONS: [key_rule]}


def _map_parts(flat: Schema, path: str) -> tuple[Schema, dict[str, str]]:
    """The values' schema, and the rule for keys, because a structural schema has no words for keys."""
    names = flat.get("propertyNames", {})
    if "enum" in names:
        listed = ", ".join(names["enum"])
        quoted = ", ".join(_cel_string(name) for name in names["enum"])
        return flat["additionalProperties"], {
            "rule": f"self.all(key, key in [{quoted}])",
            "message": f"every key must be one of {listed}",
        }
    if len(flat.get("patternProperties", {})) != 1 or "maxLength" not in names:
        raise SchemaError(f"{path}: the keys of a map need a pattern and a greatest length, or an enumeration")
    ((pattern, values),) = flat["patternProperties"].items()
    low, high = names.get("minLength", 0), names["maxLength"]
    return values, {
        "rule": f"self.all(key, {low} <= size(key) && size(key) <= {high} && key.matches({_cel_string(pattern)}))",
        "message": f"every key must have {low} to {high} characters and match {pattern}",
    }


def _cel_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _array(flat: Schema, definitions: dict[str, Schema], path: str) -> Schema:
    missing = {"maxItems", "x-kubernetes-list-type"} - flat.keys()
    if missing:
        raise SchemaError(f"{path}: a list without {sorted(missing)}")
    kept = {word: flat[word] for word in ("minItems", "maxItems", *sorted(_LIST_KEYWORDS)) if word in flat}
    return {"items": _node(flat["items"], definitions, f"{path}[]"), **kept}


def _string(flat: Schema, _definitions: dict[str, Schema], path: str) -> Schema:
    if "enum" in flat:
        return {"enum": flat["enum"]}
    if "maxLength" not in flat:
        raise SchemaError(f"{path}: a string without maxLength")
    return {word: flat[word] for word in ("minLength", "maxLength", "pattern", "format") if word in flat}


def _integer(flat: Schema, _definitions: dict[str, Schema], path: str) -> Schema:
    low, exclusive_low = _bound(flat, "minimum", "exclusiveMinimum", path)
    high, exclusive_high = _bound(flat, "maximum", "exclusiveMaximum", path)
    if low < _INT64[0] or high > _INT64[1]:
        raise SchemaError(f"{path}: bounds {low} to {high} leave the integers that every JSON reader keeps (2^53)")
    fits = _INT32[0] <= low and high <= _INT32[1]
    return {
        "format": "int32" if fits else "int64",
        "minimum": low,
        "maximum": high,
        **({"exclusiveMinimum": True} if exclusive_low else {}),
        **({"exclusiveMaximum": True} if exclusive_high else {}),
    }


def _bound(flat: Schema, word: str, exclusive: str, path: str) -> tuple[int, bool]:
    if word in flat:
        return int(flat[word]), False
    if exclusive in flat:
        return int(flat[exclusive]), True
    raise SchemaError(f"{path}: an integer without {word}")


def _boolean(_flat: Schema, _definitions: dict[str, Schema], _path: str) -> Schema:
    return {}


_BUILDERS: dict[str, Callable[[Schema, dict[str, Schema], str], Schema]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "boolean": _boolean,
}
