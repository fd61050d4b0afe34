"""Does a live object still say what was applied?"""

from __future__ import annotations

from llm_operator.api.quantity import parse_quantity

# Where the API server rewrites what it was given: it stores quantities in their canonical form.
_QUANTITY_PARENTS = frozenset({"requests", "limits"})
# Maps that the API server merges as a whole: one more label in a selector selects nothing.
_EXACT = frozenset({"selector", "matchLabels", "nodeSelector"})
_QUANTITY_FIELDS = frozenset({"sizeLimit"})


def covers(live: object, desired: object, *, quantity: bool = False) -> bool:
    """Whether `live` holds everything that `desired` says; what the API server or others added is ignored.

    Lists must have the same length and cover each other item by item: a container, port or argument that somebody
    appended is drift. Labels, annotations and owner references are maps or merged lists and are compared by content.
    """
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
    if quantity and isinstance(live, str) and isinstance(desired, str):
        return _same_quantity(live, desired)
    return live == desired


def _covers_entry(live: dict[str, object], key: str, desired: object, quantity: bool) -> bool:
    if key not in live:
        # The API server leaves out what is empty: an environment variable's "" is stored as no value at all.
        return desired is None or desired is False or desired in ("", [], {})
    if key in _EXACT:
        return live[key] == desired
    return covers(live[key], desired, quantity=quantity or key in _QUANTITY_FIELDS or key in _QUANTITY_PARENTS)


def _same_quantity(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return parse_quantity(one) == parse_quantity(other)
    except ValueError:
        return False
