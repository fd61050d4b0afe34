"""Strategic merge as the API server does it (Kubernetes 1.36, apimachinery's pkg/util/strategicpatch).

Maps are merged by field, lists with a merge key by entry, other lists are replaced. Null deletes a field.
`$patch: delete` and `$patch: replace` act on a map or, in an entry, on its list; `$retainKeys` deletes the other
keys of a map; `$setElementOrder/<list>` says the order of a list.
"""

from __future__ import annotations

from typing import Any

from llm_operator.manifests.common import JSON
from llm_operator.manifests.overlay.table import (
    DELETE,
    DIRECTIVE,
    ORDER,
    REPLACE,
    RETAIN,
    ROOT,
    Field,
    field_of,
    is_directive,
)


def merge(base: JSON, patch: JSON, kind: str = ROOT) -> JSON:
    """The base with the patch merged in; neither is changed.

    The patch has passed `table.problems`. New entries of a list come before the others, as with the API server.

    Args:
        base: an object of that kind.
        patch: what to merge in.
        kind: a type of the table, or that of a map's values.
    """
    if DIRECTIVE in patch:
        return {} if patch[DIRECTIVE] == DELETE else _without_directives(patch)
    keys = patch.get(RETAIN)
    result = {name: value for name, value in base.items() if keys is None or name in keys}
    lists = {name.removeprefix(ORDER): order for name, order in patch.items() if name.startswith(ORDER)}
    for name in {name: None for name in (*patch, *lists) if not is_directive(name)}:
        field = field_of(kind, name)
        before = result.get(name)
        if name in patch and (patch[name] is None or (before is None and _deletes(patch[name]))):
            result.pop(name, None)
            continue
        if name in patch:
            result[name] = _merged(before, patch[name], field)
        if name in lists and isinstance(result.get(name), list):
            result[name] = _ordered(result[name], lists[name], before or [], field.merge or "")
    return result


def _merged(base: Any, patch: Any, field: Field) -> Any:
    if field.shape == "map":
        return merge(base or {}, patch, "")
    if field.shape == "list":
        if base is None or field.merge is None:
            return _without_directives(patch)
        return _lists(base, patch, field.merge, field.kind)
    if isinstance(patch, dict):
        return _without_directives(patch) if base is None else merge(base, patch, field.kind)
    return patch


def _lists(base: list[Any], patch: list[Any], key: str, kind: str) -> list[Any]:
    if not key:
        merged = [*base, *(entry for entry in patch if entry not in base)]
        return _ordered(merged, patch, base, key)
    gone = [entry[key] for entry in patch if entry.get(DIRECTIVE) == DELETE]
    base = [entry for entry in base if entry.get(key) not in gone]
    given = [entry for entry in patch if DIRECTIVE not in entry]
    if any(entry.get(DIRECTIVE) == REPLACE for entry in patch):
        only: list[Any] = _without_directives(given)
        return only
    result = list(base)
    for entry in given:
        place = next((n for n, old in enumerate(result) if old.get(key) == entry.get(key)), None)
        if place is None:
            result.append(_without_directives(entry))
        else:
            result[place] = merge(result[place], entry, kind)
    return _ordered(result, given, base, key)


def _ordered(merged: list[Any], first: list[Any], base: list[Any], key: str) -> list[Any]:
    """The entries that `first` names, in its order; others stay before those that they preceded in `base`."""
    wanted, was = _keys(first, key), _keys(base, key)
    ours = sorted((entry for entry in merged if _key(entry, key) in wanted), key=lambda e: wanted.index(_key(e, key)))
    others = [entry for entry in merged if _key(entry, key) not in wanted]
    result: list[Any] = []
    while ours and others:
        left, right = _key(others[0], key), _key(ours[0], key)
        is_before = right in was and left in was and was.index(left) < was.index(right)
        result.append(others.pop(0) if is_before else ours.pop(0))
    return [*result, *others, *ours]


def _keys(entries: list[Any], key: str) -> list[Any]:
    return [_key(entry, key) for entry in entries]


def _key(entry: Any, key: str) -> Any:
    return entry.get(key) if key else entry


def _without_directives(value: Any) -> Any:
    """What is new, or replaces what was there: there is nothing to merge it with.

    The API server drops a new map with `$patch: replace`. What the user wrote would be lost without a word: it is kept.
    """
    if isinstance(value, dict):
        return {
            name: _without_directives(entry)
            for name, entry in value.items()
            if not is_directive(name) and not _deletes(entry)
        }
    if isinstance(value, list):
        return [_without_directives(entry) for entry in value if not isinstance(entry, dict) or DIRECTIVE not in entry]
    return value


def _deletes(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and value.get(DIRECTIVE) == DELETE)
