"""What the API server says of a merged template, in the words of the overlay that the user wrote."""

from __future__ import annotations

import re
from typing import Any

from llm_operator.foreign import natural_number
from llm_operator.manifests.common import JSON
from llm_operator.manifests.overlay.table import ROOT, Field, types

_PATH = re.compile(r"\bspec(\.template\.spec|\.template\.metadata)?((?:\.[A-Za-z]+|\[[^\]]*\])+)")
_OF_METADATA = (".template.labels", ".template.annotations")
"""What kube-apiserver 1.36 calls the labels and annotations of a Deployment's template."""
_STEP = re.compile(r"\.([A-Za-z]+)|\[([^\]]*)\]")


def in_words_of_overlay(message: str, field: str, overlay: JSON, template: JSON, *, of_pod: bool = False) -> str:
    """The message with each path of the template that the overlay has said as the overlay's path.

    Args:
        message: the API server's.
        field: JSON path of the overlay in the object, such as `spec.podTemplate`.
        overlay: what the user gave.
        template: the merged template that was refused.
        of_pod: the message is about a Pod, whose paths begin without `.template`.
    """

    def said(match: re.Match[str]) -> str:
        part = match[1]
        if match[2] in _OF_METADATA:
            return f"{field}.metadata{match[2].removeprefix('.template')}"
        if part is None and not of_pod:
            return match[0]
        begin = ".metadata" if part == ".template.metadata" else ".spec"
        found = _translated(begin + match[2], overlay, template)
        return match[0] if found is None else field + found

    return _PATH.sub(said, message)


def _translated(path: str, overlay: JSON, template: JSON) -> str | None:
    """The path in the overlay as far as the overlay says it; None if it does not even say the first field of it."""
    theirs: Any = overlay
    whole: Any = template
    kind, field = ROOT, Field(ROOT)
    result = ""
    for step in _STEP.finditer(path):
        name, place = step[1], step[2]
        if name is not None:
            if not isinstance(theirs, dict) or name not in theirs:
                # What is missing: the path continues from what the overlay contains.
                return f"{result}{path[step.start() :]}" if result.count(".") > 1 else None
            field = types().get(kind, {}).get(name, Field("any"))
            theirs, whole, kind = theirs[name], (whole or {}).get(name), field.kind
            result += f".{name}"
        elif field.shape == "list" and (number := natural_number(place)) is not None:
            position = _position(number, field, theirs, whole)
            if position is None:
                # The operator's own entry: the overlay's cannot be identified.
                return None
            theirs, whole = theirs[position], whole[number]
            result += f"[{position}]"
        else:
            result += step[0]
    return result if result.count(".") > 1 else None


def _position(place: int, field: Field, theirs: Any, whole: Any) -> int | None:
    if not isinstance(theirs, list) or not isinstance(whole, list) or place >= len(whole):
        return None
    if field.merge is None:
        return place if place < len(theirs) else None
    wanted = whole[place].get(field.merge) if field.merge else whole[place]
    given = [entry.get(field.merge) if field.merge else entry for entry in theirs]
    # Of several with one key, the last: the earlier one is not what the API server complains about.
    return max((n for n, value in enumerate(given) if value == wanted), default=None)
