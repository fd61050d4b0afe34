"""One write that undoes what others did to a child: what they added goes, what they changed is set. Pure.

An apply keeps what others added until a second write removes it. In between, the API server may refuse the mixture: a
volume with two sources, or a pod that a policy of the cluster forbids. So both go into one JSON patch.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from llm_operator.live.managed_fields import foreign_fields, outermost
from llm_operator.reconcile.covers import is_one_value, keys_of, place_of

JSON = dict[str, Any]
MOST_FIELDS = 100_000
"""More than an object that etcd takes can have: none may be left, as one is enough to have the write refused."""


def mend(live: Mapping[str, Any], desired: Mapping[str, Any]) -> list[JSON]:
    """JSON patch after which nothing of the spec is somebody else's and everything is as desired; empty if nothing is.

    It is refused with 422 if the object, or its spec, is another one by then.

    Args:
        live: an object as the API server returned it.
        desired: what the operator would apply.
    """
    fields = foreign_fields(live, MOST_FIELDS)
    if not fields or "spec" not in desired:
        return []
    mended: JSON = copy.deepcopy({"spec": live["spec"]})
    for pointer in outermost(fields):
        *parents, last = pointer
        place: Any = mended
        for step in parents:
            place = place[step]
        del place[last]
    spec = merged(mended.get("spec") or {}, desired["spec"])
    return [
        # Not the version: a controller that writes the status all the time is no reason to look again.
        {"op": "test", "path": "/metadata/uid", "value": live["metadata"]["uid"]},
        {"op": "test", "path": "/spec", "value": live["spec"]},
        *belonging(live, desired),
        {"op": "replace", "path": "/spec", "value": spec},
    ]


def belonging(live: Mapping[str, Any], desired: Mapping[str, Any]) -> list[JSON]:
    """JSON patch operations that bring back labels and owners; none if they are there."""
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
    entries = list(live)
    for entry in desired:
        place = place_of(entries, entry, keys)
        if place is None:
            entries.append(entry)
        else:
            entries[place] = merged(entries[place], entry)
    return entries
