"""The fields of a pod template from the API server's OpenAPI document, and what is wrong with a value."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

DIRECTIVE = "$patch"
REPLACE = "replace"
_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "scalar": (str, int, float),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a type.

    Attributes:
        kind: a type of the table, or `string`, `integer`, `number`, `boolean`, `scalar`, `any`: of the value, or of
            each entry of a list or map.
        shape: `one`, `list` or `map`.
        merge: key that identifies the entries of a list; empty for plain entries; None: the list is replaced.
    """

    kind: str
    shape: str = "one"
    merge: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A field of the overlay that cannot be used; `path` is below the overlay, such as `.spec.volumes[0]`."""

    path: str
    message: str


@functools.cache
def types() -> Mapping[str, Mapping[str, Field]]:
    """Every type that a pod template reaches, by name."""
    text = resources.files("llm_operator.manifests.overlay").joinpath("pod_template.json").read_text()
    data = json.loads(text)  # noqa: TID251 - the package's own data
    return {name: {key: _field(entry) for key, entry in fields.items()} for name, fields in data["types"].items()}


def _field(entry: Mapping[str, str]) -> Field:
    for shape in ("list", "map"):
        if shape in entry:
            return Field(entry[shape], shape, entry.get("merge"))
    return Field(entry["is"])


ROOT = "PodTemplateSpec"


def problems(value: Mapping[str, Any], kind: str = ROOT, path: str = "") -> Iterator[Problem]:
    """Fields that no pod template has, and values of another kind than the field's."""
    fields = types()[kind]
    for name, entry in value.items():
        here = f"{path}.{name}"
        if name == DIRECTIVE:
            if entry != REPLACE:
                yield Problem(here, f"the only directive is `{DIRECTIVE}: {REPLACE}`, got {_shown(entry)}")
            continue
        if name not in fields:
            yield Problem(here, _unknown(name, fields))
            continue
        yield from _of_field(entry, fields[name], here)


def _unknown(name: str, fields: Mapping[str, Field]) -> str:
    close = difflib.get_close_matches(name, fields, n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(fields)}"
    return f"a pod template has no such field: {hint}"


def _of_field(value: Any, field: Field, path: str) -> Iterator[Problem]:
    if field.shape == "list":
        if not isinstance(value, list):
            yield Problem(path, f"expected a list, got {_shown(value)}")
            return
        for place, entry in enumerate(value):
            yield from _of_kind(entry, field.kind, f"{path}[{place}]")
            if field.merge and isinstance(entry, dict) and entry.get(field.merge) is None:
                yield Problem(f"{path}[{place}]", f"{field.merge} is missing: it identifies the entry")
    elif field.shape == "map":
        if not isinstance(value, dict):
            yield Problem(path, f"expected a mapping, got {_shown(value)}")
            return
        for name, entry in value.items():
            yield from _of_kind(entry, field.kind, f"{path}[{name}]")
    else:
        yield from _of_kind(value, field.kind, path)


def _of_kind(value: Any, kind: str, path: str) -> Iterator[Problem]:
    if kind in types():
        if isinstance(value, dict):
            yield from problems(value, kind, path)
        else:
            yield Problem(path, f"expected a mapping, got {_shown(value)}")
    elif kind in _KINDS:
        is_truth = isinstance(value, bool)
        if is_truth != (kind == "boolean") or not isinstance(value, _KINDS[kind]):
            yield Problem(path, f"expected {_SPOKEN[kind]}, got {_shown(value)}")


_SPOKEN: Mapping[str, str] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "scalar": "text or a number",
}


def _shown(value: Any) -> str:
    return repr(value)[:60]
