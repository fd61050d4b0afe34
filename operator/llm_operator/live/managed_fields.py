"""Who set which field of a child, as the API server records it (metadata.managedFields, FieldsV1). Pure.

Server-side apply never removes what another manager added: a container, a variable, a port. These are found by their
owner, so that an item without an owner, which an admission webhook adds, is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_operator.foreign import UnreadableError, read_json
from llm_operator.manifests.common import MANAGER

JSON = dict[str, Any]

Pointer = tuple[str | int, ...]

PREFIX = "f:llm-operator.dev/"

MOST_FIELDS = 20
"""Fields of others that are kept of one child; the rest is found once these are gone."""

PATH_CHARACTERS = 300

MANAGER_CHARACTERS = 128
"""Longest name of a manager that the API server takes."""

MOST_STEPS = 60
"""Deepest path that is followed; a pod template has fewer than 20 steps."""


@dataclass(frozen=True, slots=True)
class ForeignField:
    """A field of a child's spec that another manager set and the operator did not.

    Attributes:
        manager: its name, such as kubectl-edit.
        path: for people, such as spec.template.spec.containers[name=engine].env[name=X].
        pointer: keys and indices in the object it was found in.
    """

    manager: str
    path: str
    pointer: Pointer = field(compare=False)


def foreign_fields(live: Mapping[str, Any], most: int = MOST_FIELDS) -> tuple[ForeignField, ...]:
    """The fields of the spec that others set, the outermost of each; those of which everybody may have their own not.

    A paused rollout, and labels and annotations of the pod template, such as those of `kubectl rollout restart`, are
    everybody's.

    Args:
        live: an object as the API server returned it.
        most: how many at most.
    """
    entries = [entry for entry in live["metadata"].get("managedFields") or () if entry.get("subresource") != "status"]
    theirs = [entry for entry in entries if entry.get("manager") != MANAGER and _spec_of(entry)]
    if not theirs:
        return ()
    ours = [_spec_of(entry) for entry in entries if entry.get("manager") == MANAGER]
    found: list[ForeignField] = []
    for entry in theirs:
        manager = str(entry.get("manager"))[:MANAGER_CHARACTERS]
        for steps in _outermost(_spec_of(entry), ours, ("f:spec",)):
            pointer = _resolved(live, steps)
            if pointer is not None and not _everybodys(steps):
                found.append(ForeignField(manager, _shown(steps), pointer))
            if len(found) >= most:
                return tuple(found)
    return tuple(found)


def removal(live: Mapping[str, Any], fields: Sequence[ForeignField]) -> list[JSON]:
    """JSON patch that removes the fields from the object they were found in, if no one has changed it since."""
    meta = live["metadata"]
    return [
        {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]},
        *({"op": "remove", "path": _json_pointer(one)} for one in outermost(fields)),
    ]


def outermost(fields: Sequence[ForeignField]) -> list[Pointer]:
    """The places to remove, from the end of each list, so that the places of the others stay what they are."""
    pointers = {field.pointer for field in fields}
    found = [one for one in pointers if not any(one[:size] in pointers for size in range(1, len(one)))]
    return sorted(found, key=_order, reverse=True)


def _spec_of(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = entry.get("fieldsV1") or {}
    spec = fields.get("f:spec") if isinstance(fields, dict) else None
    return spec if isinstance(spec, dict) else {}


def _outermost(
    theirs: Mapping[str, Any], ours: Sequence[Mapping[str, Any]], path: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    if len(path) > MOST_STEPS:
        return
    for step, inside in theirs.items():
        if step == ".":
            continue
        same = [part[step] for part in ours if step in part]
        if not same:
            yield (*path, step)
        elif isinstance(inside, dict):
            yield from _outermost(inside, [part for part in same if isinstance(part, dict)], (*path, step))


def _everybodys(steps: tuple[str, ...]) -> bool:
    if steps == ("f:spec", "f:paused"):
        return True
    if steps[:3] != ("f:spec", "f:template", "f:metadata"):
        return False
    return steps[3:4] not in (("f:labels",), ("f:annotations",)) or not any(step.startswith(PREFIX) for step in steps)


def _resolved(live: Mapping[str, Any], steps: tuple[str, ...]) -> Pointer | None:
    """Where a path leads in the object; None if it leads nowhere: what is gone may still be recorded."""
    value: Any = live
    pointer: list[str | int] = []
    for step in steps:
        place = _place(value, step)
        if place is None:
            return None
        value = value[place]
        pointer.append(place)
    return tuple(pointer)


def _place(value: Any, step: str) -> str | int | None:
    kind, _, name = step.partition(":")
    if kind == "f":
        return name if isinstance(value, dict) and name in value else None
    if not isinstance(value, list):
        return None
    try:
        wanted = read_json(name)
    except UnreadableError:
        return None
    if kind == "i":
        return wanted if isinstance(wanted, int) and 0 <= wanted < len(value) else None
    if kind == "k" and isinstance(wanted, dict):
        return next((n for n, one in enumerate(value) if _has(one, wanted)), None)
    return value.index(wanted) if kind == "v" and wanted in value else None


def _has(entry: Any, keys: Mapping[str, Any]) -> bool:
    return isinstance(entry, dict) and all(entry.get(name) == value for name, value in keys.items())


def _shown(steps: tuple[str, ...]) -> str:
    text = ""
    for step in steps:
        kind, _, name = step.partition(":")
        if kind == "f":
            text += f".{name}" if "." not in name and "/" not in name else f"[{name}]"
        else:
            text += f"[{_keys(name) if kind == 'k' else name}]"
    text = text.lstrip(".")
    return text if len(text) <= PATH_CHARACTERS else f"{text[:PATH_CHARACTERS]}..."


def _keys(name: str) -> str:
    try:
        keys = read_json(name)
    except UnreadableError:
        return name
    return ", ".join(f"{key}={value}" for key, value in keys.items()) if isinstance(keys, dict) else name


def _json_pointer(pointer: Pointer) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in pointer)


def _order(pointer: Pointer) -> tuple[tuple[int, str], ...]:
    return tuple((part, "") if isinstance(part, int) else (0, part) for part in pointer)
