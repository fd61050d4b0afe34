"""`spec.podTemplate` and `spec.tools`: what a user adds to the pods, opaque to the schema."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from llm_operator.api.base import ApiModel

MOST_DEPTH = 24
"""Levels of a pod template; its own types end at 12."""
MOST_BYTES = 32_768
"""Of the overlay as JSON: with the operator's part, the template has to fit in an annotation of the Deployment."""

_SCHEMA: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 2}


def without_nulls_inside(value: Any) -> Any:
    """Without null entries at any depth: the API server keeps them in what its schema does not say."""
    if isinstance(value, dict):
        return {key: without_nulls_inside(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [without_nulls_inside(entry) for entry in value if entry is not None]
    return value


def _shallow(value: Any, depth: int = 0) -> Any:
    if depth > MOST_DEPTH:
        raise PydanticCustomError("depth", "more than {depth} levels; a pod template has fewer", {"depth": MOST_DEPTH})
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for entry in entries:
        _shallow(entry, depth + 1)
    return value


def _bounded(value: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))
    if size > MOST_BYTES:
        message = "{size} bytes as JSON; at most {most}: put long texts into a ConfigMap and mount it"
        raise PydanticCustomError("size", message, {"size": f"{size:,}", "most": f"{MOST_BYTES:,}"})
    return value


PodTemplate = Annotated[
    dict[str, Any],
    Field(max_length=2),
    AfterValidator(_shallow),
    AfterValidator(_bounded),
    WithJsonSchema(_SCHEMA),
]
"""A pod template's metadata and spec; what is inside is judged by `manifests.overlay` and by the API server."""


class ToolsSpec(ApiModel):
    """The Jobs that fetch, inspect, quantize and convert models."""

    pod_template: PodTemplate | None = Field(
        default=None, description="Merged into the pods of the Jobs as a strategic merge patch. See docs/pods.md."
    )
