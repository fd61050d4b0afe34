"""Where a live object says something else than what was applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llm_operator.api.quantity import parse_quantity

# Where the API server rewrites what it was given: it stores quantities in their canonical form.
_QUANTITY_PARENTS = frozenset({"requests", "limits"})
# Maps that the API server merges as a whole: one more label in a selector selects nothing.
_EXACT = frozenset({"selector", "matchLabels", "nodeSelector"})
_QUANTITY_FIELDS = frozenset({"sizeLimit"})
_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "resourceClaims": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ownerReferences": ("uid",),
}
"""Lists that server-side apply merges by entry (Kubernetes 1.36, x-kubernetes-list-map-keys of each field)."""


def covers(live: object, desired: object, *, quantity: bool = False) -> bool:
    """Whether `live` holds everything that `desired` says; what the API server or others added is ignored.

    So are entries that others added to a list which is merged by entry: an apply could not remove them
    (reconcile/managed_fields.py finds them). Other lists must be equal: an argument that somebody appended is drift.
    """
    if live == desired:
        return True  # most of it is, and to compare it as a whole is many times faster
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(
            _covers_entry(live, key, value, quantity) for key, value in desired.items()
        )
    if isinstance(desired, list):
        return (
            isinstance(live, list)
            and len(live) == len(desired)
            and all(covers(one, other) for one, other in zip(live, desired, strict=True))
        )
    return quantity and _same_quantity(live, desired)


def differences(live: object, desired: object, path: str = "") -> Iterator[str]:
    """Paths of what `desired` says and `live` does not, such as spec.template.spec.containers[name=engine].image."""
    if not isinstance(desired, dict) or not isinstance(live, dict):
        if not covers(live, desired):
            yield path
        return
    for key, value in desired.items():
        if _covers_entry(live, key, value, quantity=False):
            continue
        here, there = f"{path}.{key}" if path else key, live.get(key)
        keys = keys_of(key, value)
        if keys and isinstance(there, list):
            yield from _of_entries(there, value, keys, here)
        elif isinstance(value, dict) and isinstance(there, dict) and key not in (*_EXACT, *_QUANTITY_PARENTS):
            yield from differences(there, value, here)
        else:
            yield here


def _covers_entry(live: Mapping[str, object], key: str, desired: object, quantity: bool) -> bool:
    if key not in live:
        # The API server leaves out what is empty: an environment variable's "" is stored as no value at all.
        return desired is None or desired is False or desired in ("", [], {})
    value = live[key]
    if key in _EXACT:
        return value == desired
    if isinstance(desired, list) and isinstance(value, list) and (keys := keys_of(key, desired)):
        there = _by_identity(value, keys)
        return all(covers(there.get(_identity(entry, keys)), entry) for entry in desired)
    return covers(value, desired, quantity=quantity or key in _QUANTITY_FIELDS or key in _QUANTITY_PARENTS)


def is_one_value(field: str) -> bool:
    """Whether the API server merges a map of this name as a whole."""
    return field in _EXACT


def places_of(entries: Sequence[object], keys: tuple[str, ...]) -> dict[tuple[str, ...], int]:
    """Where a list has the first entry of each identity."""
    return {_identity(entry, keys): place for place, entry in reversed(list(enumerate(entries)))}


def identity_of(entry: object, keys: tuple[str, ...]) -> tuple[str, ...]:
    """By what an entry of a list is distinguished."""
    return _identity(entry, keys)


def keys_of(field: str, entries: object) -> tuple[str, ...]:
    """The fields by which the entries of a list are distinguished; empty if the list is one value."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return ()
    if field == "ports":
        # Of a container, and of a Service; those of a NetworkPolicy are one value.
        if all("containerPort" in entry for entry in entries):
            return ("containerPort", "protocol")
        return ("port", "protocol") if all("targetPort" in entry for entry in entries) else ()
    return _KEYS.get(field, ())


def _by_identity(entries: list[object], keys: tuple[str, ...]) -> dict[tuple[str, ...], object]:
    return {_identity(entry, keys): entry for entry in reversed(entries)}


def _identity(entry: object, keys: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(entry, dict):
        return ()
    return tuple(str(entry.get(key, "TCP" if key == "protocol" else "")) for key in keys)


def _of_entries(live: list[object], desired: list[object], keys: tuple[str, ...], path: str) -> Iterator[str]:
    there = _by_identity(live, keys)
    for entry in desired:
        identity = _identity(entry, keys)
        shown = f"{path}[{', '.join(f'{key}={value}' for key, value in zip(keys, identity, strict=True))}]"
        if identity in there:
            yield from differences(there[identity], entry, shown)
        else:
            yield shown


def _same_quantity(one: object, other: object) -> bool:
    if not isinstance(one, str) or not isinstance(other, str):
        return False
    try:
        return parse_quantity(one) == parse_quantity(other)
    except ValueError:
        return False
