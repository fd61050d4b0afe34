"""The fields of a pod template and how they are merged, from the API server's own OpenAPI document.

`python -m devcluster.pod_schema` writes the table that `llm_operator.manifests.overlay` merges by. A test compares it
with what the pinned API server serves.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from devcluster.control_plane import ControlPlane

TARGET = Path(__file__).resolve().parents[1] / "operator/llm_operator/manifests/overlay/pod_template.json"
ROOT = "io.k8s.api.core.v1.PodTemplateSpec"
JSON = dict[str, Any]


def table(openapi: JSON) -> JSON:
    """Every type that a pod template reaches: its fields, their kinds, and what identifies the entries of each list.

    Args:
        openapi: the document under /openapi/v2.
    """
    definitions = openapi["definitions"]
    types: JSON = {}
    todo = [ROOT]
    while todo:
        name = todo.pop()
        short = _short(name)
        if short in types:
            continue
        fields: JSON = {}
        for field, schema in sorted(definitions[name].get("properties", {}).items()):
            fields[field], reached = _field(schema, definitions)
            todo += reached
        types[short] = fields
    return {"root": _short(ROOT), "types": dict(sorted(types.items()))}


def _field(schema: JSON, definitions: JSON) -> tuple[JSON, list[str]]:
    """One field as the table says it, and the definitions that it leads to."""
    kind, reached = _kind(schema, definitions)
    if schema.get("type") == "array":
        item, reached = _kind(schema["items"], definitions)
        field: JSON = {"list": item}
        if "merge" in schema.get("x-kubernetes-patch-strategy", "").split(","):
            field["merge"] = schema.get("x-kubernetes-patch-merge-key", "")
        if schema.get("x-kubernetes-list-type") == "map":
            field["keys"] = schema["x-kubernetes-list-map-keys"]
        return field, reached
    if "additionalProperties" in schema:
        item, reached = _kind(schema["additionalProperties"], definitions)
        return {"map": item}, reached
    return {"is": kind}, reached


def _kind(schema: JSON, definitions: JSON) -> tuple[str, list[str]]:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/definitions/")
        target = definitions[name]
        if "properties" in target:
            return _short(name), [name]
        # Quantities, times and numbers-or-names are written as one scalar.
        return ("scalar" if target.get("type") == "string" else "any"), []
    return {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}.get(
        schema.get("type", ""), "any"
    ), []


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def text(openapi: JSON) -> str:
    """The file's text: the same for the same document."""
    return json.dumps(table(openapi), indent=1, sort_keys=True) + "\n"


def main() -> int:
    """Start an API server, ask it, and write the file."""
    with tempfile.TemporaryDirectory() as folder, ControlPlane.start(Path(folder)) as plane:
        TARGET.write_text(text(plane.request("GET", "/openapi/v2")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
