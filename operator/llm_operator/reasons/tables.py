"""The table of reasons as Markdown: the generated parts of docs/status.md. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby

from llm_operator.reasons import REASONS
from llm_operator.reasons.types import Area, Reason

_Column = tuple[str, Callable[[Reason], str]]
_MEANING: _Column = ("meaning", lambda reason: reason.meaning)
_REMEDY: _Column = ("what to do", lambda reason: reason.remedy)
_STALLS: _Column = ("stalls", lambda reason: reason.stalls)
_CONDITION: _Column = ("condition", lambda reason: ", ".join(f"`{one}`" for one in reason.conditions))
_COLUMNS: dict[Area, tuple[_Column, ...]] = {
    "Object": (_MEANING, _REMEDY, _STALLS),
    "Spec": (_MEANING, _REMEDY),
    "Engine": (_MEANING, _REMEDY),
    "Plan": (_MEANING, _REMEDY),
    "Stage": (_CONDITION, _MEANING, _REMEDY),
    "Job": (("stage", lambda reason: reason.stages), _MEANING, _REMEDY, ("again", lambda reason: reason.again)),
    "Availability": (_CONDITION, _MEANING, _REMEDY),
    "Page": (_MEANING, _REMEDY),
}
_PART = re.compile(r"(<!-- reasons: (\w+) -->\n).*?(<!-- end of reasons -->)", re.DOTALL)


def table(area: Area) -> str:
    """The Markdown table of one area; neighbours that say the same share a row."""
    columns = _COLUMNS[area]
    lines = [
        "| " + " | ".join(("reason", *(title for title, _ in columns))) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]

    def cells(reason: Reason) -> Sequence[str]:
        return tuple(value(reason).replace("|", "\\|") for _, value in columns)

    for said, reasons in groupby((one for one in REASONS if one.area == area), key=cells):
        names = ", ".join(f"`{reason.name}`" for reason in reasons)
        lines.append("| " + " | ".join((names, *said)).rstrip() + " |")
    return "\n".join(lines) + "\n"


def with_tables(page: str) -> str:
    """The page with every part between `<!-- reasons: AREA -->` and `<!-- end of reasons -->` written anew.

    Raises:
        KeyError: a part names no area.
    """
    areas = {str(area): area for area in _COLUMNS}
    return _PART.sub(lambda part: part[1] + table(areas[part[2]]) + part[3], page)
