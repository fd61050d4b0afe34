"""Who set which field of a child, as the API server records it (metadata.managedFields, FieldsV1). Pure.

Server-side apply never removes what another manager added: a container, a variable, a port. These are found by their
owner, so that an item without an owner, which an admission webhook adds, is left alone.
"""

from __future__ import annotations

import contextlib
import itertools
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

MOST_INDEXES = 3
"""Sets of keys by which entries of one list are looked up. The API server has one for each list; more are forged."""
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


def foreign_fields(live: Mapping[str, Any]) -> tuple[ForeignField, ...]:
    """The fields of the spec that others set, the outermost of each; those of which everybody may have their own not.

    A paused rollout, and labels and annotations of the pod template, such as those of `kubectl rollout restart`, are
    everybody's.

    Args:
        live: an object as the API server returned it.
    """
    return tuple(
        ForeignField(manager[:MANAGER_CHARACTERS], _shown(steps), pointer)
        for manager, steps, pointer in itertools.islice(_foreign(live), MOST_FIELDS)
    )


def foreign_places(live: Mapping[str, Any]) -> list[Pointer]:
    """Keys and indices of all those fields, however many, in the object."""
    return [pointer for _, _, pointer in _foreign(live)]


def removal(live: Mapping[str, Any], fields: Sequence[ForeignField]) -> list[JSON]:
    """JSON patch that removes the fields from the object they were found in, if no one has changed it since."""
    pointers = {field.pointer for field in fields}
    outermost = [one for one in pointers if not any(one[:size] in pointers for size in range(1, len(one)))]
    return [
        *at_revision(live),
        # From the end of each list, so that the places of the others stay what they are.
        *({"op": "remove", "path": _json_pointer(one)} for one in sorted(outermost, key=_order, reverse=True)),
    ]


def at_revision(live: Mapping[str, Any]) -> list[JSON]:
    """The beginning of a JSON patch of the object that was read: refused if it has changed since."""
    meta = live["metadata"]
    return [
        {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]},
    ]


def _foreign(live: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], Pointer]]:
    """Manager, path and place of each field. What is gone may still be recorded, and anyone may record anything."""
    entries = [entry for entry in live["metadata"].get("managedFields") or () if entry.get("subresource") != "status"]
    theirs = [entry for entry in entries if entry.get("manager") != MANAGER and _spec_of(entry)]
    if not theirs:
        return
    ours: JSON = {}
    for entry in entries:
        if entry.get("manager") == MANAGER:
            _unite(ours, _spec_of(entry))
    spec, places = live.get("spec"), _Places()
    for entry in theirs:
        for steps, pointer in _outermost(spec, _spec_of(entry), ours, ("f:spec",), ("spec",), places):
            if not _everybodys(steps):
                yield str(entry.get("manager")), steps, pointer


def _spec_of(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = entry.get("fieldsV1") or {}
    spec = fields.get("f:spec") if isinstance(fields, dict) else None
    return spec if isinstance(spec, dict) else {}


def _unite(one: JSON, other: Mapping[str, Any], depth: int = 0) -> None:
    """Add the fields of another set to one."""
    for step, inside in other.items():
        if depth < MOST_STEPS and isinstance(inside, dict):
            there = one.get(step)
            one[step] = there if isinstance(there, dict) else {}
            _unite(one[step], inside, depth + 1)
        else:
            one.setdefault(step, {})


def _outermost(
    value: Any,
    theirs: Mapping[str, Any],
    ours: Mapping[str, Any],
    steps: tuple[str, ...],
    pointer: Pointer,
    places: _Places,
) -> Iterator[tuple[tuple[str, ...], Pointer]]:
    if len(steps) > MOST_STEPS:
        return
    for step, inside in theirs.items():
        place = places.of(value, step)
        if place is None:
            continue
        here, there = (*steps, step), (*pointer, place)
        if step not in ours:
            yield here, there
        elif isinstance(inside, dict):
            yield from _outermost(value[place], inside, ours[step], here, there, places)


def _everybodys(steps: tuple[str, ...]) -> bool:
    if steps == ("f:spec", "f:paused"):
        return True
    if steps[:3] != ("f:spec", "f:template", "f:metadata"):
        return False
    return steps[3:4] not in (("f:labels",), ("f:annotations",)) or not any(step.startswith(PREFIX) for step in steps)


class _Places:
    """Where the steps of paths lead in one object. A list is gone through once for each kind of step, not for each."""

    def __init__(self) -> None:
        self._found: dict[int, dict[tuple[str, ...], dict[Any, int]]] = {}
        """By the list's id() and the names of the keys."""

    def of(self, value: Any, step: str) -> str | int | None:
        """Key or index of a step; None if it leads nowhere."""
        kind, _, name = step.partition(":")
        if kind == "f":
            return name if isinstance(value, dict) and name in value else None
        return self._in_list(value, kind, name) if isinstance(value, list) else None

    def _in_list(self, value: list[Any], kind: str, name: str) -> int | None:
        try:
            wanted = read_json(name)
        except UnreadableError:
            return None
        if kind == "i":
            return wanted if isinstance(wanted, int) and 0 <= wanted < len(value) else None
        if kind == "v":
            return self._looked_up(value, (), wanted)
        if kind != "k" or not isinstance(wanted, dict) or not wanted:
            return None
        names = tuple(sorted(wanted))
        return self._looked_up(value, names, tuple(wanted[one] for one in names))

    def _looked_up(self, value: list[Any], names: tuple[str, ...], key: Any) -> int | None:
        try:
            return self._index(value, names).get(key)
        except TypeError:  # a value without a hash identifies no entry
            return None

    def _index(self, value: list[Any], names: tuple[str, ...]) -> dict[Any, int]:
        """Places of the entries by the values of these fields; by themselves if there are no names."""
        indexes = self._found.setdefault(id(value), {})
        known = indexes.get(names)
        if known is None and len(indexes) < MOST_INDEXES:
            known = indexes[names] = {}
            for place, entry in enumerate(value):
                key = entry if not names else _values(entry, names)
                if key is not None:
                    with contextlib.suppress(TypeError):
                        known.setdefault(key, place)
        return known or {}


def _values(entry: Any, names: tuple[str, ...]) -> tuple[Any, ...] | None:
    if not isinstance(entry, dict) or not all(name in entry for name in names):
        return None
    return tuple(entry[name] for name in names)


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
