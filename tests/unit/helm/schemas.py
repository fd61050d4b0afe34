"""JSON schemas for kubeconform, made from the OpenAPI document inside the module k8s.io/kubernetes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

JSON = dict[str, Any]

# The patterns that kubeconform fills in for an object's kind and apiVersion.
LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
_GVK = "x-kubernetes-group-version-kind"
_PREFIX = "#/definitions/"
_INT_OR_STRING = {"type": ["string", "integer"]}
# In the document these are a bare "string"; the API server reads numbers too.
_LENIENT = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": _INT_OR_STRING,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def write_schemas(swagger: Path, directory: Path, kinds: Mapping[tuple[str, str], str]) -> None:
    """Write one strict, self-contained schema per kind into `directory`, named as LOCATION says.

    Args:
        swagger: `api/openapi-spec/swagger.json` of the module.
        directory: where to write.
        kinds: {(apiVersion, kind): file name without .json} of what is needed.

    Raises:
        KeyError: the document does not know one of the kinds.
    """
    definitions: dict[str, JSON] = json.loads(swagger.read_text(encoding="utf-8"))["definitions"]
    names = {_key(gvk): name for name, body in definitions.items() for gvk in body.get(_GVK, ())}
    for key, file_name in kinds.items():
        root = names[key]
        closure = {name: _strict(name, definitions[name]) for name in sorted(_reachable(root, definitions))}
        api_version, kind = key
        closure[root]["properties"] |= {"apiVersion": {"const": api_version}, "kind": {"const": kind}}
        schema = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": closure, "$ref": _PREFIX + root}
        (directory / f"{file_name}.json").write_text(json.dumps(schema), encoding="utf-8")


def _key(gvk: Mapping[str, str]) -> tuple[str, str]:
    return "/".join(part for part in (gvk["group"], gvk["version"]) if part), gvk["kind"]


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            yield reference.removeprefix(_PREFIX)
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _reachable(root: str, definitions: Mapping[str, JSON]) -> set[str]:
    seen: set[str] = set()
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _references(definitions[name])
    return seen


def _strict(name: str, body: JSON) -> JSON:
    """The definition, refusing fields it does not name."""
    if name in _LENIENT:
        return dict(_LENIENT[name])
    if "properties" in body:
        return {**body, "properties": dict(body["properties"]), "additionalProperties": False}
    return dict(body)
