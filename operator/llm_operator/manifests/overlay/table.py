"""The fields of a pod template from the API server's OpenAPI document, and what is wrong with a value."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from llm_operator.problems import Problem, wrong_field

DIRECTIVE = "$patch"
REPLACE = "replace"
DELETE = "delete"
RETAIN = "$retainKeys"
ORDER = "$setElementOrder/"
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
        keys: of these no two entries of a list may have all the same values: no apply takes such a list
            (kube-apiserver 1.36 answers it with 500). Empty: there is no such rule.
    """

    kind: str
    shape: str = "one"
    merge: str | None = None
    keys: tuple[str, ...] = ()


@functools.cache
def types() -> Mapping[str, Mapping[str, Field]]:
    """Every type that a pod template reaches, by name."""
    text = resources.files("llm_operator.manifests.overlay").joinpath("pod_template.json").read_text()
    data = json.loads(text)  # noqa: TID251 - the package's own data
    return {name: {key: _field(entry) for key, entry in fields.items()} for name, fields in data["types"].items()}


def _field(entry: Mapping[str, Any]) -> Field:
    for shape in ("list", "map"):
        if shape in entry:
            return Field(entry[shape], shape, entry.get("merge"), tuple(entry.get("keys", ())))
    return Field(entry["is"])


ROOT = "PodTemplateSpec"


def is_directive(name: str) -> bool:
    """Whether a key says how to merge: no field's name begins like that."""
    return name.startswith("$")


def field_of(kind: str, name: str) -> Field:
    """A field of a type; of what is not in the table, such as a map's entry, one of any kind."""
    return types().get(kind, {}).get(name, Field("any"))


def malformed(path: str, message: str) -> Problem:
    """A field of an overlay that no pod template has; `path` is below the overlay, such as `.spec.volumes[0]`."""
    return wrong_field("InvalidPodTemplate", path, message)


def pod_fields(path: Sequence[str]) -> Mapping[str, str]:
    """The fields of a pod template at a path of field names, each with its kind; empty where there are none."""
    kind = ROOT
    for name in path:
        field = field_of(kind, name)
        kind = field.kind if field.shape != "map" else ""
    shown = {"list": "list", "map": "mapping"}
    return {name: shown.get(one.shape, _SPOKEN.get(one.kind, "object")) for name, one in types().get(kind, {}).items()}


def problems(value: Mapping[str, Any], kind: str = ROOT, path: str = "") -> Iterator[Problem]:
    """Fields that no pod template has, values of another kind than the field's, and directives that say nothing.

    Null is of every kind: it deletes the field.
    """
    fields = types()[kind]
    for name, entry in value.items():
        here = f"{path}.{name}"
        if is_directive(name):
            yield from _of_directive(name, value, fields, here)
        elif name not in fields:
            yield malformed(here, _unknown(name, fields))
        elif entry is not None:
            yield from _of_field(entry, fields[name], here)


def _of_directive(name: str, value: Mapping[str, Any], fields: Mapping[str, Field], path: str) -> Iterator[Problem]:
    entry = value[name]
    if name == DIRECTIVE:
        if entry not in (REPLACE, DELETE):
            yield malformed(path, f"expected {REPLACE} or {DELETE}, got {_shown(entry)}")
    elif name == RETAIN:
        keys = entry if isinstance(entry, list) else None
        if keys is None or not all(isinstance(key, str) for key in keys):
            yield malformed(path, f"expected a list of field names, got {_shown(entry)}")
        else:
            missing = [key for key in value if not is_directive(key) and key not in keys]
            if missing:
                yield malformed(path, f"every field beside it must be in it; missing: {', '.join(missing)}")
    elif name.startswith(ORDER):
        yield from _of_order(value, name.removeprefix(ORDER), fields, path)
    else:
        known = f"{DIRECTIVE}, {RETAIN} and {ORDER}<list>"
        yield malformed(path, f"no such directive, or none that a pod template has a use for; known: {known}")


def _of_order(value: Mapping[str, Any], name: str, fields: Mapping[str, Field], path: str) -> Iterator[Problem]:
    field, order = fields.get(name), value[ORDER + name]
    if field is None or not field.merge:
        yield malformed(path, f"{name} is not a list whose entries are merged by a key")
        return
    if not isinstance(order, list) or not all(isinstance(entry, dict) and field.merge in entry for entry in order):
        yield malformed(path, f"expected a list of mappings with {field.merge}, got {_shown(order)}")
        return
    wanted = [entry[field.merge] for entry in order]
    entries = [entry for entry in value.get(name) or () if isinstance(entry, dict) and DIRECTIVE not in entry]
    given = [entry.get(field.merge) for entry in entries]
    if [key for key in wanted if key in given] != given:
        yield malformed(path, f"it must name every entry of {name} beside it, in the same order")


def _unknown(name: str, fields: Mapping[str, Field]) -> str:
    close = difflib.get_close_matches(name, fields, n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(fields)}"
    return f"a pod template has no such field: {hint}"


def _of_field(value: Any, field: Field, path: str) -> Iterator[Problem]:
    if field.shape == "list":
        if isinstance(value, list):
            yield from _of_list(value, field, path)
        else:
            yield malformed(path, f"expected a list, got {_shown(value)}")
    elif field.shape == "map":
        if isinstance(value, dict):
            yield from _of_map(value, field, path)
        else:
            yield malformed(path, f"expected a mapping, got {_shown(value)}")
    else:
        yield from _of_kind(value, field.kind, path)


def _of_list(value: list[Any], field: Field, path: str) -> Iterator[Problem]:
    for place, entry in enumerate(value):
        here = f"{path}[{place}]"
        yield from _of_kind(entry, field.kind, here)
        if not isinstance(entry, dict):
            continue
        if field.merge is None and DIRECTIVE in entry:
            yield malformed(f"{here}.{DIRECTIVE}", "this list has no merge key: it is replaced as a whole")
        elif field.merge and entry.get(field.merge) is None and entry.get(DIRECTIVE) != REPLACE:
            yield malformed(here, f"{field.merge} is missing: it identifies the entry")
    if field.keys:
        yield from _twice(value, field.keys, path)


def _of_map(value: Mapping[str, Any], field: Field, path: str) -> Iterator[Problem]:
    for name, entry in value.items():
        if is_directive(name):
            yield from _of_directive(name, value, {}, f"{path}.{name}")
        elif entry is not None:
            yield from _of_kind(entry, field.kind, f"{path}[{name}]")


_DEFAULTS = {"protocol": "TCP"}
"""Of keys that an entry need not have."""


def _twice(entries: list[Any], keys: Sequence[str], path: str) -> Iterator[Problem]:
    seen = set()
    for place, entry in enumerate(entries):
        values = [entry.get(key, _DEFAULTS.get(key)) if isinstance(entry, dict) else None for key in keys]
        if any(not isinstance(value, str | int) for value in values):
            continue
        identity = tuple(values)
        if identity in seen:
            where = f"{path}[{place}].{keys[0]}"
            beside = [f"{key} {_shown(value)}" for key, value in zip(keys[1:], values[1:], strict=True)]
            shown = " with ".join([_shown(values[0]), *beside])
            yield malformed(where, f"{shown} is there twice: merge the two, or give one of them another {keys[0]}")
        seen.add(identity)


def _of_kind(value: Any, kind: str, path: str) -> Iterator[Problem]:
    if kind in types():
        if isinstance(value, dict):
            yield from problems(value, kind, path)
        else:
            yield malformed(path, f"expected a mapping, got {_shown(value)}")
    elif kind in _KINDS:
        is_truth = isinstance(value, bool)
        if is_truth != (kind == "boolean") or not isinstance(value, _KINDS[kind]):
            yield malformed(path, f"expected {_SPOKEN[kind]}, got {_shown(value)}")


_SPOKEN: Mapping[str, str] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "scalar": "text or a number",
}


def _shown(value: Any) -> str:
    return repr(value)[:60]
