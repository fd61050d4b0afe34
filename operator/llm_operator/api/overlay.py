"""`spec.podTemplate` and its siblings: what a user adds to the pods, nearly opaque to the schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from llm_operator.api.base import ApiModel
from llm_operator.api.overlay_owned import OverlayChild, overlay_schema, taken

MOST_DEPTH = 24
"""Levels of a pod template; its own types end at 12."""
MOST_BYTES = 32_768
"""Of the overlay as JSON: with the operator's part, the template has to fit in an annotation of the Deployment."""


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


@dataclass(frozen=True, slots=True)
class Admitted:
    """Metadata of an overlay: judged as its schema and the CEL rules in it judge it.

    Attributes:
        child: whose pods it is for.
    """

    child: OverlayChild

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Checked after its bounds."""
        return core_schema.no_info_after_validator_function(self._taken, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of a few declared fields."""
        return overlay_schema(self.child)

    def _taken(self, value: dict[str, Any]) -> dict[str, Any]:
        kept, problems = taken(value, self.child)
        if problems:
            lines = [
                InitErrorDetails(
                    type=PydanticCustomError("overlay", "{message}", {"message": problem.message}),
                    loc=problem.path,
                    input=None,
                )
                for problem in problems
            ]
            raise ValidationError.from_exception_data("podTemplate", lines)
        return kept


_Overlay = Annotated[dict[str, Any], Field(max_length=2), AfterValidator(_shallow), AfterValidator(_bounded)]
EnginePodTemplate = Annotated[_Overlay, Admitted("engine")]
"""A pod template's metadata and spec; the rest of it is judged by `manifests.overlay` and by the API server."""
ToolsPodTemplate = Annotated[_Overlay, Admitted("tool")]
ChatPodTemplate = Annotated[_Overlay, Admitted("chat")]


class ToolsSpec(ApiModel):
    """The Jobs that fetch, inspect, quantize and convert models."""

    pod_template: ToolsPodTemplate | None = Field(
        default=None, description="Merged into the pods of the Jobs as a strategic merge patch. See docs/pods.md."
    )
