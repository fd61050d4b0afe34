"""Strategic merge as Kubernetes defines it: maps by field, lists with a merge key by entry, other lists whole."""

from __future__ import annotations

from typing import Any

from llm_operator.manifests.common import JSON
from llm_operator.manifests.overlay.table import DIRECTIVE, ROOT, Field, types


def merge(base: JSON, patch: JSON, kind: str = ROOT) -> JSON:
    """The base with the patch merged in; neither is changed.

    The patch has passed `table.problems`. New entries of a list follow those that are there, as the API server does it.

    Args:
        base: an object of that kind.
        patch: what to merge in.
        kind: a type of the table.
    """
    if DIRECTIVE in patch:
        return {name: value for name, value in patch.items() if name != DIRECTIVE}
    result = dict(base)
    for name, value in patch.items():
        result[name] = _merged(result.get(name), value, types()[kind][name])
    return result


def _merged(base: Any, patch: Any, field: Field) -> Any:
    if field.shape == "map":
        return {**(base or {}), **patch}
    if field.shape == "list":
        return patch if field.merge is None else _lists(base or [], patch, field)
    return merge(base or {}, patch, field.kind) if field.kind in types() else patch


def _lists(base: list[Any], patch: list[Any], field: Field) -> list[Any]:
    """Entries with the key of one that is there are merged into it; two new ones with one key both stay."""
    if not field.merge:
        return [*base, *(entry for entry in patch if entry not in base)]
    result = list(base)
    for entry in patch:
        place = next((n for n, old in enumerate(base) if old.get(field.merge) == entry.get(field.merge)), None)
        if place is None:
            # Merging into nothing resolves directives inside the entry.
            result.append(merge({}, entry, field.kind))
        else:
            result[place] = merge(result[place], entry, field.kind)
    return result
