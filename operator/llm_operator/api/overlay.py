"""`spec.podTemplate` and its siblings: what a user adds to the pods, nearly opaque to the schema."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema, to_json

from llm_operator.api.base import ApiModel
from llm_operator.api.overlay_owned import OverlayChild, overlay_schema, taken
from llm_operator.foreign import values_in

MOST_DEPTH = 24
"""Levels of a pod template; its own types end at 12."""
MOST_BYTES = 32_768
"""Of the overlay as JSON: with the operator's part, the template has to fit in an annotation of the Deployment."""
MOST_VALUES = 4096
"""Of the overlay, with the names of fields: three bytes of JSON take up to seventy of the operator's memory."""
MOST_SPEC_BYTES = 524_288
"""Of the whole spec as JSON, which the operator keeps: 64 variables of 4,096 ASCII characters and three overlays."""
OVERLAYS = (("podTemplate",), ("tools", "podTemplate"), ("webUI", "podTemplate"))
"""Fields of the spec whose content the schema does not bound."""


def _shallow(value: Any, depth: int = 0) -> Any:
    if depth > MOST_DEPTH:
        raise PydanticCustomError("depth", "more than {depth} levels; a pod template has fewer", {"depth": MOST_DEPTH})
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for entry in entries:
        _shallow(entry, depth + 1)
    return value


def _bounded(value: dict[str, Any]) -> dict[str, Any]:
    problem = _excess(value, MOST_BYTES)
    if problem is not None:
        raise PydanticCustomError("size", "{problem}", {"problem": problem})
    return value


def _excess(value: object, most_bytes: int) -> str | None:
    """Why a value is too large; None if it is not."""
    size = _size(value, most_bytes)
    if size > most_bytes:
        return f"{size:,} bytes as JSON; at most {most_bytes:,}: put long texts into a ConfigMap and mount it"
    if values_in(value, MOST_VALUES + 1) > MOST_VALUES:
        return f"more than {MOST_VALUES:,} values and names of fields, or texts as long as these; a pod has fewer"
    return None


def _size(value: object, most: int) -> int:
    """Bytes of a value as JSON; of one that takes at most half of what it may, as compact JSON, which is faster."""
    with contextlib.suppress(ValueError):
        size = len(to_json(value))
        # A space after each comma and colon makes it less than twice as long.
        if 2 * size <= most:
            return size
    return len(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))


def too_large(spec: object) -> list[tuple[str, str]]:
    """(field, message) of each part of a spec, as the API server holds it, that is too large to be kept and served.

    Args:
        spec: JSON; what is not an object is judged elsewhere.
    """
    found = []
    for path in OVERLAYS:
        value = spec
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        problem = _excess(value, MOST_BYTES) if isinstance(value, dict) else None
        if problem is not None:
            found.append((".".join(("spec", *path)), problem))
    if found:
        return found
    size = _size(spec, MOST_SPEC_BYTES)
    return [("spec", f"{size:,} bytes as JSON; at most {MOST_SPEC_BYTES:,}")] if size > MOST_SPEC_BYTES else []


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
