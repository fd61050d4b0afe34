"""One write that undoes what others did to a child: what they added goes, what they changed is set. Pure.

An apply keeps what others added until a second write removes it. In between, the API server may refuse the mixture: a
volume with two sources, or a pod that a policy of the cluster forbids. So both go into one JSON patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_operator.live.managed_fields import at_revision, foreign_places
from llm_operator.reconcile.covers import identity_of, is_one_value, keys_of, places_of

JSON = dict[str, Any]


def mend(live: Mapping[str, Any], desired: Mapping[str, Any]) -> list[JSON]:
    """JSON patch after which nothing of the spec is somebody else's and everything is as desired; empty if nothing is.

    It is refused with 409 if the object has changed since it was read.

    Args:
        live: an object as the API server returned it.
        desired: what the operator would apply.
    """
    # All of them: one that is left is enough to have the write refused.
    places = foreign_places(live)
    if not places or "spec" not in desired:
        return []
    gone: JSON = {}
    for _, *steps in places:
        _mark(gone, steps)
    spec = merged(_without(live["spec"], gone), desired["spec"])
    return [*at_revision(live), *belonging(live, desired), {"op": "replace", "path": "/spec", "value": spec}]


def _mark(gone: dict[Any, Any], steps: list[str | int]) -> None:
    """Add a place to the tree of those that go; what is below one that goes needs no place."""
    for step in steps[:-1]:
        inside = gone.setdefault(step, {})
        if inside is None:
            return
        gone = inside
    gone[steps[-1]] = None


def _without(value: Any, gone: Mapping[Any, Any]) -> Any:
    """A copy of the branches that change."""
    if isinstance(value, list):
        return [
            one if place not in gone else _without(one, gone[place])
            for place, one in enumerate(value)
            if place not in gone or gone[place] is not None
        ]
    return {
        name: one if name not in gone else _without(one, gone[name])
        for name, one in value.items()
        if name not in gone or gone[name] is not None
    }


def belonging(live: Mapping[str, Any], desired: Mapping[str, Any]) -> list[JSON]:
    """JSON patch operations that restore labels and owners; none if they are there."""
    found = []
    for field in ("labels", "ownerReferences"):
        wanted = desired["metadata"].get(field)
        there = live["metadata"].get(field)
        whole = merged(there, wanted, field) if wanted else there
        if whole != there:
            found.append({"op": "add", "path": f"/metadata/{field}", "value": whole})
    return found


def merged(live: Any, desired: Any, field: str = "") -> Any:
    """What server-side apply makes of both: entries of maps, and of lists that have keys, are merged."""
    if isinstance(live, dict) and isinstance(desired, dict) and not is_one_value(field):
        return {**live, **{key: merged(live.get(key), value, key) for key, value in desired.items()}}
    keys = keys_of(field, desired)
    if not isinstance(live, list) or not keys:
        return desired
    entries, places = list(live), places_of(live, keys)
    for entry in desired:
        place = places.get(identity_of(entry, keys))
        if place is None:
            entries.append(entry)
        else:
            entries[place] = merged(entries[place], entry)
    return entries
